// SPDX-License-Identifier: GPL-2.0

//! Volatile folios: clean page cache that the hypervisor may take.
//!
//! A clean folio that is neither mapped nor held can be read again from its file. ESSA tells the
//! hypervisor so: the page states of its frames become volatile, and the hypervisor may take their
//! contents at the moment it needs memory, without a word to the guest. Before Linux uses or moves
//! the contents it makes the folio stable again, and so learns whether they are still there.
//!
//! # Protocol
//!
//! - [`Session::make_volatile`] freezes the reference count, so that no look-up succeeds, looks
//!   once more whether the folio may become volatile, sets the mark `PG_arch_2` and the page
//!   states, and unfreezes the count.
//! - Every look-up that is after the contents takes a reference and then looks for the mark
//!   (`folio_make_stable()` in `include/linux/volatile_folio.h`). One that finds it makes all
//!   frames stable under the lock bit `PG_arch_3`. If one was discarded the folio is not uptodate
//!   any more, and is read again as any folio that is not. The mark goes last: without it, the
//!   flag uptodate can be trusted.
//! - What a process has mapped is unmapped before: its next access is a fault, and that is a
//!   look-up. So whoever comes to the contents through page tables, by get_user_pages() or by an
//!   access of the kernel to user space, needs nothing of this.
//! - A mark can only go while somebody holds a reference, or when the folio is freed.
//!
//! So nobody who keeps to this meets a discarded frame, and a discard fault (program interruption
//! X'1A') is the sign of a mistake.
//!
//! C header: [`include/linux/volatile_folio.h`](srctree/include/linux/volatile_folio.h)

use crate::{
    bindings,
    interrupt::{
        local_interrupt_disable,
        LocalInterruptDisabled, //
    },
    macros::export,
    mm::{
        self,
        folio::{
            Flags,
            Folio,
            LockedFolio, //
        }, //
    },
    page::Pfn,
    prelude::*,
    s390::{
        essa::Essa,
        page_states, //
    },
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
    task::cond_resched,
    time::{
        delay::fsleep,
        Delta, //
    }, //
};
use core::ptr;

/// The mark of volatile folios.
const VOLATILE: bindings::pageflags = bindings::pageflags_PG_arch_2;
/// Held while a folio is made stable.
const STATE_LOCK: bindings::pageflags = bindings::pageflags_PG_arch_3;

/// Whether there may be volatile folios: `volatile_folios` of the C header.
#[no_mangle]
// SAFETY: All zeroes is a static key that is false.
static mut volatile_folios: bindings::static_key_false = unsafe { core::mem::zeroed() };

/// What has become of volatile folios, in pages since the boot if nothing else is said.
pub struct Stats {
    /// Made volatile.
    pub made_volatile: Atomic<u64>,
    /// Made stable again, with their contents or without.
    pub made_stable: Atomic<u64>,
    /// Folios that were found discarded when they were made stable; they are read again.
    pub lost_folios: Atomic<u64>,
    /// Folios among these that were removed from their file, for readahead to work again.
    pub evicted_folios: Atomic<u64>,
    /// How often a read found what it needs lost, and had the file read.
    pub lost_to_reads: Atomic<u64>,
    /// How often a fault did.
    pub lost_to_faults: Atomic<u64>,
    /// Taken from the page tables of processes in order to be made volatile.
    pub unmapped: Atomic<u64>,
    /// Freed while volatile.
    pub freed: Atomic<u64>,
    /// Discard faults of the kernel.
    pub kernel_faults: Atomic<u64>,
    /// Discard faults of user space.
    pub user_faults: Atomic<u64>,
    /// Volatile now.
    pub volatile: Atomic<u64>,
}

