// SPDX-License-Identifier: GPL-2.0

//! DIAGNOSE X'258': page reference services, of which Linux knows "pfault".
//!
//! Rx holds the real address of a parameter block, on a doubleword; Ry receives the return code. A CPU agrees with it
//! to be told of page faults by interruptions, or cancels that: see [`crate::page_faults`].
//!
//! The layout is that of Linux's `arch/s390/mm/pfault.c`; what is checked is what Linux's KVM checks, in
//! `arch/s390/kvm/diag.c`.

use zerocopy::byteorder::big_endian::{U16, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::{Diagnose, ProgramInterruption};

/// The code.
pub const CODE: u32 = 0x258;

/// The length of the parameter block, in bytes.
pub const PARAMETER_LENGTH: usize = size_of::<ParameterBlock>();

/// The length of a token, in bytes.
const TOKEN_LENGTH: u64 = 8;

/// The only version there is, in z/Architecture.
const VERSION: u16 = 2;

/// What a block of that version has after the function, if something is agreed on.
const Z_ARCHITECTURE: u64 = 1 << 63;

#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct ParameterBlock {
    diagnose: U16,
    function: U16,
    doublewords: U16,
    version: U16,
    token: U64,
    select: U64,
    compare: U64,
    architecture: U64,
}

/// What a CPU has agreed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake {
    token: u64,
    select: u64,
    compare: u64,
}

impl Handshake {
    /// The real address of the doubleword whose content names who faults.
    #[must_use]
    pub const fn token(&self) -> u64 {
        self.token
    }

    /// Whether it holds for a CPU with that PSW mask.
    #[must_use]
    pub const fn applies(&self, psw_mask: u64) -> bool {
        psw_mask & self.select == self.compare
    }
}

/// A parameter block that has been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Function 0: agrees.
    Token(Handshake),
    /// Function 1: no longer does.
    Cancel,
}

/// What Ry receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum ReturnCode {
    /// Done.
    Done = 0,
    /// There is nothing to cancel.
    NotAgreed = 4,
    /// There is an agreement already; it is as it was.
    Agreed = 8,
}

/// The address of the parameter block; a specification exception if it is not on a doubleword.
pub const fn address(operands: &Diagnose<'_>) -> Result<u64, ProgramInterruption> {
    if operands.x().is_multiple_of(8) {
        Ok(operands.x())
    } else {
        Err(ProgramInterruption::Specification)
    }
}

