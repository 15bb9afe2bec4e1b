// SPDX-License-Identifier: GPL-2.0

//! How much memory there is.
//!
//! C header: [`include/linux/mm.h`](srctree/include/linux/mm.h)

use crate::bindings;

/// Estimates how many pages are available for new uses without swapping or worse.
///
/// This is `MemAvailable` of `/proc/meminfo`, in pages: what is free above the reserves, and the
/// part of page cache and reclaimable slab that can be given up easily.
///
/// # Context
///
/// Any. Adds up counters of all zones: cheap, but not for each page.
///
/// # Examples
///
/// ```
/// use kernel::mm;
///
/// assert!(mm::available_pages() < mm::total_pages());
/// ```
#[inline(never)]
pub fn available_pages() -> usize {
    // SAFETY: Always safe to call.
    let pages = unsafe { bindings::si_mem_available() };
    // It is never negative: see mm/show_mem.c.
    usize::try_from(pages).unwrap_or(0)
}

/// Returns the number of pages that the page allocator manages: `MemTotal` of `/proc/meminfo`.
///
/// It changes with memory hotplug, and with balloons that adjust it.
///
/// # Context
///
/// Any.
#[inline(never)]
pub fn total_pages() -> usize {
    // SAFETY: Always safe to call.
    unsafe { bindings::totalram_pages() }
}

/// Returns how many pages processes were promised: `Committed_AS` of `/proc/meminfo`, in pages.
///
/// # Context
///
/// May sleep. Adds up the counters of all processors.
#[inline(never)]
pub fn committed_pages() -> usize {
    // SAFETY: Always safe to call.
    unsafe { bindings::vm_memory_committed() }
}

/// Returns how many pages were freed since the boot.
///
/// # Context
///
/// May sleep. Adds up the counters of all processors.
#[cfg(CONFIG_VM_EVENT_COUNTERS)]
pub fn freed_pages() -> usize {
    let mut events = [0; bindings::vm_event_item_NR_VM_EVENT_ITEMS as usize];
    // SAFETY: There is room for all events.
    unsafe { bindings::all_vm_events(events.as_mut_ptr()) };
    events[bindings::vm_event_item_PGFREE as usize]
}

/// Returns how many pages of page cache were reclaimed since the boot: `pgsteal_file` of
/// `/proc/vmstat`.
///
/// # Context
///
/// Any. The number is a little out of date, as all figures that are kept for each CPU.
#[inline(never)]
pub fn reclaimed_file_pages() -> usize {
    // SAFETY: Always safe to call.
    unsafe { bindings::global_node_page_state(bindings::node_stat_item_PGSTEAL_FILE) }
}