static STATS: Stats = Stats {
    made_volatile: Atomic::new(0),
    made_stable: Atomic::new(0),
    lost_folios: Atomic::new(0),
    evicted_folios: Atomic::new(0),
    lost_to_reads: Atomic::new(0),
    lost_to_faults: Atomic::new(0),
    unmapped: Atomic::new(0),
    freed: Atomic::new(0),
    kernel_faults: Atomic::new(0),
    user_faults: Atomic::new(0),
    volatile: Atomic::new(0),
};

/// Returns what has become of volatile folios.
pub fn stats() -> &'static Stats {
    &STATS
}

/// Why a folio cannot become volatile now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is volatile.
    Already,
    /// It is memory of a process, of a file without a place to be read again from, or of a block
    /// device: file systems keep metadata there whose buffers alone are uptodate.
    Anonymous,
    /// It is dirty or being written.
    Dirty,
    /// It was never read in full.
    NotUptodate,
    /// It is mapped into a process, and stays so.
    Mapped,
    /// Its file system keeps something with it that it does not release.
    Private,
    /// It is locked, or held by somebody.
    Busy,
}

impl Why {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Already,
        Self::Anonymous,
        Self::Dirty,
        Self::NotUptodate,
        Self::Mapped,
        Self::Private,
        Self::Busy,
    ];
}

/// What becomes of the mappings of a folio that is to be volatile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mappings {
    /// They stay, and so does the folio.
    Keep,
    /// It is unmapped first.
    Unmap,
}

/// Volatile folios are on while this lives. There is at most one.
///
/// Dropping it makes all of them stable, which may sleep and take a while.
pub struct Session {
    essa: Essa,
}

/// Whether there is a [`Session`].
static IN_SESSION: Atomic<bool> = Atomic::new(false);

impl Session {
    /// Allows folios to become volatile. May sleep.
    ///
    /// # Errors
    ///
    /// - [`EOPNOTSUPP`] if there is no ESSA.
    /// - [`EBUSY`] if there is a session already.
    pub fn begin() -> Result<Self> {
        let essa = Essa::get().ok_or(EOPNOTSUPP)?;
        if IN_SESSION.xchg(true, Relaxed) {
            return Err(EBUSY);
        }
        // SAFETY: The key is a `static`.
        unsafe { bindings::static_key_enable(&raw mut volatile_folios.key) };
        Ok(Self { essa })
    }

    /// Makes a folio volatile.
    ///
    /// The caller must hold exactly one reference. May sleep, since a file system may have to
    /// release something first.
    ///
    /// # Errors
    ///
    /// The reason if it cannot become volatile now.
    pub fn make_volatile(&self, folio: &LockedFolio<'_>, mappings: Mappings) -> Result<(), Why> {
        check(folio)?;
        let mapped = folio.is_mapped_file();
        if mapped && mappings == Mappings::Keep {
            return Err(Why::Mapped);
        }
        let frames = folio.frames();
        if mapped {
            if !folio.unmap() {
                return Err(Why::Mapped);
            }
            STATS.unmapped.fetch_add(frames.len() as u64, Relaxed);
        }
        // Whoever holds it may be about to write to it, as a device for direct I/O: it must keep
        // what its file system needs then. Now that it is unmapped nobody can come to that.
        if folio.is_held() {
            return Err(Why::Busy);
        }
        if folio.has(bindings::pageflags_PG_private) && !folio.release_private() {
            return Err(Why::Private);
        }
        let frozen = Frozen::new(folio, frames.len() + 1).ok_or(Why::Busy)?;
        // It may have become dirty by somebody who has dropped his reference since. It is not
        // mapped: a page table has a reference, too.
        check(folio)?;
        // SAFETY: The word of the flags, which are only changed atomically.
        unsafe { bindings::set_bit(VOLATILE as c_ulong, folio.flags_ptr()) };
        for frame in frames.pfns() {
            // SAFETY: The folio is clean, so its contents are also in its file. Nobody uses them,
            // since the folio is neither mapped nor held. Whoever will use them gets a reference
            // only once the count is unfrozen, and finds the mark.
            unsafe { self.essa.set_volatile(frame) };
        }
        // Before anybody can make it stable again.
        STATS.made_volatile.fetch_add(frames.len() as u64, Relaxed);
        STATS.volatile.fetch_add(frames.len() as u64, Relaxed);
        drop(frozen);
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Nobody makes folios volatile any more. One that cannot be had here is just being freed.
        while STATS.volatile.load(Relaxed) != 0 {
            let mut frame = Pfn::new(0);
            while frame < mm::end_of_frames() {
                let folio = Folio::flagged(frame, VOLATILE);
                if let Some(folio) = &folio {
                    make_stable(folio);
                }
                frame = folio.map_or(frame, |folio| folio.frames().last()).next();
                cond_resched();
            }
            fsleep(Delta::from_millis(1));
        }
        // SAFETY: The key is a `static`. Nobody needs it any more.
        unsafe { bindings::static_key_disable(&raw mut volatile_folios.key) };
        IN_SESSION.store(false, Relaxed);
    }
}

