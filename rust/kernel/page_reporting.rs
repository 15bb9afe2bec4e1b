// SPDX-License-Identifier: GPL-2.0

//! Free page reporting: who wants to know which pages have been free for a while.
//!
//! C header: [`include/linux/page_reporting.h`](srctree/include/linux/page_reporting.h)

use crate::{
    bindings,
    error::{
        from_result,
        to_result, //
    },
    page::{
        pfn_of,
        PfnRange,
        PAGE_SIZE, //
    },
    prelude::*,
    types::Opaque, //
};
use core::marker::PhantomData;

/// A block of free page frames that the page allocator has set aside meanwhile.
///
/// # Invariants
///
/// While `'a` lasts nobody else has the frames or uses their content. Afterwards they are free, and
/// who uses them has allocated them.
pub struct FreeBlock<'a> {
    frames: PfnRange,
    _aside: PhantomData<&'a ()>,
}

impl FreeBlock<'_> {
    /// Returns the frames.
    #[inline]
    pub fn frames(&self) -> PfnRange {
        self.frames
    }
}

/// What to do with free pages.
pub trait Operations {
    /// The smallest order of the blocks to be reported, if the user has not set
    /// `page_reporting.page_reporting_order`.
    const ORDER: u32;

    /// In how many passes, two seconds apart, all blocks of one order are reported. Few if a report
    /// takes little time.
    const PASSES: u32;

    /// Whether to look for free blocks now. If not, it is asked again two seconds later.
    ///
    /// # Context
    ///
    /// May sleep.
    fn begin() -> bool;

    /// Takes note of a block that is free.
    ///
    /// The block is not reported again before some of it has been allocated, or it has become a
    /// part of a larger one.
    ///
    /// # Errors
    ///
    /// The block will be reported again. This pass ends.
    ///
    /// # Context
    ///
    /// May sleep. The frames are missing from the free lists meanwhile: be quick.
    fn report(block: FreeBlock<'_>) -> Result;
}

/// Reports free pages to `T` until it is dropped.
///
/// # Invariants
///
/// `device` is registered.
pub struct Registration<T: Operations> {
    device: KBox<Opaque<bindings::page_reporting_dev_info>>,
    _operations: PhantomData<T>,
}

// SAFETY: It can be unregistered by any task.
unsafe impl<T: Operations> Send for Registration<T> {}

// SAFETY: There is nothing to be done with a shared reference.
unsafe impl<T: Operations> Sync for Registration<T> {}

impl<T: Operations> Registration<T> {
    /// Registers.
    ///
    /// All blocks that are free are reported, and from then on those that become free.
    ///
    /// # Errors
    ///
    /// `EBUSY` if pages are reported to somebody else already: there can be only one.
    ///
    /// # Context
    ///
    /// May sleep.
    pub fn new() -> Result<Self> {
        let device = KBox::new(
            Opaque::new(bindings::page_reporting_dev_info {
                begin: Some(Self::begin),
                report: Some(Self::report),
                order: T::ORDER,
                passes: T::PASSES,
                ..pin_init::zeroed()
            }),
            GFP_KERNEL,
        )?;
        // SAFETY: The device has what it needs; the rest is initialised by the call. It stays where
        // it is until it is unregistered.
        to_result(unsafe { bindings::page_reporting_register(device.get()) })?;
        // INVARIANT: It was just registered.
        Ok(Self {
            device,
            _operations: PhantomData,
        })
    }

    extern "C" fn begin(_device: *mut bindings::page_reporting_dev_info) -> bool {
        T::begin()
    }

    /// Takes a list of free blocks.
    ///
    /// # Safety
    ///
    /// `sgl` is an array of `nents` entries, each of a block that is on no free list until this
    /// returns.
    unsafe extern "C" fn report(
        _device: *mut bindings::page_reporting_dev_info,
        sgl: *mut bindings::scatterlist,
        nents: c_uint,
    ) -> c_int {
        from_result(|| {
            for nr in 0..nents as usize {
                let entry = sgl.wrapping_add(nr);
                // SAFETY: By the safety requirements.
                let (page, len) = unsafe { (bindings::sg_page(entry), (*entry).length) };
                let frames = PfnRange::new(pfn_of(page), len as usize / PAGE_SIZE).ok_or(EINVAL)?;
                // INVARIANT: By the safety requirements.
                T::report(FreeBlock {
                    frames,
                    _aside: PhantomData,
                })?;
            }
            Ok(0)
        })
    }
}

impl<T: Operations> Drop for Registration<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant. There will be no more calls once this has returned.
        unsafe { bindings::page_reporting_unregister(self.device.get()) };
    }
}
