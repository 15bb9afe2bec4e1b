// SPDX-License-Identifier: GPL-2.0

//! Folios: page frames that Linux manages as one.
//!
//! C header: [`include/linux/page-flags.h`](srctree/include/linux/page-flags.h)

use crate::{
    bindings,
    page::{
        Pfn,
        PfnRange, //
    },
    prelude::*,
    sync::{
        aref::{
            ARef,
            AlwaysRefCounted, //
        },
        atomic::{
            atomic_load,
            Relaxed, //
        }, //
    },
    types::Opaque, //
};
use core::{
    marker::PhantomData,
    ops::Deref,
    ptr::NonNull, //
};

/// A set of the flags of a folio.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flags(usize);

impl Flags {
    /// The set of these flags, by their bit numbers (`enum pageflags`).
    pub(crate) const fn of<const N: usize>(bits: [bindings::pageflags; N]) -> Self {
        let (mut set, mut i) = (0, 0);
        while i < N {
            set |= 1 << bits[i];
            i += 1;
        }
        Self(set)
    }

    /// Whether one of the flags of `set` is there.
    pub(crate) const fn any(self, set: Self) -> bool {
        self.0 & set.0 != 0
    }
}

/// A folio.
///
/// # Invariants
///
/// There is a reference to the folio, and so its flags, its size and its frames stay its own, for
/// as long as a reference to this lives.
#[repr(transparent)]
pub struct Folio(Opaque<bindings::folio>);

// SAFETY: All that can be done with a reference to a folio can be done on any thread.
unsafe impl Send for Folio {}

// SAFETY: What others may change meanwhile is only read atomically.
unsafe impl Sync for Folio {}

// SAFETY: All folios are reference-counted, and live while they have references.
unsafe impl AlwaysRefCounted for Folio {
    fn inc_ref(&self) {
        // SAFETY: By the type invariant there is a reference already.
        unsafe { bindings::folio_get(self.as_ptr()) };
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: The caller gives up a reference.
        unsafe { bindings::folio_put(obj.as_ptr().cast()) };
    }
}

impl Folio {
    /// Returns the folio that a page frame belongs to, if it is on one of the lists of reclaim:
    /// page cache, or memory of a process.
    ///
    /// Does not sleep.
    #[doc(alias = "damon_get_folio")]
    pub fn on_lru(frame: Pfn) -> Option<ARef<Self>> {
        Self::flagged(frame, bindings::pageflags_PG_lru)
    }

    /// Returns the folio that a page frame belongs to, if it has a flag. Does not sleep.
    pub(crate) fn flagged(frame: Pfn, flag: bindings::pageflags) -> Option<ARef<Self>> {
        let wanted = |flags: Flags| flags.any(Flags::of([flag]));
        // SAFETY: Any number may be asked for.
        let page = unsafe { bindings::pfn_to_online_page(frame.as_usize()) };
        if page.is_null() {
            return None;
        }
        // SAFETY: `page` is that of an online frame. Without a reference the answer may be out of
        // date, which is looked at below.
        let folio = unsafe { bindings::page_folio(page) };
        // SAFETY: A head page is one of an online frame, too.
        if !wanted(unsafe { flags(folio) }) {
            return None;
        }
        // SAFETY: As above; this fails if the frame is free.
        if !unsafe { bindings::folio_try_get(folio) } {
            return None;
        }
        // SAFETY: That took the reference.
        let folio = unsafe { Self::owned(folio) };
        // SAFETY: As above.
        let same = unsafe { bindings::page_folio(page) } == folio.as_ptr();
        (same && wanted(folio.flags())).then_some(folio)
    }

    /// Makes a reference of a pointer from C.
    ///
    /// # Safety
    ///
    /// There is a reference to the folio for `'a`, or nobody else can reach it.
    pub(crate) unsafe fn from_raw<'a>(folio: *mut bindings::folio) -> &'a Self {
        // SAFETY: The caller promises that it is valid. `Folio` is transparent.
        unsafe { &*folio.cast() }
    }

    /// Takes over a reference from C.
    ///
    /// # Safety
    ///
    /// The caller has a reference to the folio and gives it up.
    pub(crate) unsafe fn owned(folio: *mut bindings::folio) -> ARef<Self> {
        // SAFETY: A folio that there is a reference to is not at address 0.
        unsafe { ARef::from_raw(NonNull::new_unchecked(folio.cast())) }
    }

