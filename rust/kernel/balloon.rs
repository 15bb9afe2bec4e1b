// SPDX-License-Identifier: GPL-2.0

//! Balloon pages: memory that a driver has given to the hypervisor.
//!
//! A driver that inflates a balloon allocates pages and tells the hypervisor that it may take the
//! storage behind them. While such pages are kept in a [`Balloon`] they stay movable: compaction,
//! CMA and memory offlining exchange them for other pages, and tell the driver
//! ([`Operations::migrate`]).
//!
//! Linux counts the pages of all balloons (`Balloon` in `/proc/meminfo`, `balloon_*` in
//! `/proc/vmstat`). `MemTotal` stays as it is, because `adjust_managed_page_count` is never set:
//! pages of `arch/s390/mm/cmm.c` have always counted as used memory, and whoever watches guests
//! that have it expects so; and watermarks, and all else that goes by the size of memory, would
//! follow each breath of a balloon that a resource manager drives.
//!
//! C header: [`include/linux/balloon.h`](srctree/include/linux/balloon.h)

use crate::{
    bindings,
    container_of,
    page::{
        pfn_of,
        PageBatch,
        Pfn,
        PfnRange,
        UnusedPages, //
    },
    prelude::*,
    sync::atomic::{
        atomic_load,
        Atomic,
        Relaxed, //
    },
    time::{
        delay::fsleep,
        Delta, //
    },
    types::Opaque, //
};
use core::{
    mem::MaybeUninit,
    ptr, //
};

/// What the driver of a balloon does when Linux moves one of its pages.
pub trait Operations: Send + Sync {
    /// The page `old` leaves the balloon, and `new` enters it in its place.
    ///
    /// The driver must do to `new` what it does to pages before it inflates the balloon with them:
    /// give it to the hypervisor. If `old` has to be asked back, it must do so here; once this
    /// returned `Ok`, the page allocator has it.
    ///
    /// # Errors
    ///
    /// If this fails, `old` stays in the balloon and the page allocator gets `new` back. `EAGAIN`
    /// (and `ENOENT`, which is understood as that) makes the caller try again; all others make it
    /// give the page up as one that cannot be moved now.
    ///
    /// # Context
    ///
    /// Process context, with both pages locked. May sleep, but should not for long: it may be
    /// called on behalf of any task that allocates memory, also while the driver itself does, for
    /// this balloon or another one. So it must not wait for a lock that is held across an
    /// allocation, and must not allocate with reclaim. Several calls may run at once.
    fn migrate(&self, new: UnusedPages<'_>, old: Pfn) -> Result;
}

/// A balloon: owns pages that are given to the hypervisor.
///
/// Dropping it gives all pages back to the page allocator. Pages that are isolated at that moment,
/// such as by compaction, are waited for: what isolated them puts them back or exchanges them on
/// its own, and soon. After that no call of [`Operations`] runs any more.
///
/// # Context
///
/// Dropping may sleep.
///
/// # Invariants
///
/// - `info` is initialised, and its `migratepage` is that of this type.
/// - The pages of `info`, those on its list and the isolated ones, are allocated pages of order 0
///   on which the balloon holds one reference each, and whose contents nobody uses.
/// - `len` is at least their number; it is exactly that while no method runs.
///
/// # Examples
///
/// ```
/// use kernel::{
///     alloc::flags::GFP_HIGHUSER_MOVABLE,
///     balloon::{
///         Balloon,
///         Operations, //
///     },
///     page::{
///         PageBatch,
///         Pfn,
///         UnusedPages, //
///     }, //
/// };
///
/// /// A hypervisor that takes nothing.
/// struct Indifferent;
///
/// impl Operations for Indifferent {
///     fn migrate(&self, _new: UnusedPages<'_>, _old: Pfn) -> Result {
///         Ok(())
///     }
/// }
///
/// let balloon = KBox::pin_init(Balloon::new(Indifferent), GFP_KERNEL)?;
/// let mut batch = PageBatch::with_capacity(16, GFP_KERNEL)?;
///
/// assert_eq!(batch.alloc_bulk(GFP_HIGHUSER_MOVABLE, 16), 16);
/// balloon.inflate(&mut batch);
/// assert!(batch.is_empty());
/// assert_eq!(balloon.len(), 16);
///
/// // Pages that are just being moved cannot be had.
/// let got = balloon.deflate(&mut batch, 10);
/// assert!(got == 10 || balloon.isolated() > 0);
/// batch.free();
/// # Ok::<(), Error>(())
/// ```
#[pin_data(PinnedDrop)]
pub struct Balloon<T: Operations> {
    #[pin]
    info: Opaque<bindings::balloon_dev_info>,
    len: Atomic<usize>,
    data: T,
}

// SAFETY: `mm/balloon.c` protects `info` with a lock, and cares not for the task that calls.
unsafe impl<T: Operations> Send for Balloon<T> {}

// SAFETY: As above: all methods take that lock or use atomics. `T` is `Sync`.
unsafe impl<T: Operations> Sync for Balloon<T> {}

impl<T: Operations> Balloon<T> {
    /// Makes an empty balloon.
    pub fn new(data: T) -> impl PinInit<Self> {
        pin_init!(Self {
            // INVARIANT: The callback is ours, and there are no pages.
            info <- Opaque::ffi_init(|info: *mut bindings::balloon_dev_info| {
                // SAFETY: `info` points to memory that may be written.
                unsafe {
                    bindings::balloon_devinfo_init(info);
                    (*info).migratepage = Some(Self::migratepage);
                }
            }),
            len: Atomic::new(0),
            data,
        })
    }

