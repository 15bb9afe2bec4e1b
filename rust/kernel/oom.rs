// SPDX-License-Identifier: GPL-2.0

//! Out-of-memory notifiers.
//!
//! Before the OOM killer chooses a victim, everybody who holds memory that could be given back is
//! asked to do so. If anything was freed, nobody is killed and the allocation is tried again.
//!
//! C header: [`include/linux/oom.h`](srctree/include/linux/oom.h)

use crate::{
    bindings,
    container_of,
    error::to_result,
    prelude::*,
    sync::Arc,
    types::Opaque, //
};

/// Someone who gives memory back before the OOM killer is let loose.
pub trait Notifier: Send + Sync {
    /// Gives memory back to the page allocator and returns how many pages that were.
    ///
    /// # Context
    ///
    /// Runs in whatever task could not get memory, inside its allocation and with the OOM lock
    /// held. It may sleep, but:
    ///
    /// - It must not wait for memory: allocate without direct reclaim or, better, not at all.
    /// - It must not take a lock that is held across an allocation which may reclaim.
    /// - It must neither register nor unregister notifiers, which would wait for itself.
    fn oom(&self) -> usize;
}

impl<T: Notifier> Notifier for Arc<T> {
    fn oom(&self) -> usize {
        T::oom(self)
    }
}

/// A [`Notifier`] that is asked when memory runs out.
///
/// Dropping it unregisters the notifier and waits for calls that are under way, so it may sleep.
///
/// # Invariants
///
/// - `block` is a `struct notifier_block` that is registered as OOM notifier, and is unregistered
///   exactly once, when this is dropped.
/// - The callback of `block` is `notify::<T>`.
///
/// # Examples
///
/// ```
/// use kernel::{
///     oom,
///     prelude::*,
///     sync::atomic::{
///         Atomic,
///         Relaxed, //
///     }, //
/// };
///
/// /// Counts spare pages.
/// struct Spare(Atomic<usize>);
///
/// impl oom::Notifier for Spare {
///     fn oom(&self) -> usize {
///         // A real one would free them here.
///         self.0.xchg(0, Relaxed)
///     }
/// }
///
/// let notifier = KBox::pin_init(
///     oom::Registration::new(Spare(Atomic::new(3))),
///     GFP_KERNEL,
/// )?;
/// assert_eq!(notifier.data().0.load(Relaxed), 3);
/// # Ok::<(), Error>(())
/// ```
#[pin_data(PinnedDrop)]
pub struct Registration<T: Notifier> {
    #[pin]
    block: Opaque<bindings::notifier_block>,
    data: T,
}

// SAFETY: A notifier can be unregistered on any thread, and `T: Send` can be dropped there.
unsafe impl<T: Notifier> Send for Registration<T> {}

// SAFETY: All that can be had from a shared reference is a `&T`, and `T: Sync`.
unsafe impl<T: Notifier> Sync for Registration<T> {}

impl<T: Notifier + 'static> Registration<T> {
    /// Registers `data` as OOM notifier. May sleep.
    pub fn new(data: T) -> impl PinInit<Self, Error> {
        // `block` comes last: it can be called back as soon as it is registered, and whatever else
        // is initialised must not fail after that.
        try_pin_init!(Self {
            data,
            block <- Opaque::try_ffi_init(|slot: *mut bindings::notifier_block| {
                // SAFETY: The initialiser may write to the slot.
                unsafe {
                    slot.write(bindings::notifier_block {
                        notifier_call: Some(notify::<T>),
                        ..pin_init::zeroed()
                    })
                };
                // SAFETY: The block was just initialised. It stays where it is, since it is pinned,
                // until it is unregistered in `drop`.
                // INVARIANT: If this succeeds, the block is registered.
                to_result(unsafe { bindings::register_oom_notifier(slot) })
            }),
        })
    }
}

impl<T: Notifier> Registration<T> {
    /// The notifier.
    pub fn data(&self) -> &T {
        &self.data
    }
}

#[pinned_drop]
impl<T: Notifier> PinnedDrop for Registration<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariants, the block is registered. This waits for running
        // callbacks, so that block and data can go afterwards.
        unsafe { bindings::unregister_oom_notifier(self.block.get()) };
    }
}

