// SPDX-License-Identifier: GPL-2.0

//! DIAGNOSE X'204': logical partitions.
//!
//! Linux's hypfs gives up without it, on z/VM too. Only subcode 4 exists here, the simple format: one partition, which
//! is this system, with the host's CPUs. Nobody measures what they do, so their times are zero.
//!
//! Rx holds the real address of a page, Ry the subcode and the register after it the number of pages. Ry receives the
//! return code, the register after it the number of pages used.

use std::time::Duration;

use zerocopy::byteorder::big_endian::{U16, U64};
use zerocopy::{Immutable, IntoBytes, Unaligned};

use super::{Diagnose, ProgramInterruption, Register};
use crate::ebcdic;

/// Store the information of all partitions, in the simple format.
const SUBCODE: u64 = 4;

/// The size of the buffer, in bytes.
const PAGE_SIZE: usize = 4096;

/// Seconds from the epoch of the TOD clock, 1900, to that of Unix, 1970.
const TOD_TO_UNIX: u64 = 2_208_988_800;

/// The decoded operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// The real address of the page.
    pub address: u64,
    /// The register that receives the return code.
    pub rc: Register,
    /// The register that receives the number of pages.
    pub pages: Register,
}

impl Query {
    /// Checks the operands; a specification exception for another subcode, no pages, or an address within a page.
    pub fn decode(diagnose: &Diagnose<'_>) -> Result<Self, ProgramInterruption> {
        let pages = diagnose.ry.next()?;
        let address = diagnose.x();
        if diagnose.y() == SUBCODE
            && diagnose.registers[pages.index()] >= 1
            && address.is_multiple_of(PAGE_SIZE as u64)
        {
            Ok(Self {
                address,
                rc: diagnose.ry,
                pages,
            })
        } else {
            Err(ProgramInterruption::Specification)
        }
    }
}

#[derive(IntoBytes, Immutable, Unaligned)]
#[repr(C)]
struct Header {
    partitions: u8,
    flags: u8,
    time_slice: U16,
    physical_cpus: U16,
    /// Offset of the partition that asks.
    this_partition: U16,
    tod: U64,
}

#[derive(IntoBytes, Immutable, Unaligned)]
#[repr(C)]
struct Partition {
    number: u8,
    cpus: u8,
    reserved: [u8; 6],
    name: [u8; 8],
}

#[derive(IntoBytes, Immutable, Unaligned)]
#[repr(C)]
struct Cpu {
    address: U16,
    reserved: [u8; 2],
    /// Index of the type: general purpose.
    kind: u8,
    flags: u8,
    weight: U16,
    time: U64,
    partition_time: U64,
}

/// Forms the page for a system of that name, at the time `since_epoch`, on a host with `cpus` CPUs.
#[must_use]
pub fn page(system: &str, cpus: usize, since_epoch: Duration) -> [u8; PAGE_SIZE] {
    let fit = (PAGE_SIZE - size_of::<Header>() - size_of::<Partition>()) / size_of::<Cpu>();
    let cpus = u8::try_from(cpus.clamp(1, fit)).unwrap_or(u8::MAX);
    let since_1900 = since_epoch.saturating_add(Duration::from_secs(TOD_TO_UNIX));
    // Bit 51 of the TOD clock is a microsecond.
    let tod = since_1900.as_micros() as u64 * 4096;
    let header = Header {
        partitions: 1,
        flags: 0,
        time_slice: U16::ZERO,
        physical_cpus: u16::from(cpus).into(),
        this_partition: (size_of::<Header>() as u16).into(),
        tod: tod.into(),
    };
    let partition = Partition {
        number: 1,
        cpus,
        reserved: [0; 6],
        name: ebcdic::padded(system),
    };
    let mut bytes = [header.as_bytes(), partition.as_bytes()].concat();
    for address in 0..cpus {
        let cpu = Cpu {
            address: u16::from(address).into(),
            reserved: [0; 2],
            kind: 0,
            flags: 0,
            weight: U16::ZERO,
            time: U64::ZERO,
            partition_time: U64::ZERO,
        };
        bytes.extend(cpu.as_bytes());
    }
    let mut page = [0; PAGE_SIZE];
    page[..bytes.len()].copy_from_slice(&bytes);
    page
}

#[cfg(test)]
mod tests {
    use super::super::testing::{diagnose, registers};
    use super::*;

    #[test]
    fn only_subcode_4_exists() {
        let registers = registers(&[
            (1, 0x1000),
            (2, 4),
            (3, 1),
            (4, 0x1_0005),
            (5, 0),
            (6, 4),
            (7, 0),
        ]);
        let query = Query::decode(&diagnose(1, 2, &registers)).unwrap();
        assert_eq!(
            (query.address, query.rc.index(), query.pages.index()),
            (0x1000, 2, 3)
        );
        for (rx, ry) in [(1, 4), (1, 6), (3, 2)] {
            let refused = Query::decode(&diagnose(rx, ry, &registers));
            assert_eq!(refused, Err(ProgramInterruption::Specification));
        }
    }

    #[test]
    fn the_page_is_as_hypfs_reads_it() {
        let page = page("COOPMEM", 2, Duration::ZERO);
        assert_eq!(page[..8], [1, 0, 0, 0, 0, 2, 0, 16]);
        // 1970 on the TOD clock, as in Linux's TOD_UNIX_EPOCH.
        assert_eq!(page[8..16], 0x7d91_048b_ca00_0000_u64.to_be_bytes());
        assert_eq!(page[16..18], [1, 2]);
        assert_eq!(ebcdic::to_string(&page[24..32]), "COOPMEM ");
        assert_eq!(page[32..34], [0, 0]);
        assert_eq!(page[56..58], [0, 1]);
        assert!(page[80..].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn many_cpus_fit() {
        let page = page("COOPMEM", 4096, Duration::ZERO);
        assert_eq!(usize::from(page[17]), (4096 - 32) / 24);
    }
}
