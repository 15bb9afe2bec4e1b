// SPDX-License-Identifier: GPL-2.0

//! Cleancache: a place for clean page cache that is evicted.
//!
//! Which pages are put, got and flushed when, and why no page that comes back is out of date, says
//! the C header. Here is which files the backend may have pages of although their inodes are not in
//! memory.
//!
//! C header: [`include/linux/cleancache.h`](srctree/include/linux/cleancache.h)

use crate::{
    bindings,
    bitmap::BitmapVec,
    macros::export,
    mm::{
        folio::{
            Flags,
            Folio,
            LockedFolio, //
        },
        tmem::{
            Slot,
            Source,
            Wanted,
            MAX_PAGES, //
        }, //
    },
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        barrier::{
            smp_mb,
            Full, //
        },
        Arc, //
    }, //
};
use core::{
    marker::PhantomData,
    ops::RangeInclusive,
    slice, //
};

/// A file system that is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fs(u32);

impl Fs {
    /// Returns its device number (`s_dev`), which is never 0.
    pub fn device(self) -> u32 {
        self.0
    }
}

/// A file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File {
    /// The file system that it is on.
    pub fs: Fs,
    /// Its inode number.
    pub inode: u64,
}

/// Where pages go.
///
/// # Context
///
/// All are called under RCU, and so must not sleep. They may be called with interrupts off. Puts,
/// gets and flushes of the same pages are never called at the same time.
pub trait Backend: Send + Sync {
    /// Takes a copy of pages, in place of those that it has. Returns whether it has all of them;
    /// if not, it has none of them, and no older ones either.
    fn put(&self, file: File, index: u64, pages: &Source<'_>) -> bool;

    /// Gives back what it has of the folios, each as a whole, forgets it, and settles these as
    /// hits. If it does not have all of a folio it leaves the frames as they are.
    fn get(&self, file: File, wanted: &mut Wanted<'_>);

    /// Forgets pages of a file.
    fn flush(&self, file: File, pages: RangeInclusive<u64>);

    /// Forgets a file.
    fn flush_file(&self, file: File);

    /// Forgets a file system. This may be called while pages of it are put, got and flushed.
    fn flush_fs(&self, fs: Fs);
}

/// A backend, and what it may have of files whose inodes were evicted.
struct Known {
    backend: Arc<dyn Backend>,
    evicted: Evicted,
}

/// The files that a backend may have pages of although their inodes were evicted from memory.
///
/// A bit stands for many files, and none is ever cleared: a file too many costs gets that miss, one
/// too few would cost its contents.
struct Evicted(BitmapVec);

impl Evicted {
    /// 32 KiB: of the files that were never put, one in five is asked for when 50000 were evicted.
    const SHIFT: u32 = 18;

    fn new() -> Result<Self> {
        Ok(Self(BitmapVec::new(1 << Self::SHIFT, GFP_KERNEL)?))
    }

    fn bit(file: File) -> usize {
        let name = file.inode ^ u64::from(file.fs.0).rotate_right(u32::BITS);
        // CAST: It has `SHIFT` bits.
        (name.wrapping_mul(bindings::GOLDEN_RATIO_64) >> (u64::BITS - Self::SHIFT)) as usize
    }

    fn add(&self, file: File) {
        self.0.set_bit_atomic(Self::bit(file));
    }

    fn may_have(&self, file: File) -> bool {
        let bit = Self::bit(file);
        self.0.next_bit(bit) == Some(bit)
    }
}

/// Whether there may be a backend: `cleancache_enabled` of the C header.
#[no_mangle]
// SAFETY: All zeroes is a static key that is false.
static mut cleancache_enabled: bindings::static_key_false = unsafe { core::mem::zeroed() };

static BACKEND: Slot<Known> = Slot::new();

/// There is a backend while this lives.
///
/// Dropping it waits for hooks that run, so it may sleep. Afterwards nothing that the backend has
/// may be used any more, since it does not learn what is to be forgotten.
pub struct Registration(());

impl Registration {
    /// Begins to put pages. May sleep. The backend is empty.
    ///
    /// # Errors
    ///
    /// - `EBUSY` if there is a backend already.
    /// - `ENOMEM`
    pub fn new(backend: Arc<dyn Backend>) -> Result<Self> {
        let evicted = Evicted::new()?;
        BACKEND.fill(KBox::new(Known { backend, evicted }, GFP_KERNEL)?, || {
            // SAFETY: The key is a `static`.
            unsafe { bindings::static_key_enable(&raw mut cleancache_enabled.key) }
        })?;
        Ok(Self(()))
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        BACKEND.empty(|| {
            // SAFETY: The key is a `static`.
            unsafe { bindings::static_key_disable(&raw mut cleancache_enabled.key) }
        });
    }
}

/// The mapping of a file.
///
/// # Invariants
///
/// It is that of an inode, which stays for `'a`. Others may change both meanwhile.
struct Mapping<'a> {
    mapping: *mut bindings::address_space,
    inode: *mut bindings::inode,
    sb: *mut bindings::super_block,
    _inode: PhantomData<&'a ()>,
}

impl Mapping<'_> {
    /// # Safety
    ///
    /// The type invariant must hold.
    unsafe fn new(mapping: *mut bindings::address_space) -> Self {
        // SAFETY: As the caller says. These pointers never change.
        let (inode, sb) = unsafe { ((*mapping).host, (*(*mapping).host).i_sb) };
        // INVARIANT: As the caller says.
        Self {
            mapping,
            inode,
            sb,
            _inode: PhantomData,
        }
    }

