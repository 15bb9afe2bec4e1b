// SPDX-License-Identifier: GPL-2.0

//! What the sweeper goes by: pure arithmetic.

use core::ops::{
    Index,
    IndexMut, //
};
use kernel::s390::machine::Hypervisor;

/// Whether page cache may become volatile under such a hypervisor.
///
/// KVM, as of Linux 7.3, does not keep in mind that it discarded a page: the guest would find
/// zeroes and take them for the file's content.
pub(crate) fn permits(hypervisor: Hypervisor, forced: bool) -> bool {
    hypervisor != Hypervisor::Kvm || forced
}

/// Page cache that becomes volatile if that is switched on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Class {
    /// What no process has mapped.
    Unmapped,
    /// What processes have mapped: their programs, libraries and data.
    Mapped,
}

impl Class {
    /// All of them.
    pub(crate) const ALL: [Self; 2] = [Self::Unmapped, Self::Mapped];

    /// What the log calls it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Unmapped => "page cache",
            Self::Mapped => "mapped page cache",
        }
    }
}

/// Something for each class.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Classes<T>(pub(crate) [T; Class::ALL.len()]);

impl<T> Index<Class> for Classes<T> {
    type Output = T;

    fn index(&self, class: Class) -> &T {
        &self.0[class as usize]
    }
}

impl<T> IndexMut<Class> for Classes<T> {
    fn index_mut(&mut self, class: Class) -> &mut T {
        &mut self.0[class as usize]
    }
}

/// What an administrator can choose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Tunables {
    /// Whether there shall be volatile folios of a class at all.
    pub(crate) volatile: Classes<bool>,
    /// How long a folio must not have been used, in milliseconds.
    pub(crate) age: u32,
    /// How many pages become volatile in a second at most; 0: any number.
    pub(crate) rate: u32,
    /// How much of the page cache may be volatile, in percent.
    pub(crate) share: u32,
    /// How often a class may have the disk asked in a minute for what the hypervisor took, in
    /// percent of the page-ins that bring back all that is volatile; 0: any number of times.
    pub(crate) lost: u32,
}

/// The time between two sweeps that have something to do, at the least, in milliseconds.
const SHORTEST: u32 = 1_000;
/// The time until the next sweep, at the most, in milliseconds.
const LONGEST: u32 = 60_000;

impl Tunables {
    /// As documented.
    pub(crate) const DEFAULT: Self = Self {
        volatile: Classes([false; Class::ALL.len()]),
        age: 10_000,
        rate: 0,
        share: 100,
        lost: 50,
    };

    /// Whether one more page may become volatile, with so many volatile and in the page cache.
    pub(crate) fn allows(&self, volatile: usize, cached: usize) -> bool {
        volatile as u128 * 100 < cached as u128 * u128::from(self.share)
    }

    /// The time until the next sweep. `before` is that of last time; a sweep that found nothing to
    /// do doubles it. A sweep that is to find out what was used since the last one comes after
    /// [`Self::age`], neither earlier nor later.
    pub(crate) fn pause(&self, found_work: bool, before: u32) -> u32 {
        let first = self.age.max(SHORTEST);
        if found_work {
            first
        } else {
            before.saturating_mul(2).clamp(first, first.max(LONGEST))
        }
    }

    /// How many pages may become volatile without a wait: as many as in a second.
    pub(crate) fn burst(&self) -> usize {
        match self.rate {
            0 => usize::MAX,
            rate => rate as usize,
        }
    }

    /// How long to wait after so many pages in so many milliseconds, in milliseconds.
    pub(crate) fn wait(&self, made: usize, elapsed: u64) -> u32 {
        if self.rate == 0 {
            return 0;
        }
        let wait = (made as u64 * 1000 / u64::from(self.rate)).saturating_sub(elapsed);
        wait.try_into().unwrap_or(u32::MAX)
    }
}

