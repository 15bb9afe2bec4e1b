// SPDX-License-Identifier: GPL-2.0

//! What the balloon has done, and `/sys/kernel/debug/cmm`, where it can be seen.

use kernel::{
    debugfs::{
        Scope,
        ScopedDir, //
    },
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    }, //
};

use crate::{
    balloon::Engine,
    ledger::Pool,
    message::Refusal, //
};

/// Counts something. Wraps around in a few hundred years.
pub(crate) struct Counter(Atomic<u64>);

impl Counter {
    const fn new() -> Self {
        Self(Atomic::new(0))
    }

    /// Counts `nr` more.
    pub(crate) fn add(&self, nr: usize) {
        self.0.fetch_add(nr as u64, Relaxed);
    }
}

/// Counts since the module was loaded.
pub(crate) struct Counters {
    /// Messages that were followed.
    pub(crate) accepted: Counter,
    /// Messages that were not, by [`Refusal::index`].
    pub(crate) refused: [Counter; Refusal::COUNT],
    /// DIAGNOSE X'10' issued.
    pub(crate) diagnoses: Counter,
    /// Pages that these gave to the hypervisor.
    pub(crate) released: Counter,
    /// Pages taken back.
    pub(crate) returned: Counter,
    /// Balloon pages that Linux has moved.
    pub(crate) migrated: Counter,
    /// Pages given back to page reclaim.
    pub(crate) reclaimed: Counter,
    /// Pages given back because the guest ran out of memory.
    pub(crate) oom: Counter,
    /// How often the balloon had to wait with its target not met.
    pub(crate) pauses: Counter,
}

impl Counters {
    /// All at 0.
    pub(crate) const fn new() -> Self {
        Self {
            accepted: Counter::new(),
            refused: [const { Counter::new() }; Refusal::COUNT],
            diagnoses: Counter::new(),
            released: Counter::new(),
            returned: Counter::new(),
            migrated: Counter::new(),
            reclaimed: Counter::new(),
            oom: Counter::new(),
            pauses: Counter::new(),
        }
    }
}

/// The files below `/sys/kernel/debug/cmm`. Dropping it removes them.
pub(crate) type Files = Scope<Arc<Engine>>;

/// Makes the files.
pub(crate) fn files(engine: Arc<Engine>) -> impl PinInit<Files> {
    Scope::dir(engine, c"cmm", |engine, dir| {
        balloon(engine, dir);
        counters(engine.counters(), dir);
    })
}

/// Makes the files that show the balloon as it is now.
fn balloon<'data>(engine: &'data Arc<Engine>, dir: &ScopedDir<'data, '_>) {
    dir.read_callback_file(c"pages", engine, &|engine, f| {
        f.write_fmt(fmt!("{}\n", engine.account(Pool::Fixed).held))
    });
    dir.read_callback_file(c"target", engine, &|engine, f| {
        f.write_fmt(fmt!("{}\n", engine.account(Pool::Fixed).target))
    });
    dir.read_callback_file(c"timed_pages", engine, &|engine, f| {
        f.write_fmt(fmt!("{}\n", engine.account(Pool::Timed).held))
    });
    dir.read_callback_file(c"timed_target", engine, &|engine, f| {
        f.write_fmt(fmt!("{}\n", engine.account(Pool::Timed).target))
    });
    dir.read_callback_file(c"self_pages", engine, &|engine, f| {
        f.write_fmt(fmt!("{}\n", engine.account(Pool::Own).held))
    });
    dir.read_callback_file(c"self_target", engine, &|engine, f| {
        f.write_fmt(fmt!("{}\n", engine.account(Pool::Own).target))
    });
    dir.read_callback_file(c"isolated", engine, &|engine, f| {
        f.write_fmt(fmt!("{}\n", engine.isolated()))
    });
    dir.read_callback_file(c"floor", engine, &|engine, f| {
        f.write_fmt(fmt!("{}\n", engine.floor()))
    });
    dir.read_callback_file(c"state", engine, &|engine, f| {
        f.write_fmt(fmt!("{}\n", engine.state()))
    });
}

/// Makes the files that show what has been done.
fn counters<'data>(counters: &'data Counters, dir: &ScopedDir<'data, '_>) {
    dir.read_only_file(c"diagnoses", &counters.diagnoses.0);
    dir.read_only_file(c"pages_released", &counters.released.0);
    dir.read_only_file(c"pages_returned", &counters.returned.0);
    dir.read_only_file(c"pages_migrated", &counters.migrated.0);
    dir.read_only_file(c"reclaim_given_back", &counters.reclaimed.0);
    dir.read_only_file(c"oom_given_back", &counters.oom.0);
    dir.read_only_file(c"pauses", &counters.pauses.0);

    let dir = dir.dir(c"messages");
    dir.read_only_file(c"accepted", &counters.accepted.0);
    for refusal in Refusal::ALL {
        let counter = &counters.refused[refusal.index()];
        dir.read_only_file(refusal.counter_name(), &counter.0);
    }
}