    /// Returns what the balloon was made with.
    #[inline]
    pub fn data(&self) -> &T {
        &self.data
    }

    /// Returns the number of pages in the balloon, the isolated ones included.
    ///
    /// While another task inflates or deflates, what it is about to move may be counted still or
    /// already.
    #[inline]
    pub fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    /// Returns whether there is no page in the balloon, not even an isolated one.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many pages are isolated, that is about to be moved, at this moment.
    ///
    /// They belong to the balloon, but [`Self::deflate`] cannot get them.
    #[inline]
    pub fn isolated(&self) -> usize {
        // SAFETY: `info` is initialised by the type invariant. C changes the counter with plain
        // stores of a whole word, which are as good as atomic ones.
        unsafe { atomic_load(&raw mut (*self.info.get()).isolated_pages, Relaxed) }
    }

    /// Moves all pages of the batch into the balloon.
    ///
    /// Call this after the hypervisor was told that it may have them: from then on they can move.
    /// Allocate them movable ([`GFP_HIGHUSER_MOVABLE`]), or they would stand in the way of what
    /// must be moved all the same.
    ///
    /// # Context
    ///
    /// Any but hard interrupts. Interrupts are off meanwhile, for a time proportional to the
    /// number of pages: some thousand are fine.
    ///
    /// [`GFP_HIGHUSER_MOVABLE`]: crate::alloc::flags::GFP_HIGHUSER_MOVABLE
    pub fn inflate(&self, batch: &mut PageBatch) {
        // Counted before they can be seen, so that a concurrent `deflate` never counts below 0.
        self.len.fetch_add(batch.len(), Relaxed);
        // SAFETY: `info` is initialised by the type invariant.
        unsafe { enqueue(self.info.get(), batch) };
    }

    /// Moves up to `nr` pages from the balloon into the batch, at most as many as it has room for.
    ///
    /// Those that were moved in last come first, and the pages of one batch in the order in which
    /// they were in it. Returns how many were moved: fewer only if the room ended or if the others
    /// are isolated.
    ///
    /// Use [`PageBatch::free`] then. Until that, the pages cannot be moved.
    ///
    /// # Context
    ///
    /// As [`Self::inflate`].
    pub fn deflate(&self, batch: &mut PageBatch, nr: usize) -> usize {
        // SAFETY: `info` is initialised, and its pages are those of a balloon, by the type
        // invariants.
        let got = unsafe { dequeue_batch(self.info.get(), batch, nr) };
        self.len.fetch_sub(got, Relaxed);
        got
    }

    /// Called by `mm/balloon.c` to move a page.
    ///
    /// # Safety
    ///
    /// - `info` must be that of a `Balloon<T>` that is not dropped before this returned.
    /// - `new` and `old` must be valid pages. Nobody may use the contents of `new`.
    unsafe extern "C" fn migratepage(
        info: *mut bindings::balloon_dev_info,
        new: *mut bindings::page,
        old: *mut bindings::page,
        _mode: bindings::migrate_mode,
    ) -> c_int {
        // SAFETY: By the safety requirements `info` is the field of a `Balloon<T>`.
        let balloon = unsafe { container_of!(Opaque::cast_from(info).cast_mut(), Self, info) };
        // SAFETY: As above. Only the data is borrowed, which dropping the balloon leaves alone
        // until there are no pages any more that could be moved.
        let data = unsafe { &(*balloon).data };

        // SAFETY: By the safety requirements. The pages are in the hands of our caller until we
        // return.
        let new = unsafe { UnusedPages::new(PfnRange::from(pfn_of(new))) };
        match data.migrate(new, pfn_of(old)) {
            Ok(()) => 0,
            // For `mm/balloon.c` this would mean that the driver has deflated the page meanwhile,
            // which `len` knows nothing of.
            Err(error) if error == ENOENT => EAGAIN.to_errno(),
            Err(error) => error.to_errno(),
        }
    }
}

#[pinned_drop]
impl<T: Operations> PinnedDrop for Balloon<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: `info` is initialised, and by the type invariants holds `len` pages.
        unsafe { drain(self.info.get(), self.len()) };
    }
}