    fn file(&self) -> File {
        // SAFETY: By the type invariant; none of this changes.
        unsafe {
            File {
                fs: Fs((*self.sb).s_dev),
                inode: (*self.inode).i_ino,
            }
        }
    }

    /// Whether its clean pages are those of the file and nothing else, now and when they are got.
    fn takes_part(&self) -> bool {
        const EXCLUDED: u32 = bindings::S_ENCRYPTED | bindings::S_VERITY | bindings::S_DAX;
        // SAFETY: By the type invariant. A flag that is just being set is as good as none.
        let (fs_flags, mode, flags, of_inode) = unsafe {
            (
                (*(*self.sb).s_type).fs_flags,
                (*self.inode).i_mode,
                (&raw const (*self.inode).i_flags).read_volatile(),
                (*self.inode).i_mapping,
            )
        };
        fs_flags & bindings::FS_CLEANCACHE as c_int != 0
            && u32::from(mode) & bindings::S_IFMT == bindings::S_IFREG
            && flags & EXCLUDED == 0
            && of_inode == self.mapping
            && !self.has(bindings::mapping_flags_AS_EXITING)
    }

    /// Whether direct I/O may be under way that has not invalidated the page cache yet.
    ///
    /// A folio that was in the page cache before this is found by those that begin later.
    fn has_direct_io(&self) -> bool {
        smp_mb(Full);
        // SAFETY: By the type invariant. The count is a number that is only changed atomically.
        unsafe { (&raw const (*self.inode).i_dio_count.counter).read_volatile() != 0 }
    }

    fn has(&self, flag: bindings::mapping_flags) -> bool {
        // SAFETY: By the type invariant. The flags are a word that is only changed atomically.
        unsafe { bindings::test_bit(flag as usize, &raw const (*self.mapping).flags) }
    }

    fn set(&self, flag: bindings::mapping_flags) {
        // SAFETY: As above.
        unsafe { bindings::set_bit(flag as usize, &raw mut (*self.mapping).flags) };
    }

    /// The number of pages up to the end of the file.
    fn pages(&self) -> u64 {
        // SAFETY: By the type invariant.
        let size = unsafe { bindings::i_size_read(self.inode) };
        (size as u64).div_ceil(PAGE_SIZE as u64)
    }
}

/// Whether a folio is of a file whose pages go to a backend when memory is needed, so that nothing
/// is gained by losing them otherwise.
pub fn wants(folio: &LockedFolio<'_>) -> bool {
    let Some(mapping) = folio.file_mapping() else {
        return false;
    };
    // SAFETY: The mapping stays while the folio is locked and in it.
    let of_inode = !unsafe { (*mapping.as_ptr()).host }.is_null();
    of_inode
        && BACKEND.with(|_| ()).is_some()
        // SAFETY: It is that of an inode, which stays as long.
        && unsafe { Mapping::new(mapping.as_ptr()) }.takes_part()
}

/// Whether the contents of a folio, which is locked, are those of its file, and only its caller and
/// the page cache have references to it, so that they stay so.
fn can_be_put(folio: &Folio, mapping: &Mapping<'_>) -> bool {
    const BUSY: Flags = Flags::of([
        bindings::pageflags_PG_dirty,
        bindings::pageflags_PG_writeback,
        bindings::pageflags_PG_private,
    ]);
    let nr = folio.frames().len();
    nr <= MAX_PAGES
        && mapping.takes_part()
        && folio.has(bindings::pageflags_PG_uptodate)
        && !folio.flags().any(BUSY)
        && folio.index() + nr as u64 <= mapping.pages()
        // SAFETY: The reference to the folio.
        && unsafe { bindings::folio_ref_count(folio.as_ptr()) } as usize == nr + 1
}

/// See `cleancache_evict()`.
///
/// # Safety
///
/// The folio is locked, unmapped and in the mapping of a file.
#[export]
unsafe extern "C" fn __cleancache_evict(folio: *mut bindings::folio, reclaimed: bool) {
    // SAFETY: The caller has a reference, and the mapping stays while the folio is locked.
    let (folio, mapping) = unsafe {
        let folio = Folio::from_raw(folio);
        (folio, Mapping::new(folio.mapping()))
    };
    if reclaimed && can_be_put(folio, &mapping) {
        // SAFETY: It is locked and unmapped, and nobody else has a reference.
        let pages = unsafe { Source::new(folio.frames()) };
        let put = BACKEND.with(|to| to.backend.put(mapping.file(), folio.index(), &pages));
        // The bit is set before the folio leaves the page cache.
        if put == Some(true) && !mapping.has(bindings::mapping_flags_AS_CLEANCACHE) {
            mapping.set(bindings::mapping_flags_AS_CLEANCACHE);
        }
    } else if mapping.has(bindings::mapping_flags_AS_CLEANCACHE) {
        flush_folio(folio, &mapping);
    }
}

