// SPDX-License-Identifier: GPL-2.0

//! What has become of pages, and `/sys/kernel/debug/tmem`, where it can be seen.

use kernel::{
    debugfs::{
        Scope,
        ScopedDir, //
    },
    mm::frontswap,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    }, //
};

use crate::control::Control;

/// Counts something. Wraps around in a few hundred years.
struct Counter(Atomic<u64>);

impl Counter {
    const fn new() -> Self {
        Self(Atomic::new(0))
    }

    /// Counts `nr` more.
    fn add(&self, nr: usize) {
        self.0.fetch_add(nr as u64, Relaxed);
    }
}

/// Counts of one half, in pages if nothing else is said, since the module was loaded.
pub(crate) struct Counters {
    /// Put.
    puts: Counter,
    /// Not taken by the hypervisor.
    refused: Counter,
    /// Not even offered to it, since it had just refused others.
    left_out: Counter,
    /// Got.
    hits: Counter,
    /// Not found.
    misses: Counter,
    /// Calls to forget pages.
    flushes: Counter,
}

impl Counters {
    pub(crate) const fn new() -> Self {
        Self {
            puts: Counter::new(),
            refused: Counter::new(),
            left_out: Counter::new(),
            hits: Counter::new(),
            misses: Counter::new(),
            flushes: Counter::new(),
        }
    }

    /// Counts a put of `nr` pages; returns whether it was done.
    pub(crate) fn put(&self, done: bool, nr: usize) -> bool {
        if done { &self.puts } else { &self.refused }.add(nr);
        done
    }

    /// Counts `nr` pages whose put was left out.
    pub(crate) fn left_out(&self, nr: usize) {
        self.left_out.add(nr);
    }

    /// Counts a get of `nr` pages; returns whether it was done.
    pub(crate) fn get(&self, done: bool, nr: usize) -> bool {
        if done { &self.hits } else { &self.misses }.add(nr);
        done
    }

    /// Counts a flush.
    pub(crate) fn flush(&self) {
        self.flushes.add(1);
    }

    fn files<'data>(&'data self, dir: &ScopedDir<'data, '_>) {
        dir.read_only_file(c"puts", &self.puts.0);
        dir.read_only_file(c"refused", &self.refused.0);
        dir.read_only_file(c"hits", &self.hits.0);
        dir.read_only_file(c"misses", &self.misses.0);
        dir.read_only_file(c"flushes", &self.flushes.0);
    }
}

/// The files below `/sys/kernel/debug/tmem`. Dropping it removes them.
pub(crate) type Files = Scope<Arc<Control>>;

/// Makes the files.
pub(crate) fn files(control: Arc<Control>) -> impl PinInit<Files> {
    Scope::dir(control, c"tmem", |control, dir| {
        let cache = dir.dir(c"cache");
        control.cache_counters().files(&cache);
        cache.read_callback_file(c"state", control, &|control, f| {
            f.write_fmt(fmt!("{}\n", control.cache_state()))
        });
        let dir = dir.dir(c"swap");
        control.swap_counters().files(&dir);
        dir.read_only_file(c"left_out", &control.swap_counters().left_out.0);
        dir.read_callback_file(c"pages", control, &|_, f| {
            f.write_fmt(fmt!("{}\n", frontswap::pages()))
        });
    })
}
