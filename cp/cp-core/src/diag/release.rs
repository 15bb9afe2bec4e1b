// SPDX-License-Identifier: GPL-2.0

//! DIAGNOSE X'10': release pages of storage.
//!
//! Rx and Ry hold the real addresses of the first and of the last page. The pages read as zero afterwards.

use super::{Diagnose, ProgramInterruption};

/// The size of a page, in bytes.
pub const PAGE_SIZE: u64 = 4096;

/// The lowest address that can be released: the first two pages are the prefix area.
const LOWEST: u64 = 2 * PAGE_SIZE;

/// Whole pages within storage and above the prefix area at 0; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRange {
    first: u64,
    last: u64,
}

impl PageRange {
    /// Checks the operands for a guest with `storage` bytes.
    ///
    /// A specification exception if an address is not on a page boundary, the range ends before it begins, or it
    /// reaches into the first two pages or beyond the end of storage. Then nothing is released.
    pub fn decode(diagnose: &Diagnose<'_>, storage: u64) -> Result<Self, ProgramInterruption> {
        let (first, last) = (diagnose.x(), diagnose.y());
        let aligned = first.is_multiple_of(PAGE_SIZE) && last.is_multiple_of(PAGE_SIZE);
        // `last < storage` says that the page begins within storage; it ends there too, since that is whole pages.
        if aligned && LOWEST <= first && first <= last && last < storage {
            Ok(Self { first, last })
        } else {
            Err(ProgramInterruption::Specification)
        }
    }

    /// The real address of the first page.
    #[must_use]
    pub const fn start(&self) -> u64 {
        self.first
    }

    /// How many bytes there are.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.last - self.first + PAGE_SIZE
    }

    /// How many pages there are.
    #[must_use]
    pub const fn pages(&self) -> u64 {
        self.bytes() / PAGE_SIZE
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{diagnose, registers};
    use super::*;
    use proptest::prelude::*;

    const STORAGE: u64 = 256 << 20;

    fn decode(first: u64, last: u64) -> Result<PageRange, ProgramInterruption> {
        let registers = registers(&[(2, first), (3, last)]);
        PageRange::decode(&diagnose(2, 3, &registers), STORAGE)
    }

    #[test]
    fn one_page_and_all_of_storage() {
        let one = decode(0x10000, 0x10000).unwrap();
        assert_eq!((one.start(), one.bytes(), one.pages()), (0x10000, 4096, 1));
        let all = decode(0x2000, STORAGE - 4096).unwrap();
        assert_eq!(all.start() + all.bytes(), STORAGE);
    }

    #[test]
    fn one_register_may_name_both() {
        let registers = registers(&[(4, 0x5000)]);
        let range = PageRange::decode(&diagnose(4, 4, &registers), STORAGE).unwrap();
        assert_eq!(range.pages(), 1);
    }

    #[test]
    fn bad_operands_are_specification_exceptions() {
        for (first, last) in [
            (0x10001, 0x11000),
            (0x10000, 0x10fff),
            (0x11000, 0x10000),
            (0x1000, 0x3000),
            (0, 0),
            (0x10000, STORAGE),
            (STORAGE, STORAGE),
            (0x10000, !0xfff),
            (!0xfff, !0xfff),
        ] {
            assert_eq!(
                decode(first, last),
                Err(ProgramInterruption::Specification),
                "{first:#x} to {last:#x}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_released_is_within_storage(first: u64, last: u64, page in 0..2 * STORAGE / PAGE_SIZE, pages in 0..9u64) {
            let page = page * PAGE_SIZE;
            for range in [decode(first, last), decode(page, page + pages * PAGE_SIZE)].into_iter().flatten() {
                prop_assert!(range.start() >= 8192 && range.start() % 4096 == 0);
                prop_assert!(range.pages() >= 1 && range.start() + range.bytes() <= STORAGE);
            }
        }
    }
}
