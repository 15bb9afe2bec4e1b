// SPDX-License-Identifier: GPL-2.0

//! DIAGNOSE X'DC': declare an application's data to CP's monitor.
//!
//! Rx holds the real address of a parameter list; Ry receives the return code. Nobody collects monitor data here, as
//! on a z/VM system without a started monitor: what is declared well is accepted, and never read.

use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::ProgramInterruption;

/// The length of the parameter list, in bytes.
pub const PARAMETER_LENGTH: usize = size_of::<ParameterList>();

/// The length of the longest buffer, in bytes.
const MAX_BUFFER: u16 = 4024;

/// The length of the product ID, in bytes.
pub const PRODUCT_ID_LENGTH: u32 = 16;

#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct ParameterList {
    diagnose: U16,
    function: u8,
    length: u8,
    _unused1: U32,
    _reserved: U16,
    buffer_length: U16,
    _unused2: U32,
    product_id: U64,
    buffer: U64,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// Collect the buffer at each interval.
    StartInterval,
    /// No longer do so.
    Stop,
    /// Report the buffer once, as an event.
    GenerateEvent,
    /// Collect the configuration once.
    StartConfiguration,
}

/// A parameter list that has been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is asked for.
    pub function: Function,
    /// The real address of the product ID.
    pub product_id: u64,
    /// The real address of the buffer.
    pub buffer: u64,
    /// The length of the buffer, in bytes; 0 only to stop.
    pub buffer_length: u16,
}

impl Request {
    /// Checks a parameter list; a specification exception if it is none, or if the buffer is too long or empty.
    pub fn decode(bytes: &[u8; PARAMETER_LENGTH]) -> Result<Self, ProgramInterruption> {
        let list = ParameterList::read_from_bytes(bytes)
            .map_err(|_| ProgramInterruption::Specification)?;
        // The codes of Linux's arch/s390/include/asm/appldata.h.
        let function = match list.function {
            0x80 => Function::StartInterval,
            0x81 => Function::Stop,
            0x82 => Function::GenerateEvent,
            0x83 => Function::StartConfiguration,
            _ => return Err(ProgramInterruption::Specification),
        };
        let buffer_length = list.buffer_length.get();
        let fits = match function {
            Function::Stop => buffer_length <= MAX_BUFFER,
            _ => (1..=MAX_BUFFER).contains(&buffer_length),
        };
        if list.diagnose != 0xdc || usize::from(list.length) != PARAMETER_LENGTH || !fits {
            return Err(ProgramInterruption::Specification);
        }
        Ok(Self {
            function,
            product_id: list.product_id.get(),
            buffer: list.buffer.get(),
            buffer_length,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As appldata_asm() fills it.
    const LIST: [u8; 32] = [
        0, 0xdc, 0x80, 32, 0, 0, 0, 0, 0, 0, 0, 0x70, 0, 0, 0, 0, //
        0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0x30, 0,
    ];

    #[test]
    fn a_list_of_linux_is_accepted() {
        assert_eq!(
            Request::decode(&LIST),
            Ok(Request {
                function: Function::StartInterval,
                product_id: 0x2000,
                buffer: 0x3000,
                buffer_length: 0x70,
            })
        );
    }

    #[test]
    fn other_lists_are_specification_exceptions() {
        for (place, value) in [
            (1, 0xdd),
            (2, 0x79),
            (2, 0x84),
            (3, 40),
            (10, 0x10),
            (11, 0),
        ] {
            let mut list = LIST;
            list[place] = value;
            assert_eq!(
                Request::decode(&list),
                Err(ProgramInterruption::Specification),
                "byte {place} is {value:#x}"
            );
        }
    }

    proptest! {
        #[test]
        fn never_panics(bytes: [u8; 32]) {
            let _ = Request::decode(&bytes);
        }
    }
}
