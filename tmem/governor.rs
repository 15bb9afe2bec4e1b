// SPDX-License-Identifier: GPL-2.0

//! The governor: whether pools for page cache are worth their puts.
//!
//! A page that is put and evicted by the hypervisor before anybody wants it back has cost two calls
//! for nothing; and where a file is read from its begin to its end, again and again, that is larger
//! than memory and pool together, all do. So when many pages were evicted and few were got, there
//! are no pools for a while. If it then turns out the same, the while is longer.

/// How many pages must have been evicted to judge: 16 MiB.
const WINDOW: u64 = 4096;

/// Pools are worth it if one page is got for so many that are evicted.
const BOUND: u64 = 16;

/// How many times as long as there were pools there are none: at first, and at most.
const REST: [u64; 2] = [32, 128];

/// What the hypervisor counts, in pages.
#[derive(Clone, Copy, Default)]
pub(crate) struct Totals {
    pub(crate) puts: u64,
    pub(crate) hits: u64,
    pub(crate) evicted: u64,
}

/// What is known of the pools. Moments are in seconds since any that came before.
pub(crate) struct Governor {
    /// Since when there are pools.
    began: u64,
    /// What was judged.
    judged: Totals,
    /// Until when there are none.
    until: u64,
    /// How long that is the next time.
    rest: u64,
    /// How many pages were put the last time that somebody asked.
    puts: u64,
}

impl Governor {
    /// There are pools from now on.
    pub(crate) fn new(now: u64) -> Self {
        Self {
            began: now,
            judged: Totals::default(),
            until: now,
            rest: REST[0],
            puts: 0,
        }
    }

    /// There are pools again.
    pub(crate) fn begin(&mut self, now: u64) {
        self.began = now;
        self.judged = Totals::default();
    }

    /// Judges the pools. Returns whether there shall be none for a while.
    pub(crate) fn judge(&mut self, now: u64, totals: Totals) -> bool {
        if totals.evicted < self.judged.evicted {
            // A pool went.
            self.judged = totals;
        }
        let hits = totals.hits.saturating_sub(self.judged.hits);
        let evicted = totals.evicted - self.judged.evicted;
        if evicted < WINDOW {
            return false;
        }
        if hits.saturating_mul(BOUND) < evicted {
            self.until = now + (now - self.began).max(1) * self.rest;
            self.rest = REST[1];
            return true;
        }
        self.rest = REST[0];
        self.judged = totals;
        false
    }

    /// Until when there are no pools.
    pub(crate) fn until(&self) -> u64 {
        self.until
    }

    /// Whether pages were put since the last time.
    pub(crate) fn has_changed(&mut self, totals: Totals) -> bool {
        core::mem::replace(&mut self.puts, totals.puts) != totals.puts
    }

    /// Whether the while is over.
    pub(crate) fn is_over(&self, now: u64) -> bool {
        now >= self.until
    }
}

#[cfg(CONFIG_COOPMEM_TMEM_KUNIT_TEST)]
#[kernel::prelude::kunit_tests(tmem_governor)]
mod tests {
    use super::*;

    fn totals(hits: u64, evicted: u64) -> Totals {
        Totals {
            puts: 1 << 40,
            hits,
            evicted,
        }
    }

    #[test]
    fn nothing_evicted_is_no_reason() {
        let mut governor = Governor::new(10);
        assert!(!governor.judge(20, totals(0, 0)));
        assert!(!governor.judge(30, totals(0, WINDOW - 1)));
    }

    #[test]
    fn few_hits_are() {
        let mut governor = Governor::new(10);
        assert!(!governor.judge(20, totals(WINDOW, WINDOW * BOUND)));
        // Only what came since counts.
        assert!(governor.judge(30, totals(WINDOW + 10, WINDOW * BOUND + WINDOW)));
        assert!(!governor.is_over(30 + 20 * REST[0] - 1));
        assert!(governor.is_over(30 + 20 * REST[0]));
    }

    #[test]
    fn rests_grow_and_shrink() {
        let bad = totals(0, WINDOW);
        let mut governor = Governor::new(0);
        assert!(governor.judge(0, bad));
        assert!(!governor.is_over(REST[0] - 1));
        governor.begin(100);
        assert!(governor.judge(102, bad));
        assert!(!governor.is_over(102 + 2 * REST[1] - 1));
        assert!(governor.is_over(102 + 2 * REST[1]));
        governor.begin(1000);
        assert!(!governor.judge(1001, totals(WINDOW, WINDOW)));
        assert!(governor.judge(1010, totals(WINDOW, 2 * WINDOW)));
        assert!(governor.is_over(1010 + 10 * REST[0]));
    }

    #[test]
    fn pools_may_go() {
        let mut governor = Governor::new(0);
        assert!(!governor.judge(1, totals(WINDOW, WINDOW)));
        assert!(!governor.judge(2, totals(10, 20)));
        assert!(!governor.judge(3, totals(10, WINDOW)));
        assert!(governor.judge(4, totals(10, WINDOW + 20)));
    }
}