/// Watches whether a class costs more than it gives.
///
/// A request to the disk for what was taken costs what a page-in would have cost had the hypervisor
/// paged it out. It pages out in groups, and one page-in brings a group back; small files, and
/// reads here and there, need a request each. So a class that loses what its guest needs can be
/// worse than none.
#[derive(Clone, Copy, Default)]
pub(crate) struct Watch {
    /// When this minute began, in milliseconds.
    begun: u64,
    /// How many requests there had been by then.
    requests: u64,
    /// The most pages that were volatile since.
    volatile: usize,
    /// Until when the class rests, if it does.
    until: Option<u64>,
}

/// What a [`Watch`] says of a class.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// It is worth it.
    Works,
    /// There were so many requests since, where so many pages were volatile: it is to rest.
    Stops(u64, usize),
    /// It rests.
    Rests,
}

impl Watch {
    /// In milliseconds: what is looked at together.
    pub(crate) const MINUTE: u64 = 60_000;
    /// For how long a class rests, in milliseconds.
    pub(crate) const REST: u64 = 10 * Self::MINUTE;
    /// Pages that a page-in brings back.
    const GROUP: u64 = 16;
    /// Requests that do not matter.
    const FEW: u64 = 64;

    /// Begins anew at `now`, with so many requests since the boot.
    pub(crate) const fn new(now: u64, requests: u64) -> Self {
        Self {
            begun: now,
            requests,
            volatile: 0,
            until: None,
        }
    }

    /// Looks at a class at `now`, with so many requests since the boot and so many pages volatile.
    pub(crate) fn look(&mut self, now: u64, requests: u64, volatile: usize, limit: u32) -> Verdict {
        match self.until {
            Some(until) if limit != 0 && now < until => return Verdict::Rests,
            Some(_) => *self = Self::new(now, requests),
            None => (),
        }
        self.volatile = self.volatile.max(volatile);
        let new = requests.saturating_sub(self.requests);
        let minutes = (now - self.begun).div_ceil(Self::MINUTE).max(1);
        let cost = new.saturating_mul(Self::GROUP * 100);
        let most = (self.volatile as u64 * u64::from(limit)).saturating_mul(minutes);
        if limit != 0 && new > Self::FEW && cost > most {
            self.until = Some(now + Self::REST);
            return Verdict::Stops(new, self.volatile);
        }
        if now - self.begun >= Self::MINUTE {
            *self = Self {
                volatile,
                ..Self::new(now, requests)
            };
        }
        Verdict::Works
    }
}

#[cfg(CONFIG_COOPMEM_PAGE_HINT_KUNIT_TEST)]
#[kernel::prelude::kunit_tests(page_hint_policy)]
mod tests {
    use super::*;

    const LIMIT: u32 = 50;
    /// Pages that are volatile, and the requests in a minute that are just not too many.
    const PAGES: usize = 32_000;
    const ENOUGH: u64 = 1_000;

    #[test]
    fn a_class_that_loses_much_rests_and_tries_again() {
        let mut watch = Watch::new(0, 7);
        assert_eq!(watch.look(1_000, 7, PAGES, LIMIT), Verdict::Works);
        // What was volatile counts, not what is left of it.
        assert_eq!(watch.look(2_000, 7 + ENOUGH, 100, LIMIT), Verdict::Works);
        assert_eq!(
            watch.look(3_000, 8 + ENOUGH, 100, LIMIT),
            Verdict::Stops(1 + ENOUGH, PAGES)
        );
        assert_eq!(watch.look(4_000, 9_000, 0, LIMIT), Verdict::Rests);
        let later = 3_000 + Watch::REST;
        assert_eq!(watch.look(later, 9_000, 0, LIMIT), Verdict::Works);
        assert_eq!(
            watch.look(later + 1, 9_100, 100, LIMIT),
            Verdict::Stops(100, 100)
        );
    }

    #[test]
    fn a_class_that_loses_slowly_goes_on() {
        let mut watch = Watch::new(0, 0);
        for minute in 1..100 {
            let requests = minute * ENOUGH;
            let verdict = watch.look(minute * Watch::MINUTE, requests, PAGES, LIMIT);
            assert_eq!(verdict, Verdict::Works);
        }
        // Who looks seldom is not misled.
        assert_eq!(
            watch.look(199 * Watch::MINUTE, 199 * ENOUGH, PAGES, LIMIT),
            Verdict::Works
        );
    }

