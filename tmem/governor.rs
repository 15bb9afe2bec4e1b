// SPDX-License-Identifier: GPL-2.0

//! The governor: whether pools for page cache are worth their puts.
//!
//! A page that is put and evicted by the hypervisor before anybody wants it back has cost two calls
//! for nothing; and where a file is read from its begin to its end, again and again, that is larger
//! than memory and pool together, all do. So when many pages were evicted and few were got, there
//! are no pools for a while. If it then turns out the same, the while is longer.
//!
//! It is as long as the guest needs to reclaim many times as much page cache as it has put. So what
//! is put to no avail is a bounded part of what is reclaimed, however fast guest and host are.

/// How many pages must have been evicted to judge: 16 MiB.
pub(crate) const WINDOW: u64 = 4096;

/// How many, as long as the guest has asked for less than half as many: it is reading files for the
/// first time, of which a part was put already, and nothing is known of the second.
const PATIENCE: u64 = 4 * WINDOW;

/// Pools are worth it if one page is got for so many that are evicted.
const BOUND: u64 = 16;

/// For how many pages of page cache that are reclaimed without pools one may be put to no avail: at
/// first, and when it turned out the same again.
const REST: [u64; 2] = [64, 128];

/// What the hypervisor counts, in pages.
#[derive(Clone, Copy, Default)]
pub(crate) struct Totals {
    pub(crate) puts: u64,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) evicted: u64,
}

/// What is known of the pools.
pub(crate) struct Governor {
    /// What the hypervisor had counted when somebody looked last.
    last: Totals,
    /// Whether pages were put before that, since the time before.
    changed: bool,
    /// How many pages were put since there are pools, or since they were found worth it.
    puts: u64,
    /// How many pages were got since the pools were judged.
    hits: u64,
    /// How many the guest asked for since then.
    asked: u64,
    /// How many were evicted since then, no more each time than were put.
    evicted: u64,
    /// How many pages of page cache the guest will have reclaimed when there are pools again.
    until: u64,
    /// [`REST`] of the next time.
    rest: u64,
}

impl Governor {
    /// There are pools from now on.
    pub(crate) fn new() -> Self {
        Self {
            last: Totals::default(),
            changed: false,
            puts: 0,
            hits: 0,
            asked: 0,
            evicted: 0,
            until: 0,
            rest: REST[0],
        }
    }

    /// There are pools again, after a rest.
    pub(crate) fn begin(&mut self) {
        *self = Self {
            rest: self.rest,
            ..Self::new()
        };
    }

    /// Judges the pools, when the guest has `reclaimed` pages of page cache. Returns whether there
    /// shall be none for a while.
    pub(crate) fn judge(&mut self, reclaimed: u64, totals: Totals) -> bool {
        // Less than before: a pool went.
        let puts = totals.puts.saturating_sub(self.last.puts);
        let evicted = totals.evicted.saturating_sub(self.last.evicted);
        let hits = totals.hits.saturating_sub(self.last.hits);
        self.puts += puts;
        self.hits += hits;
        self.asked += hits + totals.misses.saturating_sub(self.last.misses);
        // What more is evicted makes room for others, and says nothing of the pages that are put.
        self.evicted += evicted.min(puts);
        self.changed = totals.puts != self.last.puts;
        self.last = totals;
        let enough = if self.asked < self.evicted / 2 {
            PATIENCE
        } else {
            WINDOW
        };
        if self.evicted < enough {
            return false;
        }
        let worth = self.hits.saturating_mul(BOUND) >= self.evicted;
        if worth {
            self.rest = REST[0];
        } else {
            self.until = reclaimed.saturating_add(self.puts.saturating_mul(self.rest));
            self.rest = REST[1];
        }
        (self.puts, self.hits, self.asked, self.evicted) = (0, 0, 0, 0);
        !worth
    }

    /// How many pages of page cache the guest will have reclaimed when there are pools again.
    pub(crate) fn until(&self) -> u64 {
        self.until
    }

    /// Whether pages were put between the last two judgements.
    pub(crate) fn has_changed(&self) -> bool {
        self.changed
    }

    /// Whether the while is over, when the guest has `reclaimed` pages of page cache.
    pub(crate) fn is_over(&self, reclaimed: u64) -> bool {
        reclaimed >= self.until
    }
}

