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
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
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
    governor::{
        Governor,
        WINDOW, //
    },
    home, //
};

/// How often swapped pages may come home, if nothing else is said, in seconds.
const SECONDS: u32 = 5;

/// The time between looks, in milliseconds: the shortest and the longest. While there is nothing to
/// do it doubles.
const PAUSE: [u32; 2] = [1_000, 8_000];

/// When to look, for the thread and those that give it reason to.
#[pin_data]
pub(crate) struct Keeper {
    /// How often swapped pages may come home, in seconds; 0: never.
    seconds: Atomic<u32>,
    /// How many pages of page cache were put.
    puts: Atomic<u64>,
    /// There is reason to look now.
    due: Atomic<bool>,
    #[pin]
    waiting: Mutex<()>,
    #[pin]
    became_due: CondVar,
}

impl Keeper {
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                seconds: Atomic::new(SECONDS),
                puts: Atomic::new(0),
                due: Atomic::new(false),
                waiting <- new_mutex!(()),
                became_due <- new_condvar!(),
            }),
            GFP_KERNEL,
        )
    }

    /// How often swapped pages may come home, in seconds; 0: never.
    pub(crate) fn seconds(&self) -> u32 {
        self.seconds.load(Relaxed)
    }

    pub(crate) fn set_seconds(&self, seconds: u32) {
        self.seconds.store(seconds, Relaxed);
        self.look();
    }

    /// Counts `nr` pages of page cache that were put. As soon as there are enough to be judged they
    /// are: however long the thread meant to wait, useless ones cost no more. Any context.
    pub(crate) fn count_puts(&self, nr: usize) {
        let before = self.puts.fetch_add(nr as u64, Relaxed);
        if before / WINDOW != (before + nr as u64) / WINDOW {
            self.look();
        }
    }

    /// Has the thread look now. Any context.
    ///
    /// Without the lock, which puts must not take: the thread does not hear this if it is just
    /// about to wait. It hears the next one, and does not wait for long.
    pub(crate) fn look(&self) {
        self.due.store(true, Relaxed);
        self.became_due.notify_all();
    }

    /// Waits so many milliseconds, or until there is reason to look. False if the thread is to
    /// stop.
    fn wait(&self, pause: u32) -> bool {
        let mut waiting = self.waiting.lock();
        let mut left = msecs_to_jiffies(pause);
        while !self.due.load(Relaxed) && left > 0 && !kthread::should_stop() {
            left = match self
                .became_due
                .wait_interruptible_timeout(&mut waiting, left)
            {
                CondVarTimeoutResult::Timeout => 0,
                CondVarTimeoutResult::Woken { jiffies } => jiffies,
                CondVarTimeoutResult::Signal { jiffies } => jiffies,
            };
        }
        self.due.store(false, Relaxed);
        !kthread::should_stop()
    }
}

/// Looks until the thread that runs this is to stop.
pub(crate) fn run(control: &Control) {
    let start = Instant::<Monotonic>::now();
    // Time does not go backwards.
    let now = || u64::try_from(start.elapsed().as_millis()).unwrap_or(0) / 1000;
    let mut governor = Governor::new();
    let mut home_due = 0;
    let mut pause = PAUSE[0];
    while control.keeper().wait(pause) {
        let now = now();
        let busy = control.govern(&mut governor);
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