    pub(crate) const fn as_ptr(&self) -> *mut bindings::folio {
        self.0.get()
    }

    /// The flags as they are now.
    pub(crate) fn flags(&self) -> Flags {
        // SAFETY: By the type invariant.
        unsafe { flags(self.as_ptr()) }
    }

    /// Whether the folio has a flag now.
    pub(crate) fn has(&self, flag: bindings::pageflags) -> bool {
        self.flags().any(Flags::of([flag]))
    }

    /// The word with the flags, for the bit operations of C.
    pub(crate) fn flags_ptr(&self) -> *mut c_ulong {
        // SAFETY: By the type invariant. No reference is made.
        unsafe { flags_ptr(self.as_ptr()) }
    }

    /// Returns the page frames of the folio.
    pub fn frames(&self) -> PfnRange {
        // SAFETY: By the type invariant, the folio and so its size stay.
        let (first, nr) = unsafe {
            let page = bindings::folio_page(self.as_ptr(), 0);
            (
                bindings::page_to_pfn(page),
                bindings::folio_nr_pages(self.as_ptr()),
            )
        };
        PfnRange::new(Pfn::new(first), nr).unwrap_or(PfnRange::from(Pfn::new(first)))
    }

    /// Returns the mapping of the file that the folio belongs to.
    ///
    /// The low bits tell if it is none of a file.
    ///
    /// # Safety
    ///
    /// The folio is locked.
    pub(crate) unsafe fn mapping(&self) -> *mut bindings::address_space {
        // SAFETY: By the type invariant, and as the caller says.
        unsafe {
            (*self.as_ptr().cast::<bindings::page>())
                .__bindgen_anon_1
                .__bindgen_anon_1
                .mapping
        }
    }

    /// Returns the index of the folio, which is locked, in its file.
    pub(crate) fn index(&self) -> u64 {
        // SAFETY: By the type invariant.
        let next = unsafe { bindings::folio_next_index(self.as_ptr()) };
        (next - self.frames().len()) as u64
    }

    /// Marks the folio as idle. Returns whether it was already: whether nobody has used it since
    /// somebody marked it.
    ///
    /// The mark is shared with all others that watch idle pages, such as DAMON and
    /// `/sys/kernel/mm/page_idle`.
    #[cfg(CONFIG_PAGE_IDLE_FLAG)]
    pub fn mark_idle(&self) -> bool {
        let idle = bindings::pageflags_PG_idle;
        let was_idle = self.has(idle);
        if !was_idle {
            // SAFETY: The word of the flags, which are only changed atomically.
            unsafe { bindings::set_bit(idle as c_ulong, self.flags_ptr()) };
        }
        was_idle
    }

    /// As [`Self::mark_idle`]; whoever has used the folio through a mapping has used it, too.
    ///
    /// Has no effect on what reclaim finds out about the folio. May sleep.
    #[cfg(CONFIG_IDLE_PAGE_TRACKING)]
    pub fn mark_idle_in_mappings(&self) -> bool {
        // SAFETY: By the type invariant. It looks itself whether it is mapped, and locks it.
        unsafe { bindings::page_idle_clear_pte_refs(self.as_ptr()) };
        self.mark_idle()
    }

    /// Whether the folio is page cache, or memory that a process has given up (`MADV_FREE`), and is
    /// mapped into a process.
    pub fn is_mapped_file(&self) -> bool {
        // SAFETY: By the type invariant.
        let mapped = unsafe { bindings::folio_mapped(self.as_ptr()) };
        mapped && !self.has(bindings::pageflags_PG_swapbacked)
    }

    /// Locks the folio if nobody has locked it. Does not sleep.
    pub fn try_lock(&self) -> Option<LockedFolio<'_>> {
        // SAFETY: By the type invariant.
        let locked = unsafe { bindings::folio_trylock(self.as_ptr()) };
        // INVARIANT: It is locked. Only then: dropping this unlocks it.
        locked.then(|| LockedFolio {
            folio: self,
            _lock: PhantomData,
        })
    }
}

/// # Safety
///
/// `folio` is the first page of an online frame.
unsafe fn flags_ptr(folio: *mut bindings::folio) -> *mut c_ulong {
    // SAFETY: As the caller says. The first member of a folio are its flags.
    unsafe { &raw mut (*folio.cast::<bindings::page>()).flags.f }
}