/// Returns the list entry of a page.
///
/// # Safety
///
/// `page` must point to a valid page.
unsafe fn lru(page: *mut bindings::page) -> *mut bindings::list_head {
    // SAFETY: By the safety requirements.
    unsafe {
        &raw mut (*page)
            .__bindgen_anon_1
            .__bindgen_anon_1
            .__bindgen_anon_1
            .lru
    }
}

/// Moves all pages of the batch into the balloon, under one lock.
///
/// # Safety
///
/// `info` must be initialised.
unsafe fn enqueue(info: *mut bindings::balloon_dev_info, batch: &mut PageBatch) {
    let mut head = MaybeUninit::<bindings::list_head>::uninit();
    let head = head.as_mut_ptr();

    // SAFETY: `head` may be written. The pages are the batch's and on no list, so that their list
    // entries are free to use. The batch's reference on each is the balloon's from here on.
    unsafe {
        bindings::INIT_LIST_HEAD(head);
        for &page in batch.as_pages() {
            bindings::list_add_tail(lru(page), head);
        }
        bindings::balloon_page_list_enqueue(info, head);
    }
    batch.forget();
}

/// Takes up to `nr` pages out of the balloon, under one lock, and gives each to `take`.
///
/// The references that the balloon held on them are the caller's then. Returns how many there were.
///
/// # Safety
///
/// `info` must be initialised.
unsafe fn dequeue(
    info: *mut bindings::balloon_dev_info,
    nr: usize,
    mut take: impl FnMut(*mut bindings::page),
) -> usize {
    let mut head = MaybeUninit::<bindings::list_head>::uninit();
    let head = head.as_mut_ptr();

    // SAFETY: `head` may be written, and `info` is initialised.
    let got = unsafe {
        bindings::INIT_LIST_HEAD(head);
        bindings::balloon_page_list_dequeue(info, head, nr)
    };

    // The list as a whole is forgotten: no need to unlink each page.
    // SAFETY: `head` is an initialised list.
    let mut entry = unsafe { (*head).next };
    while !ptr::eq(entry, head) {
        // SAFETY: The entries of the list are those of pages.
        let page = unsafe {
            container_of!(
                entry,
                bindings::page,
                __bindgen_anon_1.__bindgen_anon_1.__bindgen_anon_1.lru
            )
        };
        // SAFETY: `entry` is on the list. It is read before the page leaves our hands.
        entry = unsafe { (*entry).next };
        take(page);
    }
    got
}

/// Moves up to `nr` pages from the balloon into the batch, as far as there is room.
///
/// # Safety
///
/// `info` must be initialised, and its pages be as the invariants of [`Balloon`] say.
unsafe fn dequeue_batch(
    info: *mut bindings::balloon_dev_info,
    batch: &mut PageBatch,
    nr: usize,
) -> usize {
    let nr = nr.min(batch.room());
    // SAFETY: `info` is initialised. By the safety requirements the pages are fit for a batch, and
    // what reference the balloon held on them is passed on.
    unsafe { dequeue(info, nr, |page| batch.put(page)) }
}

/// Gives all pages back to the page allocator, also those that are isolated as yet.
///
/// # Context
///
/// May sleep.
///
/// # Safety
///
/// `info` must be initialised, have `len` pages which are as the invariants of [`Balloon`] say,
/// and get no others.
// Not inlined, nor generic: `free_pages_bulk` is not exported to modules.
#[inline(never)]
unsafe fn drain(info: *mut bindings::balloon_dev_info, mut len: usize) {
    // As many as one lock and one call of the page allocator handle. They are on the stack, since
    // to allocate an array for more might fail here.
    let mut pages = [ptr::null_mut(); 128];

    // It does not do to look whether the list is empty and no page is isolated: both can be seen
    // one after the other while a page moves from here to there. But no page is ever lost, so all
    // that were put in come out by and by. Once the last one has come out, neither
    // `mm/balloon.c` nor the driver's callback, which run before a page is back on the list, have
    // any business with `info`.
    while len > 0 {
        let mut slots = pages.iter_mut();
        // SAFETY: `info` is initialised.
        let got = unsafe {
            dequeue(info, slots.len(), |page| {
                if let Some(slot) = slots.next() {
                    *slot = page;
                }
            })
        };
        if got == 0 {
            // Nothing wakes us when a page is put back.
            fsleep(Delta::from_millis(1));
            continue;
        }
        // CAST: A length always fits into an unsigned long.
        // SAFETY: The first `got` elements are pages of order 0 on which we hold a reference each,
        // which is given up.
        unsafe { bindings::free_pages_bulk(pages.as_mut_ptr(), got as c_ulong) };
        len -= got;
    }
}

