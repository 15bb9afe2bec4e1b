// SPDX-License-Identifier: GPL-2.0

//! Special messages (SMSG) of z/VM.
//!
//! The CP command `SMSG` sends a line of text from one guest to another. `smsgiucv` receives them
//! and hands each to the one who registered for how it starts.
//!
//! All here is generic: `smsgiucv` may be a module, and only a driver that uses this depends on
//! it.
//!
//! C header: [`drivers/s390/net/smsgiucv.h`](srctree/drivers/s390/net/smsgiucv.h)

use crate::{
    alloc::Flags,
    bindings,
    error::to_result,
    prelude::*,
    str::BStr,
    sync::atomic::{
        Acquire,
        Atomic,
        Full,
        Relaxed, //
    }, //
};
use core::{
    marker::PhantomData,
    ptr, //
};

/// Someone who is told about special messages.
///
/// # Examples
///
/// ```
/// # #[cfg(CONFIG_SMSGIUCV = "y")]
/// # fn example() -> Result {
/// use kernel::{
///     s390::smsg,
///     str::BStr,
///     sync::{
///         atomic::{
///             Atomic,
///             Relaxed, //
///         },
///         Arc, //
///     }, //
/// };
///
/// struct Counter(Arc<Atomic<u64>>);
///
/// static SLOT: smsg::Slot<Counter> = smsg::Slot::new();
///
/// impl smsg::Handler for Counter {
///     const PREFIX: &'static CStr = c"COUNT";
///
///     fn slot() -> &'static smsg::Slot<Self> {
///         &SLOT
///     }
///
///     fn message(&self, _from: &BStr, _text: &BStr) {
///         self.0.fetch_add(1_u64, Relaxed);
///     }
/// }
///
/// let count = Arc::new(Atomic::new(0), GFP_KERNEL)?;
/// let registration = smsg::Registration::new(Counter(count.clone()), GFP_KERNEL)?;
/// // There is one at a time.
/// assert!(smsg::Registration::new(Counter(count.clone()), GFP_KERNEL).is_err());
/// drop(registration);
/// // From here on the count stays as it is.
/// # Ok(())
/// # }
/// # #[cfg(CONFIG_SMSGIUCV = "y")]
/// # example()?;
/// # Ok::<(), Error>(())
/// ```
pub trait Handler: Sized + Send + Sync + 'static {
    /// How a message has to start for this handler to get it. Case matters.
    ///
    /// Of several handlers with prefixes that match, the one that registered first gets it.
    const PREFIX: &'static CStr;

    /// Returns the slot through which a message finds its way to the registered handler.
    ///
    /// A plain `static` of the driver: C passes no pointer to the callback.
    fn slot() -> &'static Slot<Self>;

    /// Takes a message.
    ///
    /// `from` is the user ID of the sender, without trailing blanks: who that is, z/VM vouches for.
    /// `text` is all of the message, the prefix included, in ASCII and up to its first NUL. It may
    /// hold any other bytes.
    ///
    /// # Context
    ///
    /// Softirq, under the lock of `smsgiucv`'s list: must not sleep, and must not register nor
    /// unregister.
    fn message(&self, from: &BStr, text: &BStr);
}

/// Where a [`Handler`] is found by the messages for it.
///
/// # Invariants
///
/// `handler` is null, or points to a handler that is valid as long as it is here and, if read
/// under the lock of `smsgiucv`'s list, until that is unlocked.
pub struct Slot<T> {
    handler: Atomic<*mut T>,
}

impl<T> Slot<T> {
    /// Makes an empty slot.
    #[expect(clippy::new_without_default)]
    pub const fn new() -> Self {
        // INVARIANT: It is null.
        Self {
            handler: Atomic::new(ptr::null_mut()),
        }
    }
}

/// A registered [`Handler`].
///
/// When this is dropped no messages come any more, and none is being handled.
///
/// # Invariants
///
/// - `handler` was made by [`KBox::into_raw`], and belongs to this.
/// - It is in `slot`.
pub struct Registration<T: Handler> {
    handler: *mut T,
    slot: &'static Slot<T>,
    _owns: PhantomData<T>,
}

// SAFETY: A registration can be dropped by any task; `T` is `Send`.
unsafe impl<T: Handler> Send for Registration<T> {}

// SAFETY: A shared reference allows nothing.
unsafe impl<T: Handler> Sync for Registration<T> {}

impl<T: Handler> Registration<T> {
    /// Registers a handler.
    ///
    /// # Errors
    ///
    /// `EBUSY` if one of this type is registered already, `ENOMEM` if there is no memory.
    ///
    /// # Context
    ///
    /// May sleep.
    pub fn new(handler: T, flags: Flags) -> Result<Self> {
        let slot = T::slot();
        let handler = KBox::into_raw(KBox::new(handler, flags)?);

        // `Full` makes what the handler consists of visible before the pointer.
        if slot
            .handler
            .cmpxchg(ptr::null_mut(), handler, Full)
            .is_err()
        {
            // SAFETY: The pointer is that of the box, and was not given away.
            drop(unsafe { KBox::from_raw(handler) });
            return Err(EBUSY);
        }
        // INVARIANT: The slot was null, and now has the pointer of the box. `drop` keeps to what it
        // promises. From here on `drop` also does what there is to do if registering fails.
        let registration = Self {
            handler,
            slot,
            _owns: PhantomData,
        };

        // SAFETY: The prefix is static. The callback, which belongs to the module that has `T`, is
        // unregistered when the registration is dropped.
        to_result(unsafe {
            bindings::smsg_register_callback(T::PREFIX.as_char_ptr(), Some(Self::callback))
        })?;
        Ok(registration)
    }

