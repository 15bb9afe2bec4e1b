// SPDX-License-Identifier: GPL-2.0

//! The sweeper: a thread that makes page cache volatile.
//!
//! It goes through all page frames, again and again, and makes the folios volatile that nobody has
//! used for a while. A guest that does nothing is left alone: as long as a sweep finds nothing to
//! do, the time until the next one doubles.

use kernel::{
    kthread,
    mm::{
        self,
        folio::{
            drain_batches,
            file_pages,
            Folio,
            LockedFolio, //
        }, //
    },
    new_condvar,
    new_mutex,
    page::Pfn,
    prelude::*,
    s390::volatile::{
        stats,
        Mappings,
        Session,
        Why, //
    },
    sync::{
        atomic::Relaxed,
        Arc,
        CondVar,
        CondVarTimeoutResult,
        Mutex,
        MutexGuard, //
    },
    task::cond_resched,
    time::{
        msecs_to_jiffies,
        Instant,
        Monotonic, //
    }, //
};

use crate::policy::{
    Class,
    Classes,
    Tunables,
    Verdict,
    Watch, //
};

/// What came of the folios that the last sweep looked at, in pages.
#[derive(Clone, Copy, Default)]
pub(crate) struct Tally {
    /// Made volatile by it.
    pub(crate) made: usize,
    /// Used since the sweep before.
    pub(crate) used: usize,
    /// Left because enough of the page cache is volatile, or only what is mapped shall be.
    pub(crate) limited: usize,
    /// Left because cleancache keeps them when memory is needed.
    pub(crate) kept: usize,
    /// Left for another reason.
    pub(crate) left: [usize; Why::ALL.len()],
}

struct State {
    tunables: Tunables,
    /// The tunables were written to.
    changed: bool,
    watches: Classes<Watch>,
    /// Which of the classes that are on rest.
    rests: Classes<bool>,
    /// Complete sweeps since the boot.
    sweeps: u64,
    last: Tally,
}

/// The sweeper, for its thread and those that tell it something.
#[pin_data]
pub(crate) struct Sweeper {
    #[pin]
    state: Mutex<State>,
    #[pin]
    changed: CondVar,
    start: Instant<Monotonic>,
}

/// How many page frames are looked at before the thread lets others go first.
const CHUNK: usize = 4096;