    #[test]
    fn what_was_volatile_is_not_forgotten() {
        let mut watch = Watch::new(0, 0);
        let minute = Watch::MINUTE;
        assert_eq!(watch.look(minute, 0, PAGES, LIMIT), Verdict::Works);
        // All of it was taken, and a part is needed.
        assert_eq!(watch.look(minute + 1, ENOUGH, 0, LIMIT), Verdict::Works);
    }

    #[test]
    fn few_requests_do_not_matter() {
        let mut watch = Watch::new(0, 0);
        assert_eq!(watch.look(1, Watch::FEW, 0, LIMIT), Verdict::Works);
        assert_eq!(
            watch.look(2, Watch::FEW + 1, 0, LIMIT),
            Verdict::Stops(Watch::FEW + 1, 0)
        );
    }

    #[test]
    fn without_a_limit_no_class_stops() {
        let mut watch = Watch::new(0, 0);
        assert_eq!(watch.look(1, u64::MAX, 1, 0), Verdict::Works);
        let mut watch = Watch::new(0, 0);
        assert_eq!(watch.look(1, 100, 0, LIMIT), Verdict::Stops(100, 0));
        assert_eq!(watch.look(2, 100, 0, 0), Verdict::Works);
    }

    #[test]
    fn kvm_must_be_asked_for() {
        for hypervisor in [Hypervisor::Zvm, Hypervisor::Lpar, Hypervisor::Unknown] {
            assert!(permits(hypervisor, false));
        }
        assert!(!permits(Hypervisor::Kvm, false));
        assert!(permits(Hypervisor::Kvm, true));
    }

    #[test]
    fn the_share_is_one_of_the_page_cache() {
        let half = Tunables {
            share: 50,
            ..Tunables::DEFAULT
        };
        assert!(half.allows(0, 1));
        assert!(half.allows(499, 1000));
        assert!(!half.allows(500, 1000));
        assert!(!half.allows(0, 0));
        assert!(!Tunables { share: 0, ..half }.allows(0, 1000));
        assert!(Tunables::DEFAULT.allows(999, 1000));
    }

    #[test]
    fn with_nothing_to_do_sweeps_become_rare() {
        let tunables = Tunables {
            age: 0,
            ..Tunables::DEFAULT
        };
        assert_eq!(tunables.pause(true, 0), SHORTEST);
        assert_eq!(tunables.pause(false, SHORTEST), 2 * SHORTEST);
        assert_eq!(tunables.pause(false, LONGEST - 1), LONGEST);
        assert_eq!(tunables.pause(false, u32::MAX), LONGEST);
        // Work brings them back.
        assert_eq!(tunables.pause(true, LONGEST), SHORTEST);
    }

    #[test]
    fn a_sweep_waits_for_folios_to_come_of_age() {
        let old = Tunables {
            age: 2 * LONGEST,
            ..Tunables::DEFAULT
        };
        assert_eq!(old.pause(true, SHORTEST), 2 * LONGEST);
        assert_eq!(old.pause(false, SHORTEST), 2 * LONGEST);
        assert_eq!(old.pause(false, 2 * LONGEST), 2 * LONGEST);
    }

    #[test]
    fn the_rate_is_kept() {
        let slow = Tunables {
            rate: 100,
            ..Tunables::DEFAULT
        };
        assert_eq!(slow.wait(0, 0), 0);
        assert_eq!(slow.wait(50, 0), 500);
        assert_eq!(slow.wait(50, 200), 300);
        assert_eq!(slow.wait(50, 500), 0);
        assert_eq!(slow.wait(usize::MAX / 1000, 0), u32::MAX);
        assert_eq!(slow.burst(), 100);
        assert_eq!(Tunables::DEFAULT.wait(usize::MAX, 0), 0);
        assert_eq!(Tunables::DEFAULT.burst(), usize::MAX);
    }
}
