// SPDX-License-Identifier: GPL-2.0

//! Shrinkers.
//!
//! When memory is short, page reclaim asks everybody who holds some that can be given up, besides
//! taking page cache and swapping, and long before the [OOM notifiers](crate::oom).
//!
//! C header: [`include/linux/shrinker.h`](srctree/include/linux/shrinker.h)

use crate::{
    bindings,
    prelude::*, //
};
use core::ptr::NonNull;

/// `SHRINK_STOP`. Bindgen takes it for a negative number, as the next one.
const STOP: c_ulong = bindings::SHRINK_STOP as c_ulong;

/// `SHRINK_EMPTY`.
const EMPTY: c_ulong = bindings::SHRINK_EMPTY as c_ulong;

/// Someone who gives memory up when it is short.
///
/// # Context
///
/// Both methods run in whatever task needs memory, inside its allocation. They may sleep, but:
///
/// - They must not wait for memory: allocate without direct reclaim or, better, not at all.
/// - They must not wait for a lock that is held across an allocation which may reclaim.
/// - They must neither register nor unregister shrinkers, which would wait for themselves.
///
/// Several calls may run at once.
pub trait Shrinker: Send + Sync {
    /// How much it costs to get an object back, with a read from disk as 1.
    ///
    /// Of what costs nothing, half is taken each time that page reclaim looks around.
    const SEEKS: u8 = bindings::DEFAULT_SEEKS as u8;

    /// Returns how many objects could be given up. It need not be exact.
    fn count(&self) -> usize;

    /// Gives up to `nr` objects up and returns how many, or [`None`] if that cannot be done now.
    fn scan(&self, nr: usize) -> Option<usize>;
}

/// A [`Shrinker`] that is asked when memory is short.
///
/// Dropping it waits for calls that are under way, so it may sleep.
///
/// # Invariants
///
/// - `shrinker` is a registered shrinker that is freed exactly once, when this is dropped.
/// - Its callbacks are those of this type, and its `private_data` points to what `data` owns.
///
/// # Examples
///
/// ```
/// use kernel::{
///     shrinker::{
///         self,
///         Shrinker, //
///     },
///     sync::atomic::{
///         Atomic,
///         Relaxed, //
///     }, //
/// };
///
/// /// Counts spare pages.
/// struct Spare(Atomic<usize>);
///
/// impl Shrinker for Spare {
///     const SEEKS: u8 = 0;
///
///     fn count(&self) -> usize {
///         self.0.load(Relaxed)
///     }
///
///     fn scan(&self, nr: usize) -> Option<usize> {
///         // A real one would free them here.
///         let nr = nr.min(self.count());
///         self.0.fetch_sub(nr, Relaxed);
///         Some(nr)
///     }
/// }
///
/// let spare = shrinker::Registration::new(c"spare", Spare(Atomic::new(0)))?;
/// assert_eq!(spare.data().count(), 0);
/// # Ok::<(), Error>(())
/// ```
pub struct Registration<T: Shrinker> {
    shrinker: NonNull<bindings::shrinker>,
    data: KBox<T>,
}

// SAFETY: A shrinker can be freed on any thread, and `T: Send` can be dropped there.
unsafe impl<T: Shrinker> Send for Registration<T> {}

// SAFETY: All that can be had from a shared reference is a `&T`, and `T: Sync`.
unsafe impl<T: Shrinker> Sync for Registration<T> {}

impl<T: Shrinker> Registration<T> {
    /// Registers `data` as a shrinker, with a name for debugfs. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`
    pub fn new(name: &CStr, data: T) -> Result<Self> {
        let data = KBox::new(data, GFP_KERNEL)?;
        let (format, name) = (c"%s".as_char_ptr(), name.as_char_ptr());
        // SAFETY: The format takes one string that ends with a NUL.
        let shrinker = unsafe { bindings::shrinker_alloc(0, format, name) };
        let shrinker = NonNull::new(shrinker).ok_or(ENOMEM)?;
        let raw = shrinker.as_ptr();
        // SAFETY: The shrinker was just allocated, and nobody else has it.
        unsafe {
            (*raw).count_objects = Some(count::<T>);
            (*raw).scan_objects = Some(scan::<T>);
            (*raw).seeks = c_int::from(T::SEEKS);
            (*raw).private_data = core::ptr::from_ref(&*data).cast_mut().cast();
        }
        // SAFETY: The shrinker was allocated and is complete.
        unsafe { bindings::shrinker_register(raw) };
        // INVARIANT: It is registered, and will be freed by `drop` only.
        Ok(Self { shrinker, data })
    }

    /// The shrinker.
    pub fn data(&self) -> &T {
        &self.data
    }
}

impl<T: Shrinker> Drop for Registration<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants. This waits for running callbacks, so that the data can go
        // afterwards.
        unsafe { bindings::shrinker_free(self.shrinker.as_ptr()) };
    }
}

