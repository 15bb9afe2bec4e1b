// SPDX-License-Identifier: GPL-2.0

//! Switching both halves on and off.

use kernel::{
    mm::cleancache,
    new_mutex,
    prelude::*,
    s390::tmem::Tmem,
    sync::{
        Arc,
        Mutex, //
    }, //
};

#[cfg(CONFIG_FRONTSWAP)]
use kernel::mm::frontswap;

use crate::{
    cache::Cache,
    counters::Counters, //
};

#[cfg(CONFIG_FRONTSWAP)]
use crate::swap::Swap;

static CACHE_COUNTERS: Counters = Counters::new();
#[cfg(CONFIG_FRONTSWAP)]
static SWAP_COUNTERS: Counters = Counters::new();

/// What is on. Dropping it switches both halves off; there are no swapped pages then, since each
/// keeps the module.
#[pin_data]
pub(crate) struct Control {
    tmem: Arc<Tmem>,
    #[pin]
    cache: Mutex<Option<cleancache::Registration>>,
    #[cfg(CONFIG_FRONTSWAP)]
    #[pin]
    swap: Mutex<Option<frontswap::Registration>>,
    module: &'static ThisModule,
}

impl Control {
    /// Makes it, with both halves off.
    pub(crate) fn new(tmem: Arc<Tmem>, module: &'static ThisModule) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                tmem,
                cache <- new_mutex!(None),
                #[cfg(CONFIG_FRONTSWAP)]
                swap <- new_mutex!(None),
                module,
            }),
            GFP_KERNEL,
        )
    }

    pub(crate) fn cache_counters(&self) -> &'static Counters {
        &CACHE_COUNTERS
    }

    #[cfg(CONFIG_FRONTSWAP)]
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
}

#[cfg(CONFIG_FRONTSWAP)]
impl Control {
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
}
