// SPDX-License-Identifier: GPL-2.0

//! Rate limits, for what others can make the kernel print.
//!
//! C header: [`include/linux/ratelimit.h`](srctree/include/linux/ratelimit.h)

use crate::{
    bindings,
    prelude::*,
    types::Opaque, //
};

/// A limit on how often something happens: so many times in an interval.
///
/// May be used in any context, interrupts included.
///
/// # Examples
///
/// ```
/// use kernel::ratelimit::RateLimit;
///
/// let limit = KBox::pin_init(RateLimit::new(1000, 2), GFP_KERNEL)?;
/// assert!(limit.allows(c"example"));
/// assert!(limit.allows(c"example"));
/// assert!(!limit.allows(c"example"));
/// # Ok::<(), Error>(())
/// ```
///
/// # Invariants
///
/// `state` is initialized.
#[pin_data]
#[repr(transparent)]
pub struct RateLimit {
    #[pin]
    state: Opaque<bindings::ratelimit_state>,
}

// SAFETY: A `struct ratelimit_state` is tied to no thread.
unsafe impl Send for RateLimit {}

// SAFETY: A `struct ratelimit_state` has its own lock.
unsafe impl Sync for RateLimit {}

impl RateLimit {
    /// Makes a limit of `burst` times in `interval` jiffies.
    pub fn new(interval: u16, burst: u16) -> impl PinInit<Self> {
        pin_init!(Self {
            // INVARIANT: `ratelimit_state_init()` initializes all of it.
            state <- Opaque::ffi_init(|slot| {
                // SAFETY: `slot` is valid for writes.
                unsafe {
                    bindings::ratelimit_state_init(slot, c_int::from(interval), c_int::from(burst))
                }
            }),
        })
    }

    /// Makes the limit that `printk_ratelimited()` has: 10 times in 5 seconds.
    pub fn printk() -> impl PinInit<Self> {
        // CAST: These are 5 * HZ and 10.
        const INTERVAL: u16 = bindings::DEFAULT_RATELIMIT_INTERVAL as u16;
        const BURST: u16 = bindings::DEFAULT_RATELIMIT_BURST as u16;

        Self::new(INTERVAL, BURST)
    }

    /// Says whether it may happen once more now.
    ///
    /// What is not allowed is counted. The next time that something is, a line tells how often
    /// `caller` was held back.
    pub fn allows(&self, caller: &'static CStr) -> bool {
        // SAFETY: By the type invariants `state` is initialized, and `caller` is a string.
        unsafe { bindings::___ratelimit(self.state.get(), caller.as_char_ptr()) != 0 }
    }
}
