// SPDX-License-Identifier: GPL-2.0

//! DIAGNOSE X'2FC': what virtual machines use.
//!
//! Rx holds the address of a parameter list: whose records, and a buffer for them. Rx receives the length that is left
//! of the buffer, negative if it is too small; Ry the return code. Unlike for other codes the addresses are logical
//! ones, subject to address translation: Linux passes its stack and memory of vmalloc().
//!
//! The layouts are those of Linux's `arch/s390/hypfs/hypfs_vm.h`.

use zerocopy::byteorder::big_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{UserId, ebcdic};

/// The length of the parameter list, in bytes.
pub const PARAMETER_LENGTH: usize = size_of::<ParameterList>();

/// The records were stored.
pub const RC_OK: i64 = 0;
/// The buffer is too small: nothing was stored.
pub const RC_TOO_SMALL: i64 = -2;
/// The parameter list is none: another format, or names that cannot be. Negative, as Linux takes positive numbers for a length.
pub const RC_BAD_PARAMETER: i64 = -1;

/// The format of the records.
const FORMAT: u32 = 2;

#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct ParameterList {
    user_id: [u8; 8],
    group: [u8; 8],
    address: U64,
    size: U32,
    format: U32,
}

/// Whose records are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The records of all.
    All,
    /// The record of whoever asks.
    Own,
    /// The record of one.
    One(UserId),
}

/// A parameter list that has been checked; the buffer may lie anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// Whose records.
    pub whose: Whose,
    /// The logical address of the buffer.
    pub address: u64,
    /// The size of the buffer, in bytes.
    pub size: u32,
}

impl Query {
    /// Decodes a parameter list; `None` if the guest shall get [`RC_BAD_PARAMETER`].
    #[must_use]
    pub fn decode(bytes: &[u8; PARAMETER_LENGTH]) -> Option<Self> {
        let list = ParameterList::read_from_bytes(bytes).ok()?;
        // There are no groups of access control here, so all that can be asked for is any group.
        if list.format != FORMAT || ebcdic::to_string(&list.group).trim_end() != "*" {
            return None;
        }
        let whose = match ebcdic::to_string(&list.user_id).trim_end() {
            "*" => Whose::All,
            "" => Whose::Own,
            name => Whose::One(UserId::new(name).ok()?),
        };
        Some(Self {
            whose,
            address: list.address.get(),
            size: list.size.get(),
        })
    }
}

/// What one virtual machine uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Who.
    pub user_id: UserId,
    /// CPU time used, in microseconds.
    pub cpu_time: u64,
    /// Time since logon, in microseconds.
    pub elapsed: u64,
    /// Size of storage, in KiB.
    pub storage_kib: u64,
    /// Resident storage, in KiB.
    pub resident_kib: u64,
    /// CPUs of the host.
    pub host_cpus: u32,
    /// CPUs of the virtual machine.
    pub cpus: u32,
}

#[derive(IntoBytes, Immutable, Unaligned)]
#[repr(C)]
struct Record {
    version: U32,
    flags: U32,
    used_cpu: U64,
    elapsed: U64,
    memory_min_kib: U64,
    memory_max_kib: U64,
    memory_share_kib: U64,
    memory_used_kib: U64,
    physical_cpus: U32,
    logical_cpus: U32,
    virtual_cpus: U32,
    online_cpus: U32,
    cpu_max: U32,
    cpu_shares: U32,
    cpu_use_samples: U32,
    cpu_delay_samples: U32,
    page_wait_samples: U32,
    idle_samples: U32,
    other_samples: U32,
    total_samples: U32,
    guest_name: [u8; 8],
}

/// The length of a record, in bytes.
pub const RECORD_LENGTH: usize = size_of::<Record>();

/// The relative share of every virtual machine, CP's default.
const DEFAULT_SHARE: u32 = 100;