#[cfg(CONFIG_COOPMEM_TMEM_KUNIT_TEST)]
#[kernel::prelude::kunit_tests(tmem_governor)]
mod tests {
    use super::*;

    /// As many were put, and asked for in vain, as were evicted.
    fn totals(hits: u64, evicted: u64) -> Totals {
        Totals {
            puts: evicted,
            hits,
            misses: evicted,
            evicted,
        }
    }

    #[test]
    fn nothing_evicted_is_no_reason() {
        let mut governor = Governor::new();
        assert!(!governor.judge(0, totals(0, 0)));
        assert!(!governor.judge(0, totals(0, WINDOW - 1)));
    }

    #[test]
    fn few_hits_are() {
        let mut governor = Governor::new();
        assert!(!governor.judge(0, totals(WINDOW, WINDOW * BOUND)));
        // Only what came since counts.
        assert!(governor.judge(10_000, totals(WINDOW + 10, WINDOW * BOUND + WINDOW)));
        assert_eq!(governor.until(), 10_000 + WINDOW * REST[0]);
        assert!(!governor.is_over(governor.until() - 1));
        assert!(governor.is_over(governor.until()));
    }

    #[test]
    fn what_others_take_is_no_reason() {
        let mut governor = Governor::new();
        let put = |puts, evicted| Totals {
            puts,
            hits: 0,
            misses: evicted,
            evicted,
        };
        assert!(!governor.judge(0, put(WINDOW * 4, 0)));
        assert!(governor.has_changed());
        // The guest rests, and others need the memory.
        assert!(!governor.judge(0, put(WINDOW * 4, WINDOW * 3)));
        assert!(!governor.has_changed());
        assert!(!governor.judge(0, put(WINDOW * 4 + 10, WINDOW * 4)));
        // Its own pages push each other out.
        assert!(governor.judge(0, put(WINDOW * 5, WINDOW * 5)));
    }

    #[test]
    fn what_was_not_asked_for_has_more_time() {
        let mut governor = Governor::new();
        let first = |evicted| Totals {
            misses: evicted / 4,
            ..totals(0, evicted)
        };
        assert!(!governor.judge(0, first(PATIENCE - 1)));
        assert!(governor.judge(0, first(PATIENCE)));
        // The second reading shows what they are worth.
        let mut governor = Governor::new();
        assert!(!governor.judge(0, first(PATIENCE - 1)));
        assert!(!governor.judge(0, totals(PATIENCE / BOUND, PATIENCE - 1)));
        let mut governor = Governor::new();
        assert!(!governor.judge(0, first(PATIENCE - 1)));
        assert!(governor.judge(0, totals(0, PATIENCE - 1)));
    }

    #[test]
    fn what_fills_the_pools_counts() {
        let mut governor = Governor::new();
        let put = |puts, evicted| Totals {
            puts,
            hits: 0,
            misses: evicted,
            evicted,
        };
        assert!(!governor.judge(0, put(WINDOW * 8, 0)));
        assert!(governor.judge(0, put(WINDOW * 9, WINDOW)));
        assert_eq!(governor.until(), WINDOW * 9 * REST[0]);
    }

    #[test]
    fn rests_grow_and_shrink() {
        let bad = totals(0, WINDOW);
        let mut governor = Governor::new();
        assert!(governor.judge(0, bad));
        assert_eq!(governor.until(), WINDOW * REST[0]);
        governor.begin();
        assert!(governor.judge(100, bad));
        assert_eq!(governor.until(), 100 + WINDOW * REST[1]);
        governor.begin();
        assert!(!governor.judge(200, totals(WINDOW, WINDOW)));
        assert!(governor.judge(200, totals(WINDOW, 2 * WINDOW)));
        assert_eq!(governor.until(), 200 + WINDOW * REST[0]);
    }

    #[test]
    fn pools_may_go() {
        let mut governor = Governor::new();
        assert!(!governor.judge(0, totals(WINDOW, WINDOW)));
        assert!(!governor.judge(0, totals(10, 20)));
        assert!(!governor.judge(0, totals(10, WINDOW)));
        assert!(governor.judge(0, totals(10, WINDOW + 20)));
    }
}