    /// Called by `smsgiucv`.
    ///
    /// # Safety
    ///
    /// The lock of `smsgiucv`'s list must be held. Both strings must be valid until this returns.
    unsafe extern "C" fn callback(from: *const c_char, text: *mut c_char) {
        let handler = T::slot().handler.load(Acquire);
        // Not yet, or not any more.
        if handler.is_null() {
            return;
        }
        // SAFETY: By the type invariant of `Slot`: the lock is held until we return.
        let handler = unsafe { &*handler };
        // SAFETY: By the safety requirements.
        let (from, text) = unsafe { (CStr::from_char_ptr(from), CStr::from_char_ptr(text)) };
        handler.message(
            BStr::from_bytes(from.to_bytes()),
            BStr::from_bytes(text.to_bytes()),
        );
    }
}

impl<T: Handler> Drop for Registration<T> {
    fn drop(&mut self) {
        // First of all no callback shall find the handler any more, from whichever registration it
        // comes: that `T::slot` always returns the same slot is expected, but not relied on.
        self.slot.handler.store(ptr::null_mut(), Relaxed);
        // This takes the lock of the list, under which all callbacks run. Those before it are done
        // with the handler, those after it see that the slot is empty. If registering has failed
        // there is nothing to unregister, and the lock is all that matters.
        //
        // SAFETY: Always safe to call: it looks for the pair of prefix and callback.
        unsafe {
            bindings::smsg_unregister_callback(T::PREFIX.as_char_ptr(), Some(Self::callback));
        }
        // INVARIANT: The slot has been empty since before the lock was taken and released.
        // SAFETY: By the type invariant the pointer is that of a box, which is ours.
        drop(unsafe { KBox::from_raw(self.handler) });
    }
}

// Only if it is built in can the kernel proper call it.
#[cfg(all(CONFIG_RUST_S390_KUNIT_TEST, CONFIG_SMSGIUCV = "y"))]
#[macros::kunit_tests(rust_s390_smsg)]
mod tests {
    use super::*;
    use crate::sync::Arc;

    static SLOT: Slot<Ear> = Slot::new();

    /// Hears messages from `FRIEND`, and tells whether it is there.
    struct Ear {
        heard: Arc<Atomic<usize>>,
        there: Arc<Atomic<bool>>,
    }

    impl Ear {
        fn new(heard: &Arc<Atomic<usize>>, there: &Arc<Atomic<bool>>) -> Self {
            there.store(true, Relaxed);
            Self {
                heard: heard.clone(),
                there: there.clone(),
            }
        }
    }

    impl Handler for Ear {
        const PREFIX: &'static CStr = c"KUNIT";

        fn slot() -> &'static Slot<Self> {
            &SLOT
        }

        fn message(&self, from: &BStr, text: &BStr) {
            assert!(self.there.load(Relaxed));
            assert!(text.starts_with(b"KUNIT"));
            if **from == *b"FRIEND" {
                self.heard.fetch_add(text.len(), Relaxed);
            }
        }
    }

    impl Drop for Ear {
        fn drop(&mut self) {
            self.there.store(false, Relaxed);
        }
    }

    /// Does what `smsgiucv` does with a message.
    fn send(from: &CStr, text: &CStr) {
        // SAFETY: The strings are valid. No task but ours registers or unregisters an `Ear`, which
        // is what the lock is for.
        unsafe { Registration::<Ear>::callback(from.as_char_ptr(), text.as_char_ptr().cast_mut()) };
    }

    #[test]
    fn messages_come_while_registered() -> Result {
        let heard = Arc::new(Atomic::new(0), GFP_KERNEL)?;
        let there = Arc::new(Atomic::new(false), GFP_KERNEL)?;
        send(c"FRIEND", c"KUNIT too early");
        assert_eq!(heard.load(Relaxed), 0);

        let registration = Registration::new(Ear::new(&heard, &there), GFP_KERNEL)?;
        send(c"FRIEND", c"KUNIT 12");
        assert_eq!(heard.load(Relaxed), 8);
        send(c"SOMEBODY", c"KUNIT 12");
        assert_eq!(heard.load(Relaxed), 8);
        assert!(there.load(Relaxed));

        drop(registration);
        assert!(!there.load(Relaxed));
        send(c"FRIEND", c"KUNIT too late");
        assert_eq!(heard.load(Relaxed), 8);
        Ok(())
    }

    #[test]
    fn there_is_one_at_a_time() -> Result {
        let heard = Arc::new(Atomic::new(0), GFP_KERNEL)?;
        let there = Arc::new(Atomic::new(false), GFP_KERNEL)?;
        let other = Arc::new(Atomic::new(false), GFP_KERNEL)?;

        for _ in 0..2 {
            let first = Registration::new(Ear::new(&heard, &there), GFP_KERNEL)?;
            let second = Registration::new(Ear::new(&heard, &other), GFP_KERNEL);
            assert_eq!(second.err(), Some(EBUSY));
            assert!(!other.load(Relaxed));
            assert!(there.load(Relaxed));
            drop(first);
            assert!(!there.load(Relaxed));
        }
        Ok(())
    }
}