impl Sweeper {
    pub(crate) fn new(tunables: Tunables) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                state <- new_mutex!(State {
                    tunables,
                    changed: false,
                    watches: Classes::default(),
                    rests: Classes::default(),
                    sweeps: 0,
                    last: Tally::default(),
                }),
                changed <- new_condvar!(),
                start: Instant::now(),
            }),
            GFP_KERNEL,
        )
    }

    pub(crate) fn tunables(&self) -> Tunables {
        self.state.lock().tunables
    }

    /// Changes the tunables, and begins a new sweep at once.
    pub(crate) fn tune(&self, change: impl FnOnce(&mut Tunables)) {
        self.change(|state| change(&mut state.tunables));
    }

    /// Switches a class on or off. Both are looked at anew.
    pub(crate) fn switch(&self, class: Class, on: bool) {
        self.change(|state| {
            state.tunables.volatile[class] = on;
            for class in Class::ALL {
                state.watches[class] = Watch::new(self.age(), requests(class, &state.tunables));
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        change(&mut state);
        state.changed = true;
        self.changed.notify_all();
    }

    /// How many sweeps were completed, what came of the last one, and which classes rest.
    pub(crate) fn last(&self) -> (u64, Tally, Classes<bool>) {
        let state = self.state.lock();
        (state.sweeps, state.last, state.rests)
    }

    /// Sweeps until the thread that runs this is to stop.
    pub(crate) fn run(&self) {
        let mut session = None;
        let mut pause = 0;
        while let Some(tunables) = self.next(pause) {
            if tunables.volatile == Classes::default() {
                // All folios become stable.
                session = None;
                pause = self.rest();
                continue;
            }
            let session = match &session {
                Some(session) => session,
                None => match Session::begin() {
                    Ok(begun) => session.insert(begun),
                    Err(_) => return,
                },
            };
            let Some(tally) = self.sweep(session, &tunables) else {
                continue;
            };
            pause = tunables.pause(tally.made + tally.used != 0, pause);
            let mut state = self.state.lock();
            state.sweeps += 1;
            state.last = tally;
        }
    }

    /// Waits so many milliseconds or until the tunables change, and returns them. Those classes are
    /// off in them that rest.
    fn next(&self, pause: u32) -> Option<Tunables> {
        let mut state = self.state.lock();
        self.wait(&mut state, pause);
        state.changed = false;
        let volatile = self.watch(&mut state);
        let tunables = Tunables {
            volatile,
            ..state.tunables
        };
        (!kthread::should_stop()).then_some(tunables)
    }

    /// Which classes are on and worth it. Has a sweep broken off if one is no more, and says so.
    fn watch(&self, state: &mut State) -> Classes<bool> {
        let mut works = Classes::default();
        for class in Class::ALL {
            let State {
                tunables, watches, ..
            } = state;
            let (requests, volatile) = (requests(class, tunables), volatile());
            let verdict = watches[class].look(self.age(), requests, volatile, tunables.lost);
            works[class] = tunables.volatile[class] && verdict == Verdict::Works;
            state.rests[class] = tunables.volatile[class] && !works[class];
            if let (true, Verdict::Stops(requests, volatile)) = (state.rests[class], verdict) {
                state.changed = true;
                pr_info!(
                    "{requests} requests to read again what the hypervisor took, of {volatile} \
                     pages: no {} becomes volatile for {} minutes\n",
                    class.name(),
                    Watch::REST / Watch::MINUTE
                );
            }
        }
        works
    }

    /// How many milliseconds ago this began.
    fn age(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    /// The time until there may be something to do, in milliseconds.
    fn rest(&self) -> u32 {
        if self.state.lock().rests == Classes::default() {
            u32::MAX
        } else {
            Watch::MINUTE as u32
        }
    }

    /// Waits so many milliseconds. False if there is something to do before they are over: the
    /// tunables have changed, or the thread is to stop.
    fn wait(&self, state: &mut MutexGuard<'_, State>, milliseconds: u32) -> bool {
        let mut left = msecs_to_jiffies(milliseconds);
        while !state.changed && left > 0 && !kthread::should_stop() {
            left = match self.changed.wait_interruptible_timeout(state, left) {
                CondVarTimeoutResult::Timeout => 0,
                CondVarTimeoutResult::Woken { jiffies } => jiffies,
                CondVarTimeoutResult::Signal { jiffies } => jiffies,
            };
        }
        !state.changed && !kthread::should_stop()
    }

    /// Looks at all folios once, unless new tunables or the end of the thread break it off.
    fn sweep(&self, session: &Session, tunables: &Tunables) -> Option<Tally> {
        // Not to find in use what a processor was merely the last to use.
        drain_batches();
        let start = Instant::<Monotonic>::now();
        let mut tally = Tally::default();
        let mut frame = Pfn::new(0);
        while frame < mm::end_of_frames() {
            let chunk = frame.as_usize() + CHUNK;
            let enough = tally.made.saturating_add(tunables.burst());
            let cached = file_pages();
            while frame.as_usize() < chunk && tally.made < enough {
                let folio = Folio::on_lru(frame);
                if let Some(folio) = &folio {
                    tally.count(look(session, tunables, cached, folio));
                }
                frame = folio.map_or(frame, |folio| folio.frames().last()).next();
            }
            cond_resched();
            let wait = tunables.wait(tally.made, start.elapsed().as_millis() as u64);
            let mut state = self.state.lock();
            self.watch(&mut state);
            if !self.wait(&mut state, wait) {
                return None;
            }
        }
        Some(tally)
    }
}

/// How many pages are volatile.
fn volatile() -> usize {
    stats().volatile.load(Relaxed) as usize
}

/// How often a class had the disk asked for what was lost, since the boot: by reads, or by faults
/// if it is mapped. A class that is on alone has both.
fn requests(class: Class, tunables: &Tunables) -> u64 {
    let both = tunables.volatile == Classes([true; Class::ALL.len()]);
    let reads = stats().lost_to_reads.load(Relaxed);
    let faults = stats().lost_to_faults.load(Relaxed);
    match class {
        _ if !both => reads + faults,
        Class::Unmapped => reads,
        Class::Mapped => faults,
    }
}

/// What came of a folio.
enum Found {
    Made(usize),
    Used(usize),
    Limited(usize),
    Kept(usize),
    Left(usize, Why),
}

/// Makes a folio volatile, if that is allowed with so many pages in the page cache.
fn look(session: &Session, tunables: &Tunables, cached: usize, folio: &Folio) -> Found {
    let pages = folio.frames().len();
    if !tunables.allows(volatile(), cached) {
        return Found::Limited(pages);
    }
    let mapped = folio.is_mapped_file();
    if !mapped && !tunables.volatile[Class::Unmapped] {
        return Found::Limited(pages);
    }
    let mappings = if tunables.volatile[Class::Mapped] {
        Mappings::Unmap
    } else {
        Mappings::Keep
    };
    let idle: fn(&Folio) -> bool = if mapped && mappings == Mappings::Unmap {
        Folio::mark_idle_in_mappings
    } else {
        Folio::mark_idle
    };
    if tunables.age != 0 && !idle(folio) {
        return Found::Used(pages);
    }
    let made = match folio.try_lock() {
        Some(locked) if is_kept(&locked) => return Found::Kept(pages),
        Some(locked) => session.make_volatile(&locked, mappings),
        None => Err(Why::Busy),
    };
    match made {
        Ok(()) => Found::Made(pages),
        Err(why) => Found::Left(pages, why),
    }
}

/// Whether cleancache keeps a folio when memory is needed: what the hypervisor took it would lose.
#[cfg(CONFIG_CLEANCACHE)]
fn is_kept(folio: &LockedFolio<'_>) -> bool {
    mm::cleancache::wants(folio)
}

#[cfg(not(CONFIG_CLEANCACHE))]
fn is_kept(_: &LockedFolio<'_>) -> bool {
    false
}

impl Tally {
    fn count(&mut self, found: Found) {
        match found {
            Found::Made(pages) => self.made += pages,
            Found::Used(pages) => self.used += pages,
            Found::Limited(pages) => self.limited += pages,
            Found::Kept(pages) => self.kept += pages,
            Found::Left(pages, why) => self.left[why as usize] += pages,
        }
    }
}
