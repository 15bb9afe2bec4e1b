// SPDX-License-Identifier: GPL-2.0

//! What the sweeper goes by: pure arithmetic.

use kernel::s390::machine::Hypervisor;

/// Whether page cache may become volatile under such a hypervisor.
///
/// KVM, as of Linux 7.3, does not keep in mind that it discarded a page: the guest would find
/// zeroes and take them for the file's content.
pub(crate) fn permits(hypervisor: Hypervisor, forced: bool) -> bool {
    hypervisor != Hypervisor::Kvm || forced
}

/// What an administrator can choose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Tunables {
    /// Whether there shall be volatile folios at all.
    pub(crate) volatile: bool,
    /// How long a folio must not have been used, in milliseconds.
    pub(crate) age: u32,
    /// How many pages become volatile in a second at most; 0: any number.
    pub(crate) rate: u32,
    /// How much of the page cache may be volatile, in percent.
    pub(crate) share: u32,
}

/// The time between two sweeps that have something to do, at the least, in milliseconds.
const SHORTEST: u32 = 1_000;
/// The time until the next sweep, at the most, in milliseconds.
const LONGEST: u32 = 60_000;

impl Tunables {
    /// As documented.
    pub(crate) const DEFAULT: Self = Self {
        volatile: false,
        age: 10_000,
        rate: 0,
        share: 100,
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

#[cfg(CONFIG_COOPMEM_PAGE_HINT_KUNIT_TEST)]
#[kernel::prelude::kunit_tests(page_hint_policy)]
mod tests {
    use super::*;

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
