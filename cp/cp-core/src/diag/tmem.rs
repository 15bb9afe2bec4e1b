// SPDX-License-Identifier: GPL-2.0

//! DIAGNOSE X'1F4': transcendent memory, see [`crate::tmem`].
//!
//! Rx is the even register of a pair. It holds the real address of the parameter block, on a page boundary; the odd
//! one receives the return code. Ry holds the subcode. The condition code stays as it is.

use super::{Diagnose, ProgramInterruption, Register};
use crate::tmem::{BLOCK_LENGTH, Function};

/// The code, one of those that z/VM leaves to installations.
pub const CODE: u32 = 0x1f4;

/// The decoded operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// The real address of the block; not known to lie within storage.
    pub address: u64,
    /// What is asked for.
    pub function: Function,
    /// The register that receives the return code.
    pub rc: Register,
}

impl Call {
    /// Checks the operands; a specification exception for an odd Rx, an Ry that is one of the pair, an address within a
    /// page, or another subcode.
    pub fn decode(diagnose: &Diagnose<'_>) -> Result<Self, ProgramInterruption> {
        let rc = diagnose.rx.next()?;
        let pair = [diagnose.rx, rc];
        let address = diagnose.x();
        match Function::from_subcode(diagnose.y()) {
            Some(function)
                if diagnose.rx.index().is_multiple_of(2)
                    && !pair.contains(&diagnose.ry)
                    && address.is_multiple_of(BLOCK_LENGTH as u64) =>
            {
                Ok(Self {
                    address,
                    function,
                    rc,
                })
            }
            _ => Err(ProgramInterruption::Specification),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{diagnose, registers};
    use super::*;

    #[test]
    fn operands_are_checked() {
        let registers = registers(&[(2, 0x7000), (4, 3), (5, 5), (6, 0x7800), (8, 0), (9, 0)]);
        let decode = |rx, ry| Call::decode(&diagnose(rx, ry, &registers));
        assert_eq!(
            decode(2, 4),
            Ok(Call {
                address: 0x7000,
                function: Function::Batch,
                rc: Register::new(3).unwrap(),
            })
        );
        for (rx, ry) in [(9, 4), (15, 4), (6, 4), (2, 5), (2, 3), (8, 8), (8, 9)] {
            let refused = Err(ProgramInterruption::Specification);
            assert_eq!(decode(rx, ry), refused, "{rx}, {ry}");
        }
    }
}
