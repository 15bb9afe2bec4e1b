// SPDX-License-Identifier: GPL-2.0

//! The governor: whether a pool of page cache is worth its puts.
//!
//! A page that is put and evicted by the hypervisor before anybody wants it back has cost two calls
//! for nothing; and where one does, as with a file that is read from its begin to its end and is
//! larger than memory and pool together, all do. So when many pages were evicted and few were got,
//! the pool is given up, and for a while nothing is put. Each time that it then turns out the same,
//! the while is longer.

use kernel::sync::atomic::{
    Atomic,
    Relaxed, //
};

/// How many pages are put, and at least evicted, before a pool is judged: 16 MiB.
const WINDOW: u64 = 4096;

/// A pool is worth it if one page is got for so many that are evicted.
const BOUND: u64 = 16;

/// How many times as many pages as were put are not put afterwards: at first, and at most.
const REST: [u64; 2] = [8, 64];

/// What the hypervisor counts, in pages since the pool was made.
#[derive(Clone, Copy, Default)]
pub(crate) struct Totals {
    pub(crate) puts: u64,
    pub(crate) hits: u64,
    pub(crate) evicted: u64,
}

/// What is known of the pool of one file system. All may be called at the same time: then a page is
/// counted twice, or a judgement is a little late.
pub(crate) struct Governor {
    /// How many pages may be put until the pool is judged, or are to be left out until there is one
    /// again.
    left: Atomic<i64>,
    /// How long the next rest is.
    rest: Atomic<u64>,
    /// The hits and evicted pages that were judged.
    hits: Atomic<u64>,
    evicted: Atomic<u64>,
}

impl Governor {
    pub(crate) const fn new() -> Self {
        Self {
            left: Atomic::new(WINDOW as i64),
            rest: Atomic::new(REST[0]),
            hits: Atomic::new(0),
            evicted: Atomic::new(0),
        }
    }

    /// Forgets what was known, for another file system.
    pub(crate) fn reset(&self) {
        self.rest.store(REST[0], Relaxed);
        self.restart();
    }

    /// Begins with an empty pool.
    pub(crate) fn restart(&self) {
        self.hits.store(0, Relaxed);
        self.evicted.store(0, Relaxed);
        self.left.store(WINDOW as i64, Relaxed);
    }

    /// Leaves out the puts of some pages.
    pub(crate) fn rest(&self, pages: u64) {
        // CAST: More pages than there can be.
        self.left.store(pages.min(i64::MAX as u64) as i64, Relaxed);
    }

    /// Counts `nr` pages. Returns whether it is time: to judge the pool, or to make one again.
    pub(crate) fn count(&self, nr: usize) -> bool {
        self.left.fetch_sub(nr as i64, Relaxed) <= nr as i64
    }

    /// Judges the pool. Returns how many pages are not to be put from now on, if it was not worth
    /// it.
    pub(crate) fn judge(&self, totals: Totals) -> Option<u64> {
        self.left.store(WINDOW as i64, Relaxed);
        let hits = totals.hits.saturating_sub(self.hits.load(Relaxed));
        let evicted = totals.evicted.saturating_sub(self.evicted.load(Relaxed));
        if evicted < WINDOW {
            return None;
        }
        if hits.saturating_mul(BOUND) < evicted {
            let rest = self.rest.xchg(REST[1], Relaxed);
            return Some(totals.puts.saturating_mul(rest));
        }
        self.rest.store(REST[0], Relaxed);
        self.hits.store(totals.hits, Relaxed);
        self.evicted.store(totals.evicted, Relaxed);
        None
    }
}

#[cfg(CONFIG_COOPMEM_TMEM_KUNIT_TEST)]
#[kernel::prelude::kunit_tests(tmem_governor)]
mod tests {
    use super::*;

    fn totals(puts: u64, hits: u64, evicted: u64) -> Totals {
        Totals {
            puts,
            hits,
            evicted,
        }
    }

    #[test]
    fn time_comes_after_a_window() {
        let governor = Governor::new();
        assert!(!governor.count(WINDOW as usize - 1));
        assert!(governor.count(1));
        // Until somebody does something about it.
        assert!(governor.count(1));
        assert_eq!(governor.judge(Totals::default()), None);
        assert!(!governor.count(WINDOW as usize - 1));
        assert!(governor.count(256));
    }

    #[test]
    fn nothing_evicted_is_no_reason() {
        let governor = Governor::new();
        assert_eq!(governor.judge(totals(1 << 30, 0, 0)), None);
        assert_eq!(governor.judge(totals(1 << 31, 0, WINDOW - 1)), None);
    }

    #[test]
    fn few_hits_are() {
        let governor = Governor::new();
        let enough = totals(100_000, WINDOW, WINDOW * BOUND);
        assert_eq!(governor.judge(enough), None);
        // Only what came since counts.
        let few = totals(200_000, WINDOW + 10, WINDOW * BOUND + WINDOW);
        assert_eq!(governor.judge(few), Some(200_000 * REST[0]));
    }

    #[test]
    fn rests_grow_and_shrink() {
        let governor = Governor::new();
        let bad = totals(10_000, 0, WINDOW);
        assert_eq!(governor.judge(bad), Some(10_000 * REST[0]));
        governor.rest(10_000 * REST[0]);
        assert!(!governor.count(10_000 * REST[0] as usize - 1));
        assert!(governor.count(1));
        governor.restart();
        assert_eq!(governor.judge(bad), Some(10_000 * REST[1]));
        governor.restart();
        assert_eq!(governor.judge(bad), Some(10_000 * REST[1]));
        governor.restart();
        assert_eq!(governor.judge(totals(10_000, WINDOW, WINDOW)), None);
        assert_eq!(
            governor.judge(totals(20_000, WINDOW, 2 * WINDOW)),
            Some(20_000 * REST[0])
        );
    }

    #[test]
    fn another_file_system_is_new() {
        let governor = Governor::new();
        governor.judge(totals(10_000, 0, WINDOW));
        governor.reset();
        assert_eq!(
            governor.judge(totals(10_000, 0, WINDOW)),
            Some(10_000 * REST[0])
        );
    }
}