/// # Safety
///
/// `folio` is the first page of an online frame.
unsafe fn flags(folio: *mut bindings::folio) -> Flags {
    // SAFETY: As the caller says. All others change the word atomically.
    Flags(unsafe { atomic_load(flags_ptr(folio).cast::<usize>(), Relaxed) })
}

/// A folio that is locked: it stays in the file that it belongs to, and nobody begins to read,
/// write or truncate it.
///
/// # Invariants
///
/// This owns the lock of `folio`.
pub struct LockedFolio<'a> {
    folio: &'a Folio,
    _lock: PhantomData<*mut ()>,
}

impl Deref for LockedFolio<'_> {
    type Target = Folio;

    fn deref(&self) -> &Folio {
        self.folio
    }
}

impl LockedFolio<'_> {
    /// Returns the mapping of the file that the folio belongs to.
    pub(crate) fn file_mapping(&self) -> Option<NonNull<bindings::address_space>> {
        // SAFETY: By the type invariants the mapping does not change. It is only looked at.
        let mapping = unsafe { self.mapping() };
        // The low bits tell that it is none of a file.
        if mapping.addr() & 3 != 0 {
            return None;
        }
        NonNull::new(mapping)
    }

    /// Returns the index of what follows the folio in its file.
    pub(crate) fn next_index(&self) -> c_ulong {
        // SAFETY: By the type invariants the index does not change.
        unsafe { bindings::folio_next_index(self.as_ptr()) }
    }

    /// Makes the file system give up what it keeps with the folio, such as buffers. Returns whether
    /// nothing is left. May sleep, but starts no I/O and waits for none.
    pub(crate) fn release_private(&self) -> bool {
        // SAFETY: Locked, by the type invariant.
        unsafe { bindings::filemap_release_folio(self.as_ptr(), 0) }
    }

    /// Removes the folio, which is page cache, from all page tables: the next access of a process
    /// is a fault, which finds it in its file. Returns whether no page table has it any more: that
    /// fails where it is mlocked. May sleep.
    #[doc(alias = "try_to_unmap")]
    pub(crate) fn unmap(&self) -> bool {
        let how = bindings::ttu_flags_TTU_SPLIT_HUGE_PMD | bindings::ttu_flags_TTU_SYNC;
        // SAFETY: Locked, and so still in its file, by the type invariant.
        unsafe {
            bindings::try_to_unmap(self.as_ptr(), how);
            !bindings::folio_mapped(self.as_ptr())
        }
    }

    /// Whether somebody holds the folio besides the caller, with one reference, page tables, page
    /// cache and file system.
    pub(crate) fn is_held(&self) -> bool {
        // SAFETY: By the type invariant.
        unsafe {
            bindings::folio_ref_count(self.as_ptr())
                != bindings::folio_expected_ref_count(self.as_ptr()) + 1
        }
    }

    /// Removes the folio from its file if it is clean, unmapped and held by nobody but the caller,
    /// with one reference. Returns whether it was removed.
    pub(crate) fn evict(&self) -> bool {
        let Some(mapping) = self.file_mapping() else {
            return false;
        };
        // SAFETY: Locked, by the type invariant, and so still in that mapping.
        unsafe { bindings::remove_mapping(mapping.as_ptr(), self.as_ptr()) != 0 }
    }
}

impl Drop for LockedFolio<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::folio_unlock(self.as_ptr()) };
    }
}

/// Has all processors put the folios of their batches on the lists of reclaim: those have a
/// reference more as long as they wait there, or are not found by [`Folio::on_lru`].
///
/// May sleep. Costs nothing where no folio waits.
#[doc(alias = "lru_add_drain_all")]
pub fn drain_batches() {
    // SAFETY: May be called wherever sleeping is allowed.
    unsafe { bindings::lru_add_drain_all() };
}

/// Returns the number of pages in the page cache: `Cached` and `Buffers` of `/proc/meminfo`, with
/// the swap cache.
///
/// # Context
///
/// Any. The number is a little out of date, as all figures that are kept for each CPU.
#[inline(never)]
pub fn file_pages() -> usize {
    // SAFETY: Always safe to call.
    unsafe { bindings::global_node_page_state(bindings::node_stat_item_NR_FILE_PAGES) }
}
