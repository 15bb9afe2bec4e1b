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
    /// What the hypervisor had counted when somebody looked last.
    last: Totals,
    /// Whether pages were put before that, since the time before.
    changed: bool,
    /// How many pages were got since the pools were judged.
    hits: u64,
    /// How many were evicted since then, no more each time than were put.
    evicted: u64,
    /// Until when there are none.
    until: u64,
    /// How long that is the next time.
    rest: u64,
}

impl Governor {
    /// There are pools from now on.
    pub(crate) fn new(now: u64) -> Self {
        Self {
            began: now,
            last: Totals::default(),
            changed: false,
            hits: 0,
            evicted: 0,
            until: now,
            rest: REST[0],
        }
    }

    /// There are pools again.
    pub(crate) fn begin(&mut self, now: u64) {
        *self = Self {
            until: self.until,
            rest: self.rest,
            ..Self::new(now)
        };
    }

    /// Judges the pools. Returns whether there shall be none for a while.
    pub(crate) fn judge(&mut self, now: u64, totals: Totals) -> bool {
        // Less than before: a pool went.
        let puts = totals.puts.saturating_sub(self.last.puts);
        let evicted = totals.evicted.saturating_sub(self.last.evicted);
        self.hits += totals.hits.saturating_sub(self.last.hits);
        // What more is evicted makes room for others, and says nothing of the pages that are put.
        self.evicted += evicted.min(puts);
        self.changed = totals.puts != self.last.puts;
        self.last = totals;
        if self.evicted < WINDOW {
            return false;
        }
        let worth = self.hits.saturating_mul(BOUND) >= self.evicted;
        (self.hits, self.evicted) = (0, 0);
        if worth {
            self.rest = REST[0];
        } else {
            self.until = now + (now - self.began).max(1) * self.rest;
            self.rest = REST[1];
        }
        !worth
    }

    /// Until when there are no pools.
    pub(crate) fn until(&self) -> u64 {
        self.until
    }

    /// Whether pages were put between the last two judgements.
    pub(crate) fn has_changed(&self) -> bool {
        self.changed
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

    /// As many were put as were evicted.
    fn totals(hits: u64, evicted: u64) -> Totals {
        Totals {
            puts: evicted,
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
    fn what_others_take_is_no_reason() {
        let mut governor = Governor::new(10);
        let put = |puts, evicted| Totals {
            puts,
            hits: 0,
            evicted,
        };
        assert!(!governor.judge(20, put(WINDOW * 4, 0)));
        assert!(governor.has_changed());
        // The guest rests, and others need the memory.
        assert!(!governor.judge(30, put(WINDOW * 4, WINDOW * 3)));
        assert!(!governor.has_changed());
        assert!(!governor.judge(40, put(WINDOW * 4 + 10, WINDOW * 4)));
        // Its own pages push each other out.
        assert!(governor.judge(50, put(WINDOW * 5, WINDOW * 5)));
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
