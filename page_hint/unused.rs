// SPDX-License-Identifier: GPL-2.0

//! Pages that have been free for a while become unused: `page_hint.unused=lazy`.

use kernel::{
    mm,
    page_reporting::{
        FreeBlock,
        Operations,
        Registration, //
    },
    prelude::*,
    s390::page_states,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};

/// When to look for free pages: not while many are freed, since what is free then is used again
/// soon, and would only become unused and stable in turn. One task asks at a time.
struct Pace {
    /// How many pages had been freed when somebody asked last.
    freed: Atomic<usize>,
    /// How often the answer was no since.
    waited: Atomic<u32>,
}

impl Pace {
    /// More pages than an idle system frees from one time to the next.
    const BUSY: usize = 1024;
    /// How often it may be no: for eight seconds.
    const LONGEST: u32 = 4;

    const fn new() -> Self {
        Self {
            freed: Atomic::new(0),
            waited: Atomic::new(0),
        }
    }

    /// Whether to look now, with so many pages freed since the boot.
    fn allows(&self, freed: usize) -> bool {
        let busy = freed.wrapping_sub(self.freed.load(Relaxed)) > Self::BUSY;
        let waited = self.waited.load(Relaxed);
        let wait = busy && waited < Self::LONGEST;
        self.freed.store(freed, Relaxed);
        self.waited
            .store(if wait { waited + 1 } else { 0 }, Relaxed);
        !wait
    }
}

static PACE: Pace = Pace::new();

/// Makes the pages unused that are reported as free.
pub(crate) struct Reporter;

impl Operations for Reporter {
    // Each single page counts.
    const ORDER: u32 = 0;
    // An ESSA is short, and each block is reported only once.
    const PASSES: u32 = 1;

    fn begin() -> bool {
        PACE.allows(mm::freed_pages())
    }

    fn report(block: FreeBlock<'_>) -> Result {
        page_states::report(&block)
    }
}

/// Starts if the parameter says so.
///
/// Without memory, or if somebody else has free pages reported, pages become unused when they are
/// freed, as they do by default.
pub(crate) fn start() -> Option<Registration<Reporter>> {
    if page_states::is_poisoned() {
        pr_info!("page_poison looks at free pages: none becomes unused\n");
        return None;
    }
    if !page_states::is_lazy() {
        return None;
    }
    let started = Registration::new().and_then(|reporter| {
        page_states::start_lazy()?;
        Ok(reporter)
    });
    if let Err(error) = started {
        pr_warn!("unused=lazy is not possible ({error:?}): unused=classic instead\n");
        page_states::be_classic().ok();
    }
    started.ok()
}

#[cfg(CONFIG_COOPMEM_PAGE_HINT_KUNIT_TEST)]
#[kunit_tests(page_hint_pace)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_system_is_looked_at() {
        let pace = Pace::new();
        assert!(pace.allows(Pace::BUSY));
        assert!(pace.allows(2 * Pace::BUSY));
        assert!(pace.allows(2 * Pace::BUSY));
    }

    #[test]
    fn a_busy_one_is_looked_at_when_it_becomes_quiet() {
        let pace = Pace::new();
        assert!(!pace.allows(10 * Pace::BUSY));
        assert!(!pace.allows(20 * Pace::BUSY));
        assert!(pace.allows(21 * Pace::BUSY));
    }

    #[test]
    fn one_that_stays_busy_is_looked_at_now_and_then() {
        let pace = Pace::new();
        let mut looks = 0;
        for time in 1..=3 * (Pace::LONGEST as usize + 1) {
            looks += u32::from(pace.allows(time * 2 * Pace::BUSY));
        }
        assert_eq!(looks, 3);
    }

    #[test]
    fn the_counter_may_wrap() {
        let pace = Pace::new();
        pace.allows(usize::MAX);
        assert!(pace.allows(1));
    }
}
