// SPDX-License-Identifier: GPL-2.0

//! Cleancache: a place for clean page cache that is evicted.
//!
//! Which pages are put, got and flushed when, and why no page that comes back is out of date, says
//! the C header. What a backend has of a file is flushed when its inode is evicted, so nothing
//! survives that, nor an unmount.
//!
//! C header: [`include/linux/cleancache.h`](srctree/include/linux/cleancache.h)

use crate::{
    bindings,
    macros::export,
    mm::{
        folio::{
            Flags,
            Folio, //
        },
        tmem::{
            Slot,
            Source,
            Target,
            MAX_PAGES, //
        }, //
    },
    page::PAGE_SIZE,
    prelude::*,
    sync::Arc, //
};
use core::{
    marker::PhantomData,
    ops::RangeInclusive, //
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
    /// How often the inode number was used before, or something else that tells such files apart.
    pub generation: u32,
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

    /// Gives back all of some pages and forgets them; returns true. If it does not have all of them
    /// it leaves the frames as they are and returns false.
    fn get(&self, file: File, index: u64, pages: &Target<'_>) -> bool;

    /// Forgets pages of a file.
    fn flush(&self, file: File, pages: RangeInclusive<u64>);

    /// Forgets a file.
    fn flush_file(&self, file: File);

    /// Forgets a file system, none of whose files is used any more.
    fn flush_fs(&self, fs: Fs);
}

/// Whether there may be a backend: `cleancache_enabled` of the C header.
#[no_mangle]
// SAFETY: All zeroes is a static key that is false.
static mut cleancache_enabled: bindings::static_key_false = unsafe { core::mem::zeroed() };

static BACKEND: Slot<Arc<dyn Backend>> = Slot::new();

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
        BACKEND.fill(KBox::new(backend, GFP_KERNEL)?, || {
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
                generation: (*self.inode).i_generation,
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
        let put = BACKEND.with(|backend| backend.put(mapping.file(), folio.index(), &pages));
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
    BACKEND.with(|backend| backend.flush(mapping.file(), folio.index()..=last));
}

/// See `cleancache_get()`.
///
/// # Safety
///
/// The folio is locked and in the mapping of a file.
#[export]
unsafe extern "C" fn __cleancache_get(folio: *mut bindings::folio) -> bool {
    // What has a private part may be uptodate, or even dirty, in parts.
    const IN_PARTS: Flags = Flags::of([
        bindings::pageflags_PG_uptodate,
        bindings::pageflags_PG_dirty,
        bindings::pageflags_PG_writeback,
        bindings::pageflags_PG_private,
    ]);
    // SAFETY: The caller has a reference, and the mapping stays while the folio is locked.
    let (folio, mapping) = unsafe {
        let folio = Folio::from_raw(folio);
        (folio, Mapping::new(folio.mapping()))
    };
    let nr = folio.frames().len();
    if !mapping.takes_part() || folio.flags().any(IN_PARTS) || nr > MAX_PAGES {
        return false;
    }
    // SAFETY: It is locked, and nobody uses a folio that is not uptodate.
    let pages = unsafe { Target::new(folio.frames()) };
    let hit = BACKEND.with(|backend| backend.get(mapping.file(), folio.index(), &pages));
    // It may have a part of a large folio, which will not be asked for again.
    if hit == Some(false) && nr > 1 {
        flush_folio(folio, &mapping);
    }
    hit == Some(true)
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
    BACKEND.with(|backend| backend.flush(mapping.file(), first as u64..=last as u64));
}

/// See `cleancache_flush_inode()`.
///
/// # Safety
///
/// The mapping is that of an inode.
#[export]
unsafe extern "C" fn __cleancache_flush_inode(mapping: *mut bindings::address_space) {
    // SAFETY: As the caller says.
    let mapping = unsafe { Mapping::new(mapping) };
    BACKEND.with(|backend| backend.flush_file(mapping.file()));
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
    BACKEND.with(|backend| backend.flush_fs(fs));
}
