// SPDX-License-Identifier: GPL-2.0

//! DIAGNOSE X'64': discontiguous saved segments.
//!
//! Rx holds the real address of a name or of a parameter list, Ry the function code. This CP has no saved segments, so
//! each function that names one ends with condition code 2 and [`NOT_FOUND`] in Ry.

use super::{Diagnose, ProgramInterruption};

/// The condition code of a function that failed.
pub const FAILED: u8 = 2;
/// CP's return code: the segment does not exist.
pub const NOT_FOUND: u64 = 44;

/// The functions, by their codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// Load a segment, shared or not.
    Load,
    /// Remove a segment from the address space.
    Purge,
    /// Find a segment, or ask for its extent.
    Find,
}

impl Function {
    /// Decodes the function code; a specification exception for others.
    pub fn decode(diagnose: &Diagnose<'_>) -> Result<Self, ProgramInterruption> {
        match diagnose.y() {
            0x00 | 0x04 | 0x10 | 0x14 | 0x20 | 0x24 => Ok(Self::Load),
            0x08 => Ok(Self::Purge),
            0x0c | 0x18 | 0x2c | 0x38 => Ok(Self::Find),
            _ => Err(ProgramInterruption::Specification),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{diagnose, registers};
    use super::*;

    #[test]
    fn linux_codes_are_known_and_others_refused() {
        // The codes of arch/s390/mm/extmem.c.
        for (code, function) in [
            (0x08, Function::Purge),
            (0x0c, Function::Find),
            (0x20, Function::Load),
            (0x24, Function::Load),
            (0x2c, Function::Find),
            (0x38, Function::Find),
        ] {
            let registers = registers(&[(3, code)]);
            assert_eq!(Function::decode(&diagnose(2, 3, &registers)), Ok(function));
        }
        for code in [1, 0x28, 0x100, u64::MAX] {
            let registers = registers(&[(3, code)]);
            assert_eq!(
                Function::decode(&diagnose(2, 3, &registers)),
                Err(ProgramInterruption::Specification)
            );
        }
    }
}
