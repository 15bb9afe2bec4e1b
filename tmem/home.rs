// SPDX-License-Identifier: GPL-2.0

//! Brings swapped pages home when the guest has room for them.
//!
//! The hypervisor cannot drop what is in a persistent pool. A guest that needed it once would
//! occupy it until somebody touches each of the pages, which may be never.

use kernel::{
    kthread,
    mm::{
        self,
        frontswap, //
    },
    new_condvar,
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        CondVar,
        CondVarTimeoutResult,
        Mutex, //
    },
    time::msecs_to_jiffies, //
};

use crate::{
    control::Control,
    events, //
};

/// How often the thread looks, if nothing else is said, in seconds.
const SECONDS: u32 = 5;

/// The longest time between looks, in milliseconds: while there was nothing to do it doubles.
const LONGEST: u32 = 80_000;

/// How many pages come home at a time: this part of those that are away, but at least so many.
const PART: usize = 8;
const LEAST: usize = 256;

/// A part of the guest's memory, one in so many pages, that must be available besides.
const RESERVE: usize = 4;

/// How many of the pages that are `away` may come home while `available` of `total` pages are.
fn room(available: usize, total: usize, away: usize) -> usize {
    let spare = available.saturating_sub(total / RESERVE);
    (away / PART).max(LEAST).min(away).min(spare / 2)
}

struct State {
    /// 0: never.
    seconds: u32,
    /// It was written to.
    changed: bool,
}

/// When to look, for the thread and those that change it.
#[pin_data]
pub(crate) struct Home {
    #[pin]
    state: Mutex<State>,
    #[pin]
    changed: CondVar,
}

impl Home {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            state <- new_mutex!(State {
                seconds: SECONDS,
                changed: false,
            }),
            changed <- new_condvar!(),
        })
    }

    /// How many seconds there are between looks; 0: never.
    pub(crate) fn seconds(&self) -> u32 {
        self.state.lock().seconds
    }

    pub(crate) fn set_seconds(&self, seconds: u32) {
        let mut state = self.state.lock();
        state.seconds = seconds;
        state.changed = true;
        self.changed.notify_all();
    }

    /// Waits for the next look. False if the thread is to stop.
    fn wait(&self, idle: &mut u32) -> bool {
        let mut state = self.state.lock();
        let pause = match state.seconds {
            0 => u32::MAX,
            seconds => {
                let least = seconds.saturating_mul(1000);
                *idle = (*idle).clamp(least, LONGEST.max(least));
                *idle
            }
        };
        let mut left = msecs_to_jiffies(pause);
        while !state.changed && left > 0 && !kthread::should_stop() {
            left = match self.changed.wait_interruptible_timeout(&mut state, left) {
                CondVarTimeoutResult::Timeout => 0,
                CondVarTimeoutResult::Woken { jiffies } => jiffies,
                CondVarTimeoutResult::Signal { jiffies } => jiffies,
            };
        }
        state.changed = false;
        !kthread::should_stop()
    }
}

/// Brings pages home until the thread that runs this is to stop.
pub(crate) fn run(control: &Arc<Control>) {
    let mut idle = 0;
    while control.home().wait(&mut idle) {
        let room = match control.home().seconds() {
            0 => 0,
            _ => room(mm::available_pages(), mm::total_pages(), frontswap::pages()),
        };
        // What fails is tried again the next time: the pages stay where they are.
        match control.shrink_swap(room) {
            Ok(home) if home > 0 => {
                events::home(home);
                idle = 0;
            }
            _ => idle = idle.saturating_mul(2),
        }
    }
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
