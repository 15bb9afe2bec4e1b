// SPDX-License-Identifier: GPL-2.0

//! DIAGNOSE X'08': execute CP commands.
//!
//! Rx holds the real address of the command, Ry its length and flags. If the response is wanted in storage, the next
//! registers hold the address and the length of its buffer. Ry receives the return code; the register after it the
//! length of the response (condition code 0), or how many bytes of it did not fit (condition code 1).

use super::{Diagnose, ProgramInterruption, Register};
use crate::ebcdic;

/// The length of the longest command, in bytes.
pub const MAX_LENGTH: u32 = 240;

/// In Ry: the response is wanted in storage.
const RESPONSE: u32 = 0x4000_0000;
/// In Ry: the length of the command.
const LENGTH: u32 = 0x00ff_ffff;

/// Bytes in real storage; not known to lie within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    /// The real address.
    pub address: u64,
    /// The length in bytes.
    pub length: u32,
}

/// Where the response goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// To the guest's console.
    Console,
    /// Into storage.
    Buffer {
        /// The buffer.
        area: Area,
        /// The register that receives the length.
        length: Register,
    },
}

/// The decoded operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command {
    /// Where the command is. Its length may be 0, which asks CP to read from the console: nothing to do.
    pub text: Area,
    /// Where the response goes.
    pub destination: Destination,
    /// The register that receives the return code.
    pub rc: Register,
}

impl Command {
    /// Checks the operands.
    ///
    /// A specification exception if the command is longer than [`MAX_LENGTH`], or if a register that is needed for
    /// the response does not exist or has two meanings.
    pub fn decode(diagnose: &Diagnose<'_>) -> Result<Self, ProgramInterruption> {
        let flags = diagnose.y() as u32;
        let text = Area {
            address: diagnose.x(),
            length: flags & LENGTH,
        };
        if text.length > MAX_LENGTH {
            return Err(ProgramInterruption::Specification);
        }
        let destination = if flags & RESPONSE == 0 {
            Destination::Console
        } else {
            let (buffer, length) = (diagnose.rx.next()?, diagnose.ry.next()?);
            if buffer == diagnose.ry || length == diagnose.rx || diagnose.rx == diagnose.ry {
                return Err(ProgramInterruption::Specification);
            }
            let area = Area {
                address: diagnose.registers[buffer.index()],
                length: diagnose.registers[length.index()] as u32,
            };
            Destination::Buffer { area, length }
        };
        Ok(Self {
            text,
            destination,
            rc: diagnose.ry,
        })
    }
}

/// A response as it goes into a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fitted {
    /// EBCDIC lines, each ended by X'15'; only whole ones.
    pub bytes: Vec<u8>,
    /// How many bytes did not fit.
    pub left: u32,
}

/// Takes as many lines as fit into `capacity` bytes, up to the first that does not.
#[must_use]
pub fn fit(lines: &[String], capacity: u32) -> Fitted {
    let capacity = capacity as usize;
    let mut bytes = Vec::new();
    let mut left = 0;
    for line in lines {
        // A line has no line ends, or the guest would see more lines than there are.
        let line = ebcdic::from_str(&line.replace('\n', " "));
        if left == 0 && bytes.len() + line.len() < capacity {
            bytes.extend(line);
            bytes.push(ebcdic::NEW_LINE);
        } else {
            left += line.len() + 1;
        }
    }
    Fitted {
        bytes,
        left: u32::try_from(left).unwrap_or(u32::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{diagnose, registers};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn without_a_response() {
        let registers = registers(&[(2, 0x4000), (3, 11)]);
        let command = Command::decode(&diagnose(2, 3, &registers)).unwrap();
        assert_eq!(
            command.text,
            Area {
                address: 0x4000,
                length: 11
            }
        );
        assert_eq!(command.destination, Destination::Console);
        assert_eq!(command.rc.index(), 3);
    }

    #[test]
    fn with_a_response() {
        let registers = registers(&[(2, 0x4000), (3, 0x5000), (4, 0x4000_00f0), (5, 4096)]);
        let command = Command::decode(&diagnose(2, 4, &registers)).unwrap();
        assert_eq!(command.text.length, MAX_LENGTH);
        let area = Area {
            address: 0x5000,
            length: 4096,
        };
        let length = Register::new(5).unwrap();
        assert_eq!(command.destination, Destination::Buffer { area, length });
    }

    #[test]
    fn bad_operands_are_specification_exceptions() {
        let registers = registers(&[
            (1, 0x4000_0001),
            (3, 0x4000_0001),
            (4, 0xf1),
            (15, 0x4000_0001),
        ]);
        for (rx, ry) in [(2, 3), (4, 3), (3, 3), (15, 1), (2, 15), (2, 4)] {
            assert_eq!(
                Command::decode(&diagnose(rx, ry, &registers)),
                Err(ProgramInterruption::Specification),
                "{rx} {ry}"
            );
        }
    }

    #[test]
    fn only_whole_lines_are_stored() {
        let lines = ["LINUX01 AT".to_owned(), "COOPMEM".to_owned()];
        let all = fit(&lines, 19);
        assert_eq!((all.bytes.len(), all.left), (19, 0));
        assert_eq!(all.bytes[10], ebcdic::NEW_LINE);
        let one = fit(&lines, 18);
        assert_eq!((one.bytes.len(), one.left), (11, 8));
        assert_eq!(
            fit(&lines, 10),
            Fitted {
                bytes: vec![],
                left: 19
            }
        );
    }

    proptest! {
        #[test]
        fn nothing_is_lost_in_the_count(lines in proptest::collection::vec(".{0,90}", 0..20), capacity in 0..2000u32) {
            let all = fit(&lines, u32::MAX);
            let some = fit(&lines, capacity);
            prop_assert_eq!(all.left, 0);
            prop_assert!(some.bytes.len() <= capacity as usize);
            prop_assert_eq!(some.bytes.len() + some.left as usize, all.bytes.len());
            prop_assert!(all.bytes.starts_with(&some.bytes));
            prop_assert!(some.bytes.last().is_none_or(|&last| last == ebcdic::NEW_LINE));
        }
    }
}