impl Request {
    /// Checks a parameter block of a guest with that many bytes of storage.
    ///
    /// A specification exception if it is none; an addressing exception if the token lies outside of storage.
    pub fn decode(
        bytes: &[u8; PARAMETER_LENGTH],
        storage: u64,
    ) -> Result<Self, ProgramInterruption> {
        let block = ParameterBlock::read_from_bytes(bytes)
            .map_err(|_| ProgramInterruption::Specification)?;
        let (token, select, compare) = (block.token.get(), block.select.get(), block.compare.get());
        let block_is_right = u32::from(block.diagnose.get()) == CODE
            && usize::from(block.doublewords.get()) * 8 >= PARAMETER_LENGTH
            && block.version == VERSION;
        match block.function.get() {
            _ if !block_is_right => Err(ProgramInterruption::Specification),
            0 if !token.is_multiple_of(TOKEN_LENGTH)
                || compare & !select != 0
                || block.architecture != Z_ARCHITECTURE =>
            {
                Err(ProgramInterruption::Specification)
            }
            0 if token.saturating_add(TOKEN_LENGTH) > storage => {
                Err(ProgramInterruption::Addressing)
            }
            0 => Ok(Self::Token(Handshake {
                token,
                select,
                compare,
            })),
            1 if [token, select, compare, block.architecture.get()] == [0; 4] => Ok(Self::Cancel),
            _ => Err(ProgramInterruption::Specification),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{diagnose, registers};
    use super::*;
    use proptest::prelude::*;

    const STORAGE: u64 = 1 << 20;
    const PROBLEM_STATE: u64 = 1 << 48;

    /// A block in the order of its fields.
    fn block(head: [u16; 4], tail: [u64; 4]) -> [u8; PARAMETER_LENGTH] {
        let bytes: Vec<u8> = head
            .iter()
            .flat_map(|field| field.to_be_bytes())
            .chain(tail.iter().flat_map(|field| field.to_be_bytes()))
            .collect();
        bytes.try_into().unwrap()
    }

    const INIT: ([u16; 4], [u64; 4]) = (
        [0x258, 0, 5, 2],
        [0x360, PROBLEM_STATE, PROBLEM_STATE, Z_ARCHITECTURE],
    );
    const FINI: ([u16; 4], [u64; 4]) = ([0x258, 1, 5, 2], [0; 4]);

    fn decode((head, tail): ([u16; 4], [u64; 4])) -> Result<Request, ProgramInterruption> {
        Request::decode(&block(head, tail), STORAGE)
    }

    #[test]
    fn blocks_of_linux_are_accepted() {
        assert_eq!(PARAMETER_LENGTH, 40);
        let Ok(Request::Token(handshake)) = decode(INIT) else {
            panic!("{:?}", decode(INIT));
        };
        assert_eq!(handshake.token(), 0x360);
        assert!(handshake.applies(PROBLEM_STATE | 0x0705_0001_8000_0000));
        assert!(!handshake.applies(!PROBLEM_STATE));
        assert_eq!(decode(FINI), Ok(Request::Cancel));
    }

    #[test]
    fn other_blocks_are_specification_exceptions() {
        let specification = Err(ProgramInterruption::Specification);
        for (place, value) in [(0, 0x254), (1, 2), (2, 4), (3, 1), (3, 3)] {
            for (mut head, tail) in [INIT, FINI] {
                head[place] = value;
                assert_eq!(
                    decode((head, tail)),
                    specification,
                    "{place} is {value:#x}: {head:?}"
                );
            }
        }
        for (place, value) in [(0, 0x364), (1, 0), (2, 3 << 48), (3, 0), (3, u64::MAX)] {
            let (head, mut tail) = INIT;
            tail[place] = value;
            assert_eq!(decode((head, tail)), specification, "{place} is {value:#x}");
        }
        for place in 0..4 {
            let (head, mut tail) = FINI;
            tail[place] = 8;
            assert_eq!(decode((head, tail)), specification, "{place}");
        }
    }

    #[test]
    fn a_token_outside_of_storage_is_an_addressing_exception() {
        let (head, mut tail) = INIT;
        for (token, fits) in [
            (STORAGE - 8, true),
            (STORAGE, false),
            (u64::MAX - 7, false),
            (0, true),
        ] {
            tail[0] = token;
            let decoded = decode((head, tail));
            assert_eq!(decoded.is_ok(), fits, "{token:#x}");
            if !fits {
                assert_eq!(decoded, Err(ProgramInterruption::Addressing));
            }
        }
    }

    #[test]
    fn a_block_begins_on_a_doubleword() {
        for (x, expected) in [
            (0x1238, Ok(0x1238)),
            (0x1234, Err(ProgramInterruption::Specification)),
        ] {
            let registers = registers(&[(2, x)]);
            assert_eq!(address(&diagnose(2, 3, &registers)), expected);
        }
    }

    proptest! {
        /// Whatever the guest passes: what is accepted can be used.
        #[test]
        fn what_is_accepted_is_sound(
            function in 0..4_u16,
            doublewords: u16,
            version in 0..4_u16,
            tail: [u64; 4],
            psw: u64,
        ) {
            let bytes = block([0x258, function, doublewords, version], tail);
            if let Ok(request) = Request::decode(&bytes, STORAGE) {
                prop_assert!(doublewords >= 5 && version == 2 && function < 2);
                if let Request::Token(handshake) = request {
                    prop_assert!(handshake.token() % 8 == 0);
                    prop_assert!(handshake.token() + 8 <= STORAGE);
                    prop_assert_eq!(handshake.applies(psw), psw & tail[1] == tail[2]);
                }
            }
        }

        /// What would pass but for one field is of all kinds.
        #[test]
        fn a_good_block_with_any_masks(token in 0..STORAGE / 8, select: u64, bits: u64, psw: u64) {
            let tail = [token * 8, select, select & bits, Z_ARCHITECTURE];
            let decoded = decode((INIT.0, tail));
            let Ok(Request::Token(handshake)) = decoded else {
                return Err(TestCaseError::fail(format!("{decoded:?}")));
            };
            prop_assert_eq!(handshake.token(), token * 8);
            prop_assert!(handshake.applies(psw & !select | select & bits));
        }

        #[test]
        fn never_panics(bytes: [u8; PARAMETER_LENGTH], storage: u64) {
            let _ = Request::decode(&bytes, storage);
        }
    }
}