#[cfg(CONFIG_RUST_BALLOON_KUNIT_TEST)]
#[macros::kunit_tests(rust_balloon)]
mod tests {
    use super::*;
    use crate::{
        alloc::flags::GFP_HIGHUSER_MOVABLE,
        error::to_result, //
    };
    #[cfg(CONFIG_BALLOON_MIGRATION)]
    use crate::{
        sync::Arc,
        workqueue, //
    };

    /// Counts what was moved; fails with the number it is set to.
    struct Host {
        moved: Atomic<usize>,
        fails: Atomic<i32>,
    }

    impl Operations for Host {
        fn migrate(&self, new: UnusedPages<'_>, old: Pfn) -> Result {
            assert_eq!(new.len(), 1);
            assert!(!new.contains(old));
            to_result(self.fails.load(Relaxed))?;
            self.moved.fetch_add(1_usize, Relaxed);
            Ok(())
        }
    }

    fn host() -> Host {
        Host {
            moved: Atomic::new(0),
            fails: Atomic::new(0),
        }
    }

    fn pages(nr: usize) -> Result<PageBatch> {
        let mut batch = PageBatch::with_capacity(nr, GFP_KERNEL)?;
        assert_eq!(batch.alloc_bulk(GFP_HIGHUSER_MOVABLE, nr), nr);
        Ok(batch)
    }

    #[test]
    fn what_is_inflated_is_deflated() -> Result {
        let balloon = KBox::pin_init(Balloon::new(host()), GFP_KERNEL)?;
        assert!(balloon.is_empty());
        let mut batch = pages(300)?;
        assert_eq!(balloon.deflate(&mut batch, 5), 0);

        balloon.inflate(&mut batch);
        assert!(batch.is_empty());
        assert_eq!(balloon.len(), 300);
        // Empty: nothing happens.
        balloon.inflate(&mut batch);
        assert_eq!(balloon.deflate(&mut batch, 0), 0);
        assert_eq!(balloon.len(), 300);

        let mut small = PageBatch::with_capacity(10, GFP_KERNEL)?;
        let room = small.room();
        assert_eq!(balloon.deflate(&mut small, usize::MAX), room);
        assert_eq!(small.room(), 0);
        assert_eq!(balloon.len(), 300 - room);

        assert_eq!(balloon.deflate(&mut batch, 7), 7);
        assert_eq!(balloon.deflate(&mut batch, usize::MAX), 300 - room - 7);
        assert!(balloon.is_empty());
        assert_eq!(balloon.isolated(), 0);
        Ok(())
    }

    #[test]
    fn runs_come_out_as_they_went_in() -> Result {
        let balloon = KBox::pin_init(Balloon::new(host()), GFP_KERNEL)?;
        let mut batch = PageBatch::with_capacity(64, GFP_KERNEL)?;
        let block = batch.alloc_block(GFP_HIGHUSER_MOVABLE, 6)?.range();
        balloon.inflate(&mut batch);
        assert_eq!(balloon.deflate(&mut batch, 64), 64);
        let mut runs = batch.ranges();
        assert_eq!(runs.next().map(|run| run.range()), Some(block));
        assert!(runs.next().is_none());
        Ok(())
    }

    #[test]
    fn dropping_a_full_balloon_frees_its_pages() -> Result {
        let before = crate::mm::available_pages();
        for _ in 0..8 {
            let balloon = KBox::pin_init(Balloon::new(host()), GFP_KERNEL)?;
            for nr in [1, 127, 128, 129, 1000] {
                balloon.inflate(&mut pages(nr)?);
            }
            assert_eq!(balloon.len(), 1385);
        }
        let lost = before.saturating_sub(crate::mm::available_pages());
        assert!(lost < 2 * 1385);
        Ok(())
    }