/// The reference count of a folio is frozen: nobody can take a reference.
///
/// Look-ups spin until they can, with preemption disabled and in interrupts, too, so these are
/// disabled here: they must not keep this from going on.
struct Frozen<'a> {
    folio: &'a Folio,
    references: c_int,
    _off: LocalInterruptDisabled,
}

impl<'a> Frozen<'a> {
    /// Freezes it if it is exactly that: without the caller's, those of the page cache.
    fn new(folio: &'a LockedFolio<'_>, references: usize) -> Option<Self> {
        let references = references.try_into().ok()?;
        let off = local_interrupt_disable();
        // SAFETY: By the type invariant of `Folio`.
        let frozen = unsafe { bindings::folio_ref_freeze(folio.as_ptr(), references) };
        frozen.then(|| Self {
            folio,
            references,
            _off: off,
        })
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        // SAFETY: The count was frozen by `new`.
        unsafe { bindings::folio_ref_unfreeze(self.folio.as_ptr(), self.references) };
    }
}

/// Checks whether a folio may become volatile, but for its references and mappings.
fn check(folio: &LockedFolio<'_>) -> Result<(), Why> {
    use bindings::{
        pageflags_PG_dirty as DIRTY, pageflags_PG_dropbehind as DROPBEHIND,
        pageflags_PG_lru as LRU, pageflags_PG_mlocked as MLOCKED,
        pageflags_PG_private_2 as PRIVATE_2, pageflags_PG_swapbacked as SWAPBACKED,
        pageflags_PG_unevictable as UNEVICTABLE, pageflags_PG_uptodate as UPTODATE,
        pageflags_PG_writeback as WRITEBACK,
    };

    let flags = folio.flags();
    if flags.any(Flags::of([VOLATILE])) {
        Err(Why::Already)
    } else if flags.any(Flags::of([SWAPBACKED, UNEVICTABLE])) || !readable_again(folio) {
        Err(Why::Anonymous)
    } else if flags.any(Flags::of([DIRTY, WRITEBACK])) {
        Err(Why::Dirty)
    } else if !flags.any(Flags::of([UPTODATE])) {
        Err(Why::NotUptodate)
    } else if flags.any(Flags::of([MLOCKED])) {
        Err(Why::Mapped)
    } else if flags.any(Flags::of([PRIVATE_2])) {
        Err(Why::Private)
    } else if flags.any(Flags::of([DROPBEHIND])) || !flags.any(Flags::of([LRU])) {
        Err(Why::Busy)
    } else {
        Ok(())
    }
}

