// SPDX-License-Identifier: GPL-2.0

//! Frontswap: a place for pages that are swapped out.
//!
//! Here is the bit of each swap slot that tells whether the backend has its page, as the C header
//! explains. A backend that is a module cannot be unloaded while it has pages: each is a reference
//! to the module.
//!
//! C header: [`include/linux/frontswap.h`](srctree/include/linux/frontswap.h)

use crate::{
    bindings,
    bitmap::Bitmap,
    error::from_result,
    macros::export,
    mm::{
        folio::Folio,
        tmem::{
            Slot,
            Source,
            Target,
            MAX_PAGES, //
        }, //
    },
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Relaxed,
            Release, //
        },
        rcu,
        Arc, //
    },
    ThisModule, //
};
use core::{
    ops::RangeInclusive,
    ptr, //
};

/// A swap device: its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device(u32);

impl Device {
    /// Returns the number.
    pub fn number(self) -> u32 {
        self.0
    }
}

/// Where pages go.
///
/// # Context
///
/// All are called under RCU, and so must not sleep. They may be called with spinlocks held and
/// interrupts off. Calls for the same slots are never made at the same time.
pub trait Backend: Send + Sync {
    /// Takes a copy of pages. Returns whether it has all of them; if not, it has none of them.
    fn put(&self, device: Device, slot: u64, pages: &Source<'_>) -> bool;

    /// Gives back all of some pages and forgets them; returns true. If it does not have all of them
    /// it leaves the frames as they are and returns false: they are lost.
    fn get(&self, device: Device, slot: u64, pages: &Target<'_>) -> bool;

    /// Forgets pages.
    fn flush(&self, device: Device, slots: RangeInclusive<u64>);
}

/// Whether there may be a backend: `frontswap_enabled` of the C header.
#[no_mangle]
// SAFETY: All zeroes is a static key that is false.
static mut frontswap_enabled: bindings::static_key_false = unsafe { core::mem::zeroed() };

/// A backend and the module that it is of.
struct Owned {
    backend: Arc<dyn Backend>,
    module: &'static ThisModule,
}

static BACKEND: Slot<Owned> = Slot::new();

/// Whether the backend is asked to take pages.
static OPEN: Atomic<bool> = Atomic::new(false);

/// How many pages the backend has.
static PAGES: Atomic<usize> = Atomic::new(0);

/// Returns how many pages the backend has.
pub fn pages() -> usize {
    PAGES.load(Relaxed)
}

impl Owned {
    /// Keeps the module for `nr` pages more. False if it is about to be unloaded.
    fn hold(&self, nr: usize) -> bool {
        for held in 0..nr {
            // SAFETY: The module is still there, as its backend is.
            if !unsafe { bindings::try_module_get(self.module.as_ptr()) } {
                self.release(held);
                return false;
            }
        }
        true
    }

    fn release(&self, nr: usize) {
        for _ in 0..nr {
            // SAFETY: A reference of `hold`.
            unsafe { bindings::module_put(self.module.as_ptr()) };
        }
    }
}

/// There is a backend while this lives.
///
/// Dropping it waits for hooks that run, so it may sleep.
pub struct Registration(());

impl Registration {
    /// Begins to put pages. May sleep. The backend is empty.
    ///
    /// # Errors
    ///
    /// - `EBUSY` if there is a backend already.
    /// - `ENOMEM`
    pub fn new(backend: Arc<dyn Backend>, module: &'static ThisModule) -> Result<Self> {
        let owned = KBox::new(Owned { backend, module }, GFP_KERNEL)?;
        BACKEND.fill(owned, || {
            // SAFETY: The key is a `static`.
            unsafe { bindings::static_key_enable(&raw mut frontswap_enabled.key) }
        })?;
        OPEN.store(true, Release);
        Ok(Self(()))
    }

    /// Puts nothing more, and has all pages come back.
    ///
    /// They are in the swap cache then, from where they are written to their swap slots when their
    /// memory is needed. May sleep, and needs memory.
    ///
    /// # Errors
    ///
    /// Pages are put as before.
    ///
    /// - `ENOMEM` if there was not enough memory.
    /// - `EIO` if the backend has lost a page.
    /// - `EINTR` if a fatal signal came.
    /// - `EBUSY` if pages could not be had.
    pub fn drain(&self) -> Result {
        const ATTEMPTS: usize = 10;

        OPEN.store(false, Relaxed);
        rcu::synchronize_rcu();
        let drained = (|| {
            for _ in 0..ATTEMPTS {
                self.shrink(usize::MAX)?;
                if pages() == 0 {
                    return Ok(());
                }
            }
            Err(EBUSY)
        })();
        if drained.is_err() {
            OPEN.store(true, Relaxed);
        }
        drained
    }
}

impl Registration {
    /// Has up to `nr` pages come back, as [`drain`](Self::drain) does. Returns how many did.
    ///
    /// May sleep, and needs memory.
    ///
    /// # Errors
    ///
    /// Some pages may have come back.
    ///
    /// - `ENOMEM` if there was not enough memory.
    /// - `EIO` if the backend has lost a page.
    /// - `EINTR` if a fatal signal came.
    pub fn shrink(&self, nr: usize) -> Result<usize> {
        let most = nr.min(c_long::MAX as usize);
        // SAFETY: May be called wherever sleeping is allowed.
        let home = unsafe { bindings::frontswap_shrink(most as c_long) };
        usize::try_from(home).map_err(|_| Error::from_errno(home as c_int))
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        OPEN.store(false, Relaxed);
        BACKEND.empty(|| {
            // Who asks for a page that went with its backend gets an I/O error.
            if !crate::warn_on!(pages() != 0) {
                // SAFETY: The key is a `static`.
                unsafe { bindings::static_key_disable(&raw mut frontswap_enabled.key) };
            }
        });
    }
}

/// A bit for each slot of a device.
struct Map {
    words: KVVec<usize>,
    slots: usize,
}

impl Map {
    fn new(slots: usize) -> Result<Self> {
        if slots > i32::MAX as usize {
            return Err(EFBIG);
        }
        let words = KVVec::from_elem(0, slots.div_ceil(usize::BITS as usize), GFP_KERNEL)?;
        Ok(Self { words, slots })
    }

    fn bits(&self) -> &Bitmap {
        // SAFETY: There are so many bits. From here on they are changed only atomically.
        unsafe { Bitmap::from_raw(self.words.as_ptr(), self.slots) }
    }

    /// The slots of a range whose bit is set.
    fn set_in(&self, first: usize, nr: usize) -> impl Iterator<Item = usize> + '_ {
        let mut next = first;
        core::iter::from_fn(move || {
            let slot = self
                .bits()
                .next_bit(next)
                .filter(|&slot| slot - first < nr)?;
            next = slot + 1;
            Some(slot)
        })
    }

    /// Clears the bits of a range. Returns how many were set.
    fn clear(&self, first: usize, nr: usize) -> usize {
        self.set_in(first, nr)
            .inspect(|&slot| self.bits().clear_bit_atomic(slot))
            .count()
    }
}

/// The maps of all swap devices.
static MAPS: [Atomic<*mut Map>; 1 << bindings::MAX_SWAPFILES_SHIFT] =
    [const { Atomic::new(ptr::null_mut()) }; 1 << bindings::MAX_SWAPFILES_SHIFT];

/// # Safety
///
/// The device is in use and stays so for `'a`.
unsafe fn map<'a>(device: c_uint) -> Option<&'a Map> {
    let map = MAPS.get(device as usize)?.load(Acquire);
    // SAFETY: It stays until the device is not used any more.
    unsafe { map.as_ref() }
}

/// Makes the map of a device that is about to be used.
///
/// # Safety
///
/// Only one caller for each device at a time. May sleep.
#[export]
unsafe extern "C" fn frontswap_swapon(device: c_uint, slots: c_ulong) -> c_int {
    from_result(|| {
        let map = KBox::new(Map::new(slots)?, GFP_KERNEL)?;
        let place = MAPS.get(device as usize).ok_or(EINVAL)?;
        place.store(KBox::into_raw(map), Release);
        Ok(0)
    })
}

/// Frees the map of a device that is not used any more, if it has one.
///
/// # Safety
///
/// Nobody uses the device.
#[export]
unsafe extern "C" fn frontswap_swapoff(device: c_uint) {
    let Some(place) = MAPS.get(device as usize) else {
        return;
    };
    let map = place.xchg(ptr::null_mut(), Acquire);
    if !map.is_null() {
        // SAFETY: It is from the box in `frontswap_swapon`, and nobody uses it.
        drop(unsafe { KBox::from_raw(map) });
    }
}

/// Returns the first slot from `slot` on whose page the backend has, or 0.
///
/// # Safety
///
/// The device is in use.
#[export]
unsafe extern "C" fn frontswap_next(device: c_uint, slot: c_ulong) -> c_ulong {
    // SAFETY: As the caller says.
    let map = unsafe { map(device) };
    map.and_then(|map| map.set_in(slot, usize::MAX - slot).next())
        .unwrap_or(0)
}

/// See `frontswap_put()`.
///
/// # Safety
///
/// The folio is locked and in the swap cache, with slots from `slot` on.
#[export]
unsafe extern "C" fn __frontswap_put(
    folio: *mut bindings::folio,
    device: c_uint,
    slot: c_ulong,
) -> bool {
    // SAFETY: The caller has a reference to the folio, which keeps the device in use.
    let (folio, map) = unsafe { (Folio::from_raw(folio), map(device)) };
    let (Some(map), nr) = (map, folio.frames().len()) else {
        return false;
    };
    if nr > MAX_PAGES {
        return false;
    }
    // SAFETY: It is locked and about to be written: whoever changes it now makes it dirty again,
    // and so it is put once more.
    let pages = unsafe { Source::new(folio.frames()) };
    let put = BACKEND.with(|owned| {
        if !OPEN.load(Relaxed) || !owned.hold(nr) {
            return false;
        }
        if !owned.backend.put(Device(device), slot as u64, &pages) {
            owned.release(nr);
            return false;
        }
        for slot in slot..slot + nr {
            map.bits().set_bit_atomic(slot);
        }
        PAGES.fetch_add(nr, Relaxed);
        true
    });
    put == Some(true)
}

/// See `frontswap_get()`.
///
/// # Safety
///
/// The folio is locked, in the swap cache, with slots from `slot` on, and not uptodate.
#[export]
unsafe extern "C" fn __frontswap_get(
    folio: *mut bindings::folio,
    device: c_uint,
    slot: c_ulong,
) -> bool {
    // SAFETY: The caller has a reference to the folio, which keeps the device in use.
    let (folio, map) = unsafe { (Folio::from_raw(folio), map(device)) };
    let (Some(map), nr) = (map, folio.frames().len()) else {
        return false;
    };
    match map.set_in(slot, nr).count() {
        0 => return false,
        // Large folios are not swapped in while there is a backend.
        part if crate::warn_on!(part < nr || nr > MAX_PAGES) => return true,
        _ => (),
    }
    // SAFETY: It is locked, and nobody uses a folio that is not uptodate.
    let pages = unsafe { Target::new(folio.frames()) };
    let hit = BACKEND.with(|owned| {
        let hit = owned.backend.get(Device(device), slot as u64, &pages);
        if hit {
            forget(owned, map.clear(slot, nr));
        }
        hit
    });
    if hit == Some(true) {
        // SAFETY: It is locked, and its contents are complete. What is in its slots is older.
        unsafe {
            bindings::folio_mark_uptodate(folio.as_ptr());
            bindings::folio_mark_dirty(folio.as_ptr());
        }
    } else {
        crate::pr_err_once!("frontswap: a page of swap device {device} is lost\n");
    }
    true
}

/// Counts pages that the backend does not have any more.
fn forget(owned: &Owned, nr: usize) {
    PAGES.fetch_sub(nr, Relaxed);
    owned.release(nr);
}

/// See `frontswap_flush()`.
///
/// # Safety
///
/// The device is in use.
#[export]
unsafe extern "C" fn __frontswap_flush(device: c_uint, slot: c_ulong, nr: c_uint) {
    // SAFETY: As the caller says.
    let Some(map) = (unsafe { map(device) }) else {
        return;
    };
    let nr = nr as usize;
    if map.set_in(slot, nr).next().is_none() {
        return;
    }
    BACKEND.with(|owned| {
        let slots = slot as u64..=(slot + nr - 1) as u64;
        owned.backend.flush(Device(device), slots);
        forget(owned, map.clear(slot, nr));
    });
}
