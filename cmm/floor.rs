// SPDX-License-Identifier: GPL-2.0

//! The floor: memory that the balloon leaves to the guest.
//!
//! The balloon grows only out of what the guest has available beyond the floor, that is out of
//! free memory and of page cache that can be dropped, as `MemAvailable` of `/proc/meminfo`
//! estimates it. So a request, however large, drives the guest neither into swapping nor into
//! the OOM killer.

use kernel::{
    page::PAGE_SIZE,
    sizes::{
        SZ_16M,
        SZ_1G,
        SZ_1M, //
    }, //
};

/// The part of a guest's memory that is the default floor: one sixteenth.
const PART: usize = 16;

/// The least default floor, in pages. The kernel itself needs about this much to go on.
const LEAST: usize = SZ_16M / PAGE_SIZE;

/// The largest default floor, in pages.
const MOST: usize = SZ_1G / PAGE_SIZE;

/// The default floor of a guest with `total` pages of memory, in pages.
pub(crate) fn default(total: usize) -> usize {
    (total / PART).clamp(LEAST, MOST)
}

/// Changes a number of MiB into one of pages.
pub(crate) fn from_mib(mib: usize) -> usize {
    mib.saturating_mul(SZ_1M / PAGE_SIZE)
}

/// How many of `wanted` pages the balloon may take while `available` are, with this `floor`.
pub(crate) fn room(available: usize, floor: usize, wanted: usize) -> usize {
    available.saturating_sub(floor).min(wanted)
}

#[cfg(CONFIG_COOPMEM_CMM_KUNIT_TEST)]
#[kernel::prelude::kunit_tests(cmm_floor)]
mod tests {
    use super::*;

    #[test]
    fn default_is_a_part_within_limits() {
        let mib = |nr| from_mib(nr);
        assert_eq!(default(mib(64)), mib(16));
        assert_eq!(default(mib(512)), mib(32));
        assert_eq!(default(mib(4096)), mib(256));
        assert_eq!(default(mib(65536)), mib(1024));
    }

    #[test]
    fn room_ends_at_the_floor() {
        assert_eq!(room(1000, 100, 50), 50);
        assert_eq!(room(1000, 100, 5000), 900);
        assert_eq!(room(100, 100, 1), 0);
        assert_eq!(room(50, 100, 1), 0);
        assert_eq!(room(50, 0, usize::MAX), 50);
    }
}
