// SPDX-License-Identifier: GPL-2.0

//! The DIAGNOSE codes: decoding their operands, forming their records.
//!
//! Each module has one code. Decoding takes the registers or the bytes that the guest passes and gives a value that
//! has been checked in full, or the [`ProgramInterruption`] that the guest gets; nothing here touches storage.

pub mod accounting;
pub mod command;
pub mod monitor;
pub mod page_reference;
pub mod partition;
pub mod release;
pub mod segment;
pub mod timing;
pub mod tmem;

/// A program interruption with which an instruction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum ProgramInterruption {
    /// The instruction does not exist, here and now.
    Operation = 0x01,
    /// The instruction is not for the problem state.
    Privileged = 0x02,
    /// An operand lies outside of storage.
    Addressing = 0x05,
    /// An operand is malformed.
    Specification = 0x06,
    /// The content of a page was discarded.
    BlockVolatility = 0x1a,
}

impl ProgramInterruption {
    /// The program interruption code.
    #[must_use]
    pub const fn code(self) -> u16 {
        self as u16
    }
}

/// A DIAGNOSE instruction with the registers of the CPU that executes it.
#[derive(Clone, Copy, Debug)]
pub struct Diagnose<'a> {
    /// The number of the first register operand, Rx.
    pub rx: Register,
    /// The number of the second register operand, Ry.
    pub ry: Register,
    /// The 16 general registers.
    pub registers: &'a [u64; 16],
}

impl Diagnose<'_> {
    /// The content of Rx.
    #[must_use]
    pub const fn x(&self) -> u64 {
        self.registers[self.rx.0 as usize]
    }

    /// The content of Ry.
    #[must_use]
    pub const fn y(&self) -> u64 {
        self.registers[self.ry.0 as usize]
    }
}

/// The number of a general register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register(u8);

impl Register {
    /// Takes the number from the 4 bits of an instruction; `None` beyond 15.
    #[must_use]
    pub const fn new(number: u32) -> Option<Self> {
        if number < 16 {
            Some(Self(number as u8))
        } else {
            None
        }
    }

    /// The next register, which holds the second half of a pair; register 15 has none.
    pub const fn next(self) -> Result<Self, ProgramInterruption> {
        if self.0 < 15 {
            Ok(Self(self.0 + 1))
        } else {
            Err(ProgramInterruption::Specification)
        }
    }

    /// Where it is among the 16.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

#[cfg(test)]
mod testing {
    use super::*;

    /// The registers that `values` names; the others hold garbage, as they do in life.
    pub fn registers(values: &[(usize, u64)]) -> [u64; 16] {
        let mut registers = [0xdead_beef_dead_beef; 16];
        for &(number, value) in values {
            registers[number] = value;
        }
        registers
    }

    pub fn diagnose(rx: u32, ry: u32, registers: &[u64; 16]) -> Diagnose<'_> {
        Diagnose {
            rx: Register::new(rx).unwrap(),
            ry: Register::new(ry).unwrap(),
            registers,
        }
    }
}