/// The callback of a [`Registration<T>`].
///
/// # Safety
///
/// - `block` must be the block of a pinned [`Registration<T>`] whose `data` is initialised and
///   valid for shared access during the call.
/// - `freed` must point to an `unsigned long` that nobody else uses.
unsafe extern "C" fn notify<T: Notifier>(
    block: *mut bindings::notifier_block,
    _event: c_ulong,
    freed: *mut c_void,
) -> c_int {
    let block = Opaque::cast_from(block).cast_mut();
    // SAFETY: By the safety requirements, `block` is in a `Registration<T>`.
    let registration = unsafe { container_of!(block, Registration<T>, block) };
    // SAFETY: By the safety requirements, `data` is initialised and valid for shared access. Only
    // it is borrowed: while the callback runs for the first time, `new` may not have returned.
    let data = unsafe { &(*registration).data };
    // SAFETY: By the safety requirements, nobody else uses the counter.
    let freed = unsafe { &mut *freed.cast::<c_ulong>() };

    *freed = freed.saturating_add(data.oom() as c_ulong);
    bindings::NOTIFY_OK as c_int
}

#[cfg(CONFIG_RUST_OOM_KUNIT_TEST)]
#[kunit_tests(rust_oom)]
mod tests {
    use super::*;
    use crate::sync::atomic::{
        Atomic,
        Relaxed, //
    };

    /// Gives back what it has, once.
    struct Spare {
        pages: Atomic<usize>,
        calls: Atomic<usize>,
    }

    impl Spare {
        fn new(pages: usize) -> Result<Arc<Self>> {
            let spare = Self {
                pages: Atomic::new(pages),
                calls: Atomic::new(0),
            };
            Ok(Arc::new(spare, GFP_KERNEL)?)
        }
    }

    impl Notifier for Spare {
        fn oom(&self) -> usize {
            self.calls.fetch_add(1, Relaxed);
            self.pages.xchg(0, Relaxed)
        }
    }

    fn register(spare: &Arc<Spare>) -> Result<Pin<KBox<Registration<Arc<Spare>>>>> {
        KBox::pin_init(Registration::new(spare.clone()), GFP_KERNEL)
    }

    /// Calls a notifier as `out_of_memory()` does, with what others have freed before.
    fn call<T: Notifier>(registration: &Registration<T>, freed: &mut c_ulong) -> Result<c_int> {
        let block = registration.block.get();
        // SAFETY: The block is registered, so it is valid and nobody writes its callback.
        let notify = unsafe { (*block).notifier_call }.ok_or(EINVAL)?;
        // SAFETY: The block is that of a pinned registration; the counter is ours.
        Ok(unsafe { notify(block, 0, core::ptr::from_mut(freed).cast()) })
    }

    #[test]
    fn freed_pages_are_added_to_those_of_others() -> Result {
        let spare = Spare::new(5)?;
        let registration = register(&spare)?;
        let mut freed = 2;

        assert_eq!(
            call(&registration, &mut freed)?,
            bindings::NOTIFY_OK as c_int
        );
        assert_eq!(freed, 7);

        // There is nothing left: others are still asked, and the count stays.
        assert_eq!(
            call(&registration, &mut freed)?,
            bindings::NOTIFY_OK as c_int
        );
        assert_eq!(freed, 7);
        assert_eq!(spare.calls.load(Relaxed), 2);
        Ok(())
    }

    #[test]
    fn freed_pages_do_not_wrap() -> Result {
        let registration = register(&Spare::new(5)?)?;
        let mut freed = c_ulong::MAX - 1;
        call(&registration, &mut freed)?;
        assert_eq!(freed, c_ulong::MAX);
        Ok(())
    }

    #[test]
    fn the_block_is_on_the_list_of_notifiers() -> Result {
        let registration = register(&Spare::new(0)?)?;
        let block = registration.block.get();
        // SAFETY: The block is valid. It is registered again below, before anything else.
        to_result(unsafe { bindings::unregister_oom_notifier(block) })?;
        // SAFETY: Ditto. It has just been unregistered.
        let again = to_result(unsafe { bindings::unregister_oom_notifier(block) });
        assert_eq!(again, Err(ENOENT));
        // SAFETY: The block is valid and pinned.
        to_result(unsafe { bindings::register_oom_notifier(block) })
    }

    #[test]
    fn dropping_gives_the_data_up() -> Result {
        let spare = Spare::new(1)?;
        drop((register(&spare)?, register(&spare)?));
        assert_eq!(spare.calls.load(Relaxed), 0);
        assert!(Arc::into_unique_or_drop(spare).is_some());
        Ok(())
    }
}
