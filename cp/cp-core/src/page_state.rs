// SPDX-License-Identifier: GPL-2.0

//! The states of pages that ESSA (EXTRACT AND SET STORAGE ATTRIBUTES) reads and sets.
//!
//! A guest says of each page what its content is worth. So far CP only keeps what it is told: it takes no page away
//! for its state, so all content is resident.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::diag::ProgramInterruption;

/// The size of a page, in bytes.
pub const PAGE_SIZE: u64 = 4096;

/// What the guest says of a page. The discriminants are those of ESSA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Usage {
    /// The content must be kept.
    Stable = 0,
    /// The content is worth nothing.
    Unused = 1,
    /// The content can be had again.
    Volatile = 2,
    /// The content can be had again unless the page has been changed.
    PotentiallyVolatile = 3,
}

/// The place of [`Usage`] in what ESSA returns; the content below it is 0, resident.
const USAGE_SHIFT: u8 = 2;

/// An operation of ESSA. The discriminants are the operation request codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Only return the state.
    Get,
    /// Set this usage. Since all content is resident, "stable and resident" (code 5) and "stable if resident" (code
    /// 6) set a page stable as code 1 does.
    Set(Usage),
}

impl Operation {
    /// Decodes the operation request code. Code 7, stable and not a translation table, is not installed
    /// (facility 147); it and those above are specification exceptions.
    pub const fn decode(code: u32) -> Result<Self, ProgramInterruption> {
        match code {
            0 => Ok(Self::Get),
            1 | 5 | 6 => Ok(Self::Set(Usage::Stable)),
            2 => Ok(Self::Set(Usage::Unused)),
            3 => Ok(Self::Set(Usage::Volatile)),
            4 => Ok(Self::Set(Usage::PotentiallyVolatile)),
            _ => Err(ProgramInterruption::Specification),
        }
    }
}

/// The states of all pages of a guest. CPUs use it at once, without locks.
#[derive(Debug)]
pub struct PageStates(Box<[AtomicU8]>);

impl PageStates {
    /// All pages of `storage` bytes, stable.
    #[must_use]
    pub fn new(storage: u64) -> Self {
        let pages = usize::try_from(storage / PAGE_SIZE).unwrap_or(usize::MAX);
        Self((0..pages).map(|_| AtomicU8::new(0)).collect())
    }

    /// Executes ESSA on the page at an absolute address: what it returns, the state of before.
    ///
    /// An addressing exception if there is no such page.
    pub fn execute(&self, address: u64, operation: Operation) -> Result<u64, ProgramInterruption> {
        let page = usize::try_from(address / PAGE_SIZE)
            .ok()
            .and_then(|page| self.0.get(page))
            .ok_or(ProgramInterruption::Addressing)?;
        // The state says nothing of other storage, so it orders nothing.
        let before = match operation {
            Operation::Get => page.load(Ordering::Relaxed),
            Operation::Set(usage) => page.swap(usage as u8, Ordering::Relaxed),
        };
        Ok(u64::from(before << USAGE_SHIFT))
    }

    /// The guest was reset: all pages are stable.
    pub fn reset(&self) {
        for page in &self.0 {
            page.store(Usage::Stable as u8, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORAGE: u64 = 1 << 20;

    #[test]
    fn the_state_of_before_is_returned() {
        let states = PageStates::new(STORAGE);
        let essa = |code| states.execute(0x5000, Operation::decode(code).unwrap());
        assert_eq!(essa(2), Ok(0x0));
        assert_eq!(essa(3), Ok(0x4));
        assert_eq!(essa(4), Ok(0x8));
        assert_eq!(essa(0), Ok(0xc));
        assert_eq!(essa(6), Ok(0xc));
        assert_eq!(essa(0), Ok(0x0));
        // Neighbours are left alone, and all bytes of a page mean it.
        essa(2).unwrap();
        assert_eq!(states.execute(0x4fff, Operation::Get), Ok(0));
        assert_eq!(states.execute(0x5fff, Operation::Get), Ok(4));
        assert_eq!(states.execute(0x6000, Operation::Get), Ok(0));
        states.reset();
        assert_eq!(essa(0), Ok(0));
    }

    #[test]
    fn other_codes_and_pages_are_refused() {
        for code in [7, 8, 15, u32::MAX] {
            let refused = Err(ProgramInterruption::Specification);
            assert_eq!(Operation::decode(code), refused);
        }
        let states = PageStates::new(STORAGE);
        for address in [STORAGE, u64::MAX] {
            let refused = Err(ProgramInterruption::Addressing);
            assert_eq!(states.execute(address, Operation::Get), refused);
        }
    }
}
