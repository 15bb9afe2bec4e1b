// SPDX-License-Identifier: GPL-2.0

//! Pages that are swapped out: one persistent pool.

use core::ops::RangeInclusive;

use kernel::{
    mm::{
        frontswap::{
            Backend,
            Device, //
        },
        tmem::{
            Source,
            Target, //
        },
    },
    prelude::*,
    s390::tmem::{
        Kind,
        Object,
        PoolId,
        Tmem, //
    },
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    }, //
};

use crate::{
    counters::Counters,
    events, //
};

/// How many pages are not put after the hypervisor has refused some: its store is full, or the
/// guest's share of it.
const PAUSE: i64 = 64;

/// The pool of swapped pages. Dropping it unmakes it.
pub(crate) struct Swap {
    tmem: Arc<Tmem>,
    pool: PoolId,
    /// How many pages of the pause are left.
    pause: Atomic<i64>,
    counters: &'static Counters,
}

fn object(device: Device) -> Object {
    Object([u64::from(device.number()), 0, 0])
}

impl Swap {
    /// Makes the pool.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if there can be no more pools.
    pub(crate) fn new(tmem: Arc<Tmem>, counters: &'static Counters) -> Result<Self> {
        let pool = tmem
            .create(Kind::Persistent, *b"swap\0\0\0\0\0\0\0\0\0\0\0\0")
            .map_err(|_| ENOSPC)?;
        Ok(Self {
            tmem,
            pool,
            pause: Atomic::new(0),
            counters,
        })
    }
}

impl Backend for Swap {
    fn put(&self, device: Device, slot: u64, pages: &Source<'_>) -> bool {
        let nr = pages.frames().len();
        if self.pause.load(Relaxed) > 0 {
            self.pause.fetch_sub(nr as i64, Relaxed);
            self.counters.left_out(nr);
            return false;
        }
        let put = self
            .tmem
            .put(self.pool, object(device), slot, pages)
            .is_ok();
        if !put {
            self.pause.store(PAUSE, Relaxed);
        }
        events::swap_put(device, slot, nr, put);
        self.counters.put(put, nr)
    }

    fn get(&self, device: Device, slot: u64, pages: &Target<'_>) -> bool {
        let nr = pages.frames().len();
        let hit = self
            .tmem
            .get(self.pool, object(device), slot, pages)
            .is_ok();
        events::swap_get(device, slot, nr, hit);
        self.counters.get(hit, nr)
    }

    fn flush(&self, device: Device, slots: RangeInclusive<u64>) {
        self.counters.flush();
        // If there is no such pool any more the pages are gone, too.
        self.tmem.flush(self.pool, object(device), slots).ok();
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        self.tmem.destroy(self.pool);
    }
}