impl From<&Usage> for Record {
    /// State samples stay zero: nobody takes any.
    fn from(usage: &Usage) -> Self {
        let zero = U32::ZERO;
        Self {
            version: U32::new(FORMAT),
            flags: zero,
            used_cpu: U64::new(usage.cpu_time),
            elapsed: U64::new(usage.elapsed),
            memory_min_kib: U64::ZERO,
            memory_max_kib: U64::new(usage.storage_kib),
            memory_share_kib: U64::new(usage.storage_kib),
            memory_used_kib: U64::new(usage.resident_kib),
            physical_cpus: U32::new(usage.host_cpus),
            logical_cpus: U32::new(usage.host_cpus),
            virtual_cpus: U32::new(usage.cpus),
            online_cpus: U32::new(usage.cpus),
            cpu_max: zero,
            cpu_shares: U32::new(DEFAULT_SHARE),
            cpu_use_samples: zero,
            cpu_delay_samples: zero,
            page_wait_samples: zero,
            idle_samples: zero,
            other_samples: zero,
            total_samples: zero,
            guest_name: usage.user_id.as_ebcdic(),
        }
    }
}

/// What the guest gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What to store in the buffer; empty if it is too small.
    pub bytes: Vec<u8>,
    /// What is left of the buffer, or lacks if negative, in bytes: for Rx.
    pub residual: i64,
    /// The return code: for Ry.
    pub rc: i64,
}

/// Forms the records for a buffer of `size` bytes: all of them or none.
#[must_use]
pub fn answer(usages: &[Usage], size: u32) -> Answer {
    let bytes: Vec<u8> = usages
        .iter()
        .flat_map(|usage| Record::from(usage).as_bytes().to_vec())
        .collect();
    let residual = i64::from(size) - bytes.len() as i64;
    if residual < 0 {
        Answer {
            bytes: Vec::new(),
            residual,
            rc: RC_TOO_SMALL,
        }
    } else {
        Answer {
            bytes,
            residual,
            rc: RC_OK,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn usage(name: &str) -> Usage {
        Usage {
            user_id: UserId::new(name).unwrap(),
            cpu_time: 1,
            elapsed: 2,
            storage_kib: 3,
            resident_kib: 4,
            host_cpus: 5,
            cpus: 6,
        }
    }

    fn list(user_id: &str, group: &str, format: u8) -> [u8; PARAMETER_LENGTH] {
        let mut list = [0; PARAMETER_LENGTH];
        list[..8].copy_from_slice(&ebcdic::padded::<8>(user_id));
        list[8..16].copy_from_slice(&ebcdic::padded::<8>(group));
        list[16..24].copy_from_slice(&0x3c0_0012_3000_u64.to_be_bytes());
        list[26..28].copy_from_slice(&[1, 0]);
        list[31] = format;
        list
    }

    #[test]
    fn the_record_is_as_hypfs_reads_it() {
        assert_eq!((PARAMETER_LENGTH, RECORD_LENGTH), (32, 112));
        let answer = answer(&[usage("LINUX01")], 112);
        assert_eq!((answer.residual, answer.rc), (0, RC_OK));
        let word = |at: usize| u64::from_be_bytes(answer.bytes[at..at + 8].try_into().unwrap());
        assert_eq!((word(8), word(16), word(32), word(48)), (1, 2, 3, 4));
        assert_eq!(
            answer.bytes[56..72],
            [0, 0, 0, 5, 0, 0, 0, 5, 0, 0, 0, 6, 0, 0, 0, 6]
        );
        assert_eq!(ebcdic::to_string(&answer.bytes[104..]), "LINUX01 ");
    }

    #[test]
    fn the_size_needed_is_told() {
        let answer = answer(&[usage("LINUX01"), usage("LINUX02")], 0);
        assert_eq!(
            answer,
            Answer {
                bytes: vec![],
                residual: -224,
                rc: RC_TOO_SMALL
            }
        );
    }

    #[test]
    fn queries() {
        let whose = |user_id| Query::decode(&list(user_id, "*", 2)).unwrap().whose;
        assert_eq!(whose("*"), Whose::All);
        assert_eq!(whose(""), Whose::Own);
        assert_eq!(whose("DB01"), Whose::One(UserId::new("DB01").unwrap()));
        let query = Query::decode(&list("*", "*", 2)).unwrap();
        assert_eq!((query.address, query.size), (0x3c0_0012_3000, 256));
    }

    #[test]
    fn bad_lists_are_refused() {
        for list in [
            list("*", "*", 1),
            list("*", "GROUP", 2),
            list("a b", "*", 2),
        ] {
            assert_eq!(Query::decode(&list), None);
        }
    }

    proptest! {
        #[test]
        fn never_panics(bytes: [u8; 32], size: u32) {
            let _ = Query::decode(&bytes);
            let _ = answer(&[usage("A")], size);
        }
    }
}
