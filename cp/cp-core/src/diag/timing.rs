// SPDX-License-Identifier: GPL-2.0

//! DIAGNOSE X'0C': the date, the time and the CPU time used.
//!
//! Rx holds the real address of 32 bytes on a doubleword boundary, which receive the [`Record`].

use std::time::Duration;

use time::UtcDateTime;
use zerocopy::byteorder::big_endian::U64;
use zerocopy::{Immutable, IntoBytes};

use super::{Diagnose, ProgramInterruption};
use crate::ebcdic;

/// What is stored.
#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
#[repr(C)]
pub struct Record {
    /// `MM/DD/YY`.
    date: [u8; 8],
    /// `HH:MM:SS`.
    time: [u8; 8],
    /// The time that the CPU has run the guest, in microseconds.
    virtual_cpu: U64,
    /// The same and CP's own work for it, in microseconds.
    total_cpu: U64,
}

impl Record {
    /// The record at the time `since_epoch`, of a CPU that has used `virtual_cpu` and `total_cpu`. Times are UTC: CP
    /// has no time zone.
    #[must_use]
    pub fn new(since_epoch: Duration, virtual_cpu: Duration, total_cpu: Duration) -> Self {
        let seconds = i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX);
        let now = UtcDateTime::from_unix_timestamp(seconds).unwrap_or(UtcDateTime::UNIX_EPOCH);
        let (month, day, year) = (u8::from(now.month()), now.day(), now.year() % 100);
        let (hour, minute, second) = now.as_hms();
        Self {
            date: ebcdic::padded(&format!("{month:02}/{day:02}/{year:02}")),
            time: ebcdic::padded(&format!("{hour:02}:{minute:02}:{second:02}")),
            virtual_cpu: microseconds(virtual_cpu),
            total_cpu: microseconds(total_cpu),
        }
    }
}

fn microseconds(duration: Duration) -> U64 {
    U64::new(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

/// The real address where the record goes; a specification exception if that is not on a doubleword boundary.
pub fn decode(diagnose: &Diagnose<'_>) -> Result<u64, ProgramInterruption> {
    let address = diagnose.x();
    if address.is_multiple_of(8) {
        Ok(address)
    } else {
        Err(ProgramInterruption::Specification)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{diagnose, registers};
    use super::*;

    #[test]
    fn the_record_is_as_hypfs_reads_it() {
        let record = Record::new(
            Duration::from_secs(1_709_251_199),
            Duration::from_micros(0x0102_0304),
            Duration::from_micros(0x0506_0708),
        );
        let bytes = record.as_bytes();
        assert_eq!(bytes.len(), 32);
        assert_eq!(ebcdic::to_string(&bytes[..16]), "02/29/2423:59:59");
        assert_eq!(
            bytes[16..],
            [0, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0, 5, 6, 7, 8]
        );
    }

    #[test]
    fn the_record_is_on_a_doubleword_boundary() {
        let registers = registers(&[(2, 0x1008), (3, 0x1004)]);
        assert_eq!(decode(&diagnose(2, 2, &registers)), Ok(0x1008));
        assert_eq!(
            decode(&diagnose(3, 3, &registers)),
            Err(ProgramInterruption::Specification)
        );
    }
}