/// Whether a folio belongs to a file whose contents are on a block device: what is read there again
/// is what was read before.
fn readable_again(folio: &LockedFolio<'_>) -> bool {
    const NEVER: c_ulong =
        1 << bindings::mapping_flags_AS_UNEVICTABLE | 1 << bindings::mapping_flags_AS_INACCESSIBLE;

    let Some(mapping) = folio.file_mapping() else {
        return false;
    };
    // SAFETY: The mapping, its inode and that one's file system live while the folio is locked and
    // in it.
    unsafe {
        let mapping = mapping.as_ptr();
        let host = (*mapping).host;
        (*mapping).flags & NEVER == 0
            && (*(*mapping).a_ops).read_folio.is_some()
            && !host.is_null()
            && !(*(*host).i_sb).s_bdev.is_null()
    }
}

/// Makes all frames of a volatile folio stable. If the contents of one are gone, the folio is not
/// uptodate afterwards.
fn make_stable(folio: &Folio) {
    // There can be no volatile folio without ESSA.
    let Some(essa) = Essa::get() else { return };
    let flags = folio.flags_ptr();
    // Look-ups in interrupts come here, too, such as those of build IDs by perf.
    let _off = local_interrupt_disable();
    // SAFETY: A bit that only this function uses, in the word of the flags of a folio that is held.
    unsafe { bindings::bit_spin_lock(STATE_LOCK as c_int, flags) };
    if folio.has(VOLATILE) {
        let frames = folio.frames();
        let mut lost = false;
        for frame in frames.pfns() {
            if essa.set_stable_if_present(frame).is_discarded() {
                lost = true;
                // SAFETY: Nobody uses the frame as long as the folio has its mark, and its content
                // is lost. It was no DAT table.
                unsafe { essa.set_stable(frame) };
            }
        }
        if lost {
            // With what was checked of the contents, such as by fs-verity.
            // SAFETY: The word of the flags, which are only changed atomically. Nobody trusts the
            // flag uptodate before the mark is gone.
            unsafe {
                bindings::clear_bit(bindings::pageflags_PG_uptodate as c_ulong, flags);
                bindings::clear_bit(bindings::pageflags_PG_checked as c_ulong, flags);
            }
            STATS.lost_folios.fetch_add(1, Relaxed);
        }
        // SAFETY: As above.
        unsafe { bindings::clear_bit(VOLATILE as c_ulong, flags) };
        STATS.made_stable.fetch_add(frames.len() as u64, Relaxed);
        STATS.volatile.fetch_sub(frames.len() as u64, Relaxed);
    }
    // SAFETY: Locked above.
    unsafe { bindings::bit_spin_unlock(STATE_LOCK as c_int, flags) };
}

/// Makes a folio stable whose mark was seen.
///
/// # Safety
///
/// The caller holds a reference. Any context.
#[export]
pub unsafe extern "C" fn __folio_make_stable(folio: *mut bindings::folio) {
    // SAFETY: The caller holds a reference.
    make_stable(unsafe { Folio::from_raw(folio) });
}

/// Makes the frames of a volatile folio that is freed usable.
///
/// # Safety
///
/// The folio has no references any more and is about to be freed. Any context.
#[export]
pub unsafe extern "C" fn __folio_free_volatile(folio: *mut bindings::folio) {
    // SAFETY: Nobody else can reach it.
    let folio = unsafe { Folio::from_raw(folio) };
    let frames = folio.frames();
    // In classic mode they are made unused in a moment, if nobody writes to them before.
    // SAFETY: Always safe to call.
    if page_states::is_lazy() || unsafe { bindings::pages_are_written_when_freed() } {
        if let Some(essa) = Essa::get() {
            for frame in frames.pfns() {
                // SAFETY: The frame is being freed, so nobody needs its content. It is no DAT
                // table.
                unsafe { essa.set_stable(frame) };
            }
        }
    }
    // SAFETY: The word of the flags.
    unsafe { bindings::clear_bit(VOLATILE as c_ulong, folio.flags_ptr()) };
    STATS.freed.fetch_add(frames.len() as u64, Relaxed);
    STATS.volatile.fetch_sub(frames.len() as u64, Relaxed);
}