/// # Safety
///
/// `shrinker` must be that of a [`Registration<T>`] that is not dropped before this returns.
unsafe extern "C" fn count<T: Shrinker>(
    shrinker: *mut bindings::shrinker,
    _control: *mut bindings::shrink_control,
) -> c_ulong {
    // SAFETY: By the safety requirements and the invariants of `Registration`.
    let data = unsafe { &*(*shrinker).private_data.cast::<T>() };
    match data.count() {
        0 => EMPTY,
        // The largest numbers have a meaning of their own.
        nr => (nr as c_ulong).min(EMPTY - 1),
    }
}

/// # Safety
///
/// - `shrinker` must be that of a [`Registration<T>`] that is not dropped before this returns.
/// - `control` must be valid.
unsafe extern "C" fn scan<T: Shrinker>(
    shrinker: *mut bindings::shrinker,
    control: *mut bindings::shrink_control,
) -> c_ulong {
    // SAFETY: By the safety requirements and the invariants of `Registration`.
    let data = unsafe { &*(*shrinker).private_data.cast::<T>() };
    // SAFETY: By the safety requirements.
    let nr = unsafe { (*control).nr_to_scan };
    match data.scan(nr) {
        Some(nr) => nr as c_ulong,
        None => STOP,
    }
}

#[cfg(CONFIG_RUST_SHRINKER_KUNIT_TEST)]
#[kunit_tests(rust_shrinker)]
mod tests {
    use super::*;
    use crate::sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    };

    /// Has something to give, unless it is busy. Page reclaim itself is told of nothing.
    struct Spare {
        objects: Atomic<usize>,
        busy: Atomic<bool>,
        shown: Atomic<bool>,
        dropped: Arc<Atomic<usize>>,
    }

    impl Shrinker for Spare {
        const SEEKS: u8 = 0;

        fn count(&self) -> usize {
            if self.shown.load(Relaxed) {
                self.objects.load(Relaxed)
            } else {
                0
            }
        }

        fn scan(&self, nr: usize) -> Option<usize> {
            if self.busy.load(Relaxed) {
                return None;
            }
            let nr = nr.min(self.objects.load(Relaxed));
            self.objects.fetch_sub(nr, Relaxed);
            Some(nr)
        }
    }

    impl Drop for Spare {
        fn drop(&mut self) {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    fn register(objects: usize) -> Result<(Registration<Spare>, Arc<Atomic<usize>>)> {
        let dropped = Arc::new(Atomic::new(0), GFP_KERNEL)?;
        let spare = Spare {
            objects: Atomic::new(objects),
            busy: Atomic::new(false),
            shown: Atomic::new(false),
            dropped: dropped.clone(),
        };
        Ok((Registration::new(c"rust_shrinker", spare)?, dropped))
    }

    /// Calls both, as page reclaim does.
    fn shrink(registration: &Registration<Spare>, nr: usize) -> Result<(c_ulong, c_ulong)> {
        let shrinker = registration.shrinker.as_ptr();
        let mut control = bindings::shrink_control {
            nr_to_scan: nr as c_ulong,
            ..pin_init::zeroed()
        };
        registration.data().shown.store(true, Relaxed);
        // SAFETY: The shrinker is registered, and nobody changes its callbacks. The control is
        // ours.
        let done = unsafe {
            let count = (*shrinker).count_objects.ok_or(EINVAL)?;
            let scan = (*shrinker).scan_objects.ok_or(EINVAL)?;
            (
                count(shrinker, &raw mut control),
                scan(shrinker, &raw mut control),
            )
        };
        registration.data().shown.store(false, Relaxed);
        Ok(done)
    }

    #[test]
    fn gives_what_it_has() -> Result {
        let (spare, dropped) = register(100)?;
        // SAFETY: The shrinker is registered.
        assert_eq!(unsafe { spare.shrinker.as_ref() }.seeks, 0);
        assert_eq!(shrink(&spare, 60)?, (100, 60));
        assert_eq!(shrink(&spare, 60)?, (40, 40));
        assert_eq!(shrink(&spare, 60)?, (EMPTY, 0));
        assert_eq!(dropped.load(Relaxed), 0);
        drop(spare);
        assert_eq!(dropped.load(Relaxed), 1);
        Ok(())
    }

    #[test]
    fn stops_when_busy() -> Result {
        let (spare, _dropped) = register(100)?;
        spare.data().busy.store(true, Relaxed);
        assert_eq!(shrink(&spare, 60)?, (100, STOP));
        assert_eq!(spare.data().objects.load(Relaxed), 100);
        Ok(())
    }

    #[test]
    fn no_number_is_taken_for_a_sign() -> Result {
        let (spare, _dropped) = register(usize::MAX)?;
        assert_eq!(shrink(&spare, 0)?, (EMPTY - 1, 0));
        Ok(())
    }
}
