// SPDX-License-Identifier: GPL-2.0

//! How many swapped pages come home when the guest has room for them.
//!
//! The hypervisor cannot drop what is in a persistent pool. A guest that needed it once would
//! occupy it until somebody touches each of the pages, which may be never.

/// How many pages come home at a time: this part of those that are away, but at least so many.
const PART: usize = 8;
const LEAST: usize = 256;

/// A part of the guest's memory, one in so many pages, that must be available besides.
const RESERVE: usize = 4;

/// How many of the pages that are `away` may come home while `available` of `total` pages are.
pub(crate) fn room(available: usize, total: usize, away: usize) -> usize {
    let spare = available.saturating_sub(total / RESERVE);
    (away / PART).max(LEAST).min(away).min(spare / 2)
}

#[cfg(CONFIG_COOPMEM_TMEM_KUNIT_TEST)]
#[kernel::prelude::kunit_tests(tmem_home)]
mod tests {
    use super::*;

    #[test]
    fn only_what_there_is_comes_home() {
        assert_eq!(room(90_000, 100_000, 0), 0);
        assert_eq!(room(90_000, 100_000, 100), 100);
        assert_eq!(room(90_000, 100_000, 1000), LEAST);
        assert_eq!(room(90_000, 100_000, 80_000), 80_000 / PART);
    }

    #[test]
    fn the_reserve_stays() {
        assert_eq!(room(25_000, 100_000, 10_000), 0);
        assert_eq!(room(10, 100_000, 10_000), 0);
        assert_eq!(room(25_100, 100_000, 10_000), 50);
    }
}