fn flush_folio(folio: &Folio, mapping: &Mapping<'_>) {
    let last = folio.index() + folio.frames().len() as u64 - 1;
    BACKEND.with(|of| of.backend.flush(mapping.file(), folio.index()..=last));
}

/// Whether a folio of a file that takes part can be got as a whole.
fn can_be_got(folio: &Folio) -> bool {
    // What has a private part may be uptodate, or even dirty, in parts.
    const IN_PARTS: Flags = Flags::of([
        bindings::pageflags_PG_uptodate,
        bindings::pageflags_PG_dirty,
        bindings::pageflags_PG_writeback,
        bindings::pageflags_PG_private,
    ]);
    !folio.flags().any(IN_PARTS) && folio.frames().len() <= MAX_PAGES
}

/// See `cleancache_get()` and `cleancache_get_batch()`.
///
/// # Safety
///
/// There are `nr` folios, at least one and at most 64. Each is locked and in the mapping of the
/// same file.
#[export]
unsafe extern "C" fn __cleancache_get(folios: *mut *mut bindings::folio, nr: c_uint) -> c_ulong {
    // SAFETY: As the caller says; the mapping stays while a folio is locked.
    let (folios, mapping) = unsafe {
        let folios = slice::from_raw_parts(folios, nr as usize);
        (folios, Mapping::new(Folio::from_raw(folios[0]).mapping()))
    };
    // What was put while direct I/O wrote may be what was there before. It is flushed after the
    // page cache was invalidated: too late for who gets it in between.
    if !mapping.takes_part() || mapping.has_direct_io() {
        return 0;
    }
    let asked = folios.iter().enumerate().fold(0, |bits, (which, &folio)| {
        // SAFETY: The caller has a reference.
        bits | u64::from(can_be_got(unsafe { Folio::from_raw(folio) })) << which
    });
    // SAFETY: They are locked, and nobody uses a folio that is not uptodate.
    let mut wanted = unsafe { Wanted::new(folios, asked) };
    if BACKEND
        .with(|of| of.backend.get(mapping.file(), &mut wanted))
        .is_some()
    {
        // It may have a part of a large folio, which will not be asked for again.
        for folio in wanted.misses(asked) {
            if folio.frames().len() > 1 {
                flush_folio(folio, &mapping);
            }
        }
    }
    wanted.hits() as c_ulong
}

/// See `cleancache_flush()`.
///
/// # Safety
///
/// The mapping is that of an inode.
#[export]
unsafe extern "C" fn __cleancache_flush(
    mapping: *mut bindings::address_space,
    first: c_ulong,
    last: c_ulong,
) {
    // SAFETY: As the caller says.
    let mapping = unsafe { Mapping::new(mapping) };
    BACKEND.with(|of| of.backend.flush(mapping.file(), first as u64..=last as u64));
}

/// See `cleancache_new_inode()`.
///
/// # Safety
///
/// Nobody else uses the inode yet.
#[export]
unsafe extern "C" fn __cleancache_new_inode(inode: *mut bindings::inode) {
    // SAFETY: It is that of an inode, which stays meanwhile.
    let mapping = unsafe { Mapping::new(&raw mut (*inode).i_data) };
    let kept = BACKEND.with(|of| of.evicted.may_have(mapping.file()));
    if kept == Some(true) {
        mapping.set(bindings::mapping_flags_AS_CLEANCACHE);
        // Without page cache, such as by DAX, nobody would flush what is changed.
        if !mapping.takes_part() {
            BACKEND.with(|of| of.backend.flush_file(mapping.file()));
        }
    }
}

/// See `cleancache_evict_inode()`.
///
/// # Safety
///
/// The mapping is that of an inode.
#[export]
unsafe extern "C" fn __cleancache_evict_inode(mapping: *mut bindings::address_space, keep: bool) {
    // SAFETY: As the caller says.
    let file = unsafe { Mapping::new(mapping) }.file();
    BACKEND.with(|of| match keep {
        true => of.evicted.add(file),
        false => of.backend.flush_file(file),
    });
}

/// See `cleancache_flush_fs()`.
///
/// # Safety
///
/// The super block is valid.
#[export]
unsafe extern "C" fn __cleancache_flush_fs(sb: *mut bindings::super_block) {
    // SAFETY: As the caller says.
    let fs = Fs(unsafe { (*sb).s_dev });
    BACKEND.with(|of| of.backend.flush_fs(fs));
}