/// How many lost folios are removed at once. Readahead fills as many again.
const RUN: usize = 512;

/// Removes a folio that is not uptodate, and lost ones that follow it. `fault` says whether a fault
/// needs it, or a read.
///
/// # Safety
///
/// The caller holds a reference, which is dropped if `true` is returned. May sleep.
#[export]
pub unsafe extern "C" fn __folio_evict_lost(folio: *mut bindings::folio, fault: bool) -> bool {
    // SAFETY: The caller holds a reference.
    let first = unsafe { Folio::from_raw(folio) };
    let Some((mapping, mut index)) = evict(first) else {
        return false;
    };
    let times = if fault {
        &STATS.lost_to_faults
    } else {
        &STATS.lost_to_reads
    };
    times.fetch_add(1, Relaxed);
    for _ in 0..RUN {
        // SAFETY: The caller reads this file.
        let entry = unsafe { bindings::filemap_get_entry(mapping.as_ptr(), index) };
        if entry.is_null() || entry.addr() & 1 != 0 {
            break;
        }
        // SAFETY: No value entry, so it is a folio, whose reference goes to `next`.
        let next = unsafe { Folio::owned(entry.cast()) };
        let Some((_, after)) = evict(&next) else {
            break;
        };
        index = after;
    }
    // SAFETY: The caller's reference; the folio is not used any more.
    unsafe { bindings::folio_put(folio) };
    true
}

/// Removes a folio that is not uptodate from its file; the caller has the only reference. Returns
/// the mapping, and the index behind the folio.
fn evict(folio: &Folio) -> Option<(ptr::NonNull<bindings::address_space>, c_ulong)> {
    if folio.has(bindings::pageflags_PG_uptodate) {
        return None;
    }
    let locked = folio.try_lock()?;
    // What has a private part may be uptodate in parts.
    if locked.has(bindings::pageflags_PG_uptodate) || locked.has(bindings::pageflags_PG_private) {
        return None;
    }
    let mapping = locked.file_mapping()?;
    let next = locked.next_index();
    if !locked.evict() {
        return None;
    }
    STATS.evicted_folios.fetch_add(1, Relaxed);
    Some((mapping, next))
}

/// Makes all frames stable: whoever has the memory after this kernel, the next one or that which
/// makes a dump, knows nothing of their states. What was discarded is zero then.
///
/// # Safety
///
/// No other CPU is running, and this one does not come back. Any context.
#[export]
pub unsafe extern "C" fn set_all_pages_stable() {
    let Some(essa) = Essa::get() else { return };
    for frame in (0..mm::end_of_frames().as_usize()).map(Pfn::new) {
        if mm::is_online(frame) {
            essa.set_stable_dat(frame);
        }
    }
}

/// A discard fault: something met contents that the hypervisor has taken, without having made them
/// stable. There is nothing to go on with: whoever it was does not get on, as with any other
/// program check, and the mistake is told of.
///
/// # Safety
///
/// `regs` are those of a program interruption X'1A', with interrupts disabled.
#[export]
pub unsafe extern "C" fn do_discard_fault(regs: *mut bindings::pt_regs) {
    static FIRST: Atomic<bool> = Atomic::new(true);

    // SAFETY: The caller passes valid registers.
    let user = unsafe { bindings::user_mode(regs) };
    let count = if user {
        &STATS.user_faults
    } else {
        &STATS.kernel_faults
    };
    count.fetch_add(1, Relaxed);
    crate::warn_on!(FIRST.xchg(false, Relaxed));
    // SAFETY: As above. Signals user space; in the kernel this takes the fixup of the instruction,
    // or does not return.
    unsafe {
        bindings::do_report_trap(
            regs,
            bindings::SIGBUS as c_int,
            bindings::BUS_ADRERR as c_int,
            c"discard fault".as_char_ptr().cast_mut(),
        )
    };
}