    #[test]
    fn the_answer_of_the_driver_is_passed_on() -> Result {
        let balloon = KBox::pin_init(Balloon::new(host()), GFP_KERNEL)?;
        let batch = pages(2)?;
        let (new, old) = (batch.as_pages()[0], batch.as_pages()[1]);

        let [busy, again, no_entry] = [EBUSY, EAGAIN, ENOENT].map(Error::to_errno);
        for (driver, told) in [(0, 0), (busy, busy), (again, again), (no_entry, again)] {
            balloon.data().fails.store(driver, Relaxed);
            // SAFETY: `info` is that of a `Balloon<Host>`, the pages are ours.
            let rc = unsafe { Balloon::<Host>::migratepage(balloon.info.get(), new, old, 0) };
            assert_eq!(rc, told);
        }
        assert_eq!(balloon.data().moved.load(Relaxed), 1);
        Ok(())
    }

    /// Compaction and memory offlining do the same: they want a range of frames for themselves.
    #[cfg(all(CONFIG_CONTIG_ALLOC, CONFIG_BALLOON_MIGRATION))]
    #[test]
    fn pages_move_out_of_a_range_that_is_wanted() -> Result {
        const ORDER: u32 = bindings::MAX_PAGE_ORDER;
        const LEN: usize = 1 << ORDER;

        let balloon = KBox::pin_init(Balloon::new(host()), GFP_KERNEL)?;
        let mut batch = PageBatch::with_capacity(LEN, GFP_KERNEL)?;
        let block = batch.alloc_block(GFP_HIGHUSER_MOVABLE, ORDER)?.range();
        balloon.inflate(&mut batch);

        // CAST: A frame number always fits into an unsigned long.
        let start = block.first().as_usize() as c_ulong;
        // SAFETY: Any range may be asked for.
        to_result(unsafe {
            bindings::alloc_contig_range_noprof(
                start,
                start + LEN as c_ulong,
                0,
                bindings::GFP_KERNEL,
            )
        })?;
        assert_eq!(balloon.data().moved.load(Relaxed), LEN);
        assert_eq!(balloon.len(), LEN);
        assert_eq!(balloon.isolated(), 0);

        assert_eq!(balloon.deflate(&mut batch, LEN), LEN);
        for run in batch.ranges() {
            assert!(run.last() < block.first() || run.first() > block.last());
        }
        // SAFETY: The range was just allocated, and is ours alone.
        unsafe { bindings::free_contig_range(start, LEN as c_ulong) };
        Ok(())
    }

    /// A page, isolated by hand, that another task puts back.
    #[cfg(CONFIG_BALLOON_MIGRATION)]
    struct Isolated(*mut bindings::page);

    // SAFETY: Any task may put a page back.
    #[cfg(CONFIG_BALLOON_MIGRATION)]
    unsafe impl Send for Isolated {}

    #[cfg(CONFIG_BALLOON_MIGRATION)]
    impl Isolated {
        fn put_back(self) {
            let mut head = MaybeUninit::<bindings::list_head>::uninit();
            let head = head.as_mut_ptr();
            // SAFETY: The page is isolated, so that whoever isolated it may use its list entry.
            unsafe {
                bindings::INIT_LIST_HEAD(head);
                bindings::list_add_tail(lru(self.0), head);
                bindings::putback_movable_pages(head);
            }
        }
    }

    #[cfg(CONFIG_BALLOON_MIGRATION)]
    #[test]
    fn dropping_waits_for_isolated_pages() -> Result {
        let put_back = Arc::new(Atomic::new(false), GFP_KERNEL)?;

        let balloon = KBox::pin_init(Balloon::new(host()), GFP_KERNEL)?;
        let mut batch = pages(200)?;
        let page = batch.as_pages()[100];
        balloon.inflate(&mut batch);

        // SAFETY: The page is a balloon page. The balloon is not dropped before we put it back.
        assert!(unsafe { bindings::isolate_movable_ops_page(page, 0) });
        assert_eq!(balloon.isolated(), 1);
        assert_eq!(balloon.len(), 200);
        assert_eq!(balloon.deflate(&mut batch, 200), 199);
        assert_eq!(balloon.len(), 1);

        let isolated = Isolated(page);
        let done = put_back.clone();
        workqueue::system_long().try_spawn(GFP_KERNEL, move || {
            // Long enough for the other task to be waiting.
            fsleep(Delta::from_millis(30));
            done.store(true, Relaxed);
            isolated.put_back();
        })?;
        drop(balloon);
        assert!(put_back.load(Relaxed));
        Ok(())
    }
}
