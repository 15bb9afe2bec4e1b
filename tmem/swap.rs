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
    sync::Arc, //
};

use crate::counters::Counters;

/// The pool of swapped pages. Dropping it unmakes it.
pub(crate) struct Swap {
    tmem: Arc<Tmem>,
    pool: PoolId,
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
            counters,
        })
    }
}

impl Backend for Swap {
    fn put(&self, device: Device, slot: u64, pages: &Source<'_>) -> bool {
        let put = self
            .tmem
            .put(self.pool, object(device), slot, pages)
            .is_ok();
        self.counters.put(put, pages.frames().len())
    }

    fn get(&self, device: Device, slot: u64, pages: &Target<'_>) -> bool {
        let hit = self
            .tmem
            .get(self.pool, object(device), slot, pages)
            .is_ok();
        self.counters.get(hit, pages.frames().len())
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
