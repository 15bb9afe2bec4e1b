// SPDX-License-Identifier: GPL-2.0

//! The keeper: a thread that looks from time to time whether pools for page cache are worth it, as
//! [`governor`](crate::governor) says, and whether swapped pages can come [`home`].

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
        CondVar,
        CondVarTimeoutResult,
        Mutex, //
    },
    time::{
        msecs_to_jiffies,
        Instant,
        Monotonic, //
    }, //
};

use crate::{
    control::Control,
    events,
    governor::Governor,
    home, //
};

/// How often swapped pages may come home, if nothing else is said, in seconds.
const SECONDS: u32 = 5;

/// The time between looks, in milliseconds: the shortest and the longest. While there is nothing to
/// do it doubles.
const PAUSE: [u32; 2] = [1_000, 8_000];

struct State {
    /// How often swapped pages may come home, in seconds; 0: never.
    seconds: u32,
    /// It was written to.
    changed: bool,
}

/// When to look, for the thread and those that change it.
#[pin_data]
pub(crate) struct Keeper {
    #[pin]
    state: Mutex<State>,
    #[pin]
    changed: CondVar,
}

impl Keeper {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            state <- new_mutex!(State {
                seconds: SECONDS,
                changed: false,
            }),
            changed <- new_condvar!(),
        })
    }

    /// How often swapped pages may come home, in seconds; 0: never.
    pub(crate) fn seconds(&self) -> u32 {
        self.state.lock().seconds
    }

    pub(crate) fn set_seconds(&self, seconds: u32) {
        let mut state = self.state.lock();
        state.seconds = seconds;
        state.changed = true;
        self.changed.notify_all();
    }

    /// Waits so many milliseconds, or until something changes. False if the thread is to stop.
    fn wait(&self, pause: u32) -> bool {
        let mut state = self.state.lock();
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

/// Looks until the thread that runs this is to stop.
pub(crate) fn run(control: &Control) {
    let start = Instant::<Monotonic>::now();
    // Time does not go backwards.
    let now = || u64::try_from(start.elapsed().as_millis()).unwrap_or(0) / 1000;
    let mut governor = Governor::new(now());
    let mut home_due = 0;
    let mut pause = PAUSE[0];
    while control.keeper().wait(pause) {
        let now = now();
        let busy = control.govern(&mut governor, now);
        let seconds = u64::from(control.keeper().seconds());
        if seconds != 0 && home_due <= now {
            home_due = now + seconds;
            bring_home(control);
        }
        pause = if busy || frontswap::pages() != 0 {
            PAUSE[0]
        } else {
            (pause * 2).min(PAUSE[1])
        };
    }
}

fn bring_home(control: &Control) {
    let room = home::room(mm::available_pages(), mm::total_pages(), frontswap::pages());
    // What fails is tried again the next time: the pages stay where they are.
    if let Ok(home @ 1..) = control.shrink_swap(room) {
        events::home(home);
    }
}
