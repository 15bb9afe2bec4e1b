// SPDX-License-Identifier: GPL-2.0

//! Switching both halves on and off.

use kernel::{
    mm::{
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
    home::Home,
    swap::Swap, //
};

static CACHE_COUNTERS: Counters = Counters::new();
static SWAP_COUNTERS: Counters = Counters::new();

/// What is on. Dropping it switches both halves off; there are no swapped pages then, since each
/// keeps the module.
#[pin_data]
pub(crate) struct Control {
    tmem: Arc<Tmem>,
    #[pin]
    cache: Mutex<Option<cleancache::Registration>>,
    #[pin]
    swap: Mutex<Option<frontswap::Registration>>,
    #[pin]
    home: Home,
    module: &'static ThisModule,
}

impl Control {
    /// Makes it, with both halves off.
    pub(crate) fn new(tmem: Arc<Tmem>, module: &'static ThisModule) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                tmem,
                cache <- new_mutex!(None),
                swap <- new_mutex!(None),
                home <- Home::new(),
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

    /// Whether page cache is put.
    pub(crate) fn cache(&self) -> bool {
        self.cache.lock().is_some()
    }

    /// Puts page cache from now on, or does not and forgets what was put. May sleep.
    pub(crate) fn set_cache(&self, on: bool) -> Result {
        let mut registration = self.cache.lock();
        if !on {
            *registration = None;
        } else if registration.is_none() {
            let cache = Arc::new(Cache::new(self.tmem.clone(), &CACHE_COUNTERS), GFP_KERNEL)?;
            *registration = Some(cleancache::Registration::new(cache)?);
        }
        Ok(())
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

    /// When swapped pages come home by themselves.
    pub(crate) fn home(&self) -> &Home {
        &self.home
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
