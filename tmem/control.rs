// SPDX-License-Identifier: GPL-2.0

//! Switching both halves on and off.

use kernel::{
    mm::{
        self,
        cleancache,
        frontswap, //
    },
    new_mutex,
    prelude::*,
    s390::tmem::Tmem,
    sync::{
        Arc,
        Mutex, //
    }, //
};

use crate::{
    cache::Cache,
    counters::Counters,
    events,
    governor::Governor,
    keeper::Keeper,
    swap::Swap, //
};

static CACHE_COUNTERS: Counters = Counters::new();
static SWAP_COUNTERS: Counters = Counters::new();

/// What becomes of page cache.
pub(crate) enum Cached {
    /// It is not put.
    Off,
    /// It is put.
    On(cleancache::Registration, Arc<Cache>),
    /// It is not put, since it was not worth it. That is tried again later.
    Resting,
}

/// What is on. Dropping it switches both halves off; there are no swapped pages then, since each
/// keeps the module.
#[pin_data]
pub(crate) struct Control {
    tmem: Arc<Tmem>,
    #[pin]
    cache: Mutex<Cached>,
    #[pin]
    swap: Mutex<Option<frontswap::Registration>>,
    keeper: Arc<Keeper>,
    module: &'static ThisModule,
}

impl Control {
    /// Makes it, with both halves off.
    pub(crate) fn new(tmem: Arc<Tmem>, module: &'static ThisModule) -> Result<Arc<Self>> {
        let keeper = Keeper::new()?;
        Arc::pin_init(
            pin_init!(Self {
                tmem,
                cache <- new_mutex!(Cached::Off),
                swap <- new_mutex!(None),
                keeper,
                module,
            }),
            GFP_KERNEL,
        )
    }

    pub(crate) fn cache_counters(&self) -> &'static Counters {
        &CACHE_COUNTERS
    }

    pub(crate) fn swap_counters(&self) -> &'static Counters {
        &SWAP_COUNTERS
    }

    /// Whether page cache is put when it is worth it.
    pub(crate) fn cache(&self) -> bool {
        !matches!(*self.cache.lock(), Cached::Off)
    }

    /// Whether page cache is put now: `off`, `on` or `resting`.
    pub(crate) fn cache_state(&self) -> &'static str {
        match *self.cache.lock() {
            Cached::Off => "off",
            Cached::On(..) => "on",
            Cached::Resting => "resting",
        }
    }

    /// Puts page cache from now on, or does not and forgets what was put. May sleep.
    pub(crate) fn set_cache(&self, on: bool) -> Result {
        let mut state = self.cache.lock();
        match (on, &*state) {
            (false, _) => *state = Cached::Off,
            (true, Cached::Off) => *state = self.put_cache()?,
            (true, _) => (),
        }
        drop(state);
        self.keeper.look();
        Ok(())
    }

    fn put_cache(&self) -> Result<Cached> {
        let cache = Arc::new(
            Cache::new(self.tmem.clone(), self.keeper.clone(), &CACHE_COUNTERS),
            GFP_KERNEL,
        )?;
        let registration = cleancache::Registration::new(cache.clone())?;
        Ok(Cached::On(registration, cache))
    }

    /// Does what the governor says. Returns whether page cache was put since the last time. May
    /// sleep.
    pub(crate) fn govern(&self, governor: &mut Governor) -> bool {
        let reclaimed = mm::reclaimed_file_pages() as u64;
        let mut state = self.cache.lock();
        match &*state {
            Cached::Off => *governor = Governor::new(),
            Cached::Resting => {
                if governor.is_over(reclaimed) {
                    // Otherwise there is no memory; the next time there may be.
                    if let Ok(on) = self.put_cache() {
                        *state = on;
                        governor.begin();
                    }
                }
            }
            Cached::On(_, cache) => {
                let totals = cache.totals();
                if governor.judge(reclaimed, totals) {
                    *state = Cached::Resting;
                    events::rest(totals, governor.until() - reclaimed);
                }
                return governor.has_changed();
            }
        }
        false
    }

    /// Whether swapped pages are put.
    pub(crate) fn swap(&self) -> bool {
        self.swap.lock().is_some()
    }

    /// Puts swapped pages from now on, or does not and brings home those that were put. May sleep.
    ///
    /// # Errors
    ///
    /// Those of [`frontswap::Registration::drain`]; pages are put as before.
    pub(crate) fn set_swap(&self, on: bool) -> Result {
        let mut registration = self.swap.lock();
        if !on {
            if let Some(on) = &*registration {
                on.drain()?;
            }
            *registration = None;
        } else if registration.is_none() {
            let swap = Arc::new(Swap::new(self.tmem.clone(), &SWAP_COUNTERS)?, GFP_KERNEL)?;
            *registration = Some(frontswap::Registration::new(swap, self.module)?);
        }
        Ok(())
    }

    /// The thread that looks from time to time.
    pub(crate) fn keeper(&self) -> &Keeper {
        &self.keeper
    }

    /// Brings up to `nr` swapped pages home; returns how many. May sleep.
    ///
    /// # Errors
    ///
    /// Those of [`frontswap::Registration::shrink`].
    pub(crate) fn shrink_swap(&self, nr: usize) -> Result<usize> {
        match &*self.swap.lock() {
            Some(on) if nr > 0 => on.shrink(nr),
            _ => Ok(0),
        }
    }
}
