// SPDX-License-Identifier: GPL-2.0

//! Which page frames there are.
//!
//! C header: [`include/linux/memory_hotplug.h`](srctree/include/linux/memory_hotplug.h)

use crate::{
    bindings,
    page::Pfn, //
};

/// Returns the number behind that of the last page frame that there is.
///
/// It can grow when memory goes online.
#[doc(alias = "max_pfn")]
pub fn end_of_frames() -> Pfn {
    // SAFETY: A plain number.
    Pfn::new(unsafe { bindings::max_pfn })
}

/// Returns whether a page frame is online.
///
/// Nothing is said about what it is used for. It may be otherwise as soon as this returns, unless
/// the caller has [`OnlineMemory`].
#[doc(alias = "pfn_to_online_page")]
pub fn is_online(frame: Pfn) -> bool {
    // SAFETY: Always safe to call.
    unsafe { !bindings::pfn_to_online_page(frame.as_usize()).is_null() }
}

/// Keeps all memory online that is, and all that is offline as it is.
///
/// # Context
///
/// Taking it may sleep, until memory that goes online or offline has done so. While it is held,
/// others who want to change that wait: do not hold it for long.
///
/// # Examples
///
/// ```
/// use kernel::mm;
///
/// let memory = mm::OnlineMemory::lock();
/// // Some of the frames were never given to the page allocator, such as those of the kernel.
/// assert!(memory.frames().count() > mm::total_pages());
/// ```
pub struct OnlineMemory(());

impl OnlineMemory {
    /// Waits until nobody changes what is online, and keeps it so.
    #[doc(alias = "get_online_mems")]
    pub fn lock() -> Self {
        // SAFETY: Always safe to call where one may sleep.
        unsafe { bindings::get_online_mems() };
        Self(())
    }

    /// Iterates over the page frames that are online, ascending.
    ///
    /// They have a `struct page`. Nothing is said about what they are used for.
    pub fn frames(&self) -> impl Iterator<Item = Pfn> + '_ {
        (0..end_of_frames().as_usize())
            .map(Pfn::new)
            .filter(|&frame| is_online(frame))
    }
}

impl Drop for OnlineMemory {
    fn drop(&mut self) {
        // SAFETY: This belongs to the call in `lock`.
        unsafe { bindings::put_online_mems() };
    }
}
