// SPDX-License-Identifier: GPL-2.0

//! Batches of pages.
//!
//! C header: [`include/linux/gfp.h`](srctree/include/linux/gfp.h)

use super::{
    Pfn,
    PfnRange,
    UnusedPages, //
};
use crate::{
    alloc::{
        AllocError,
        Flags, //
    },
    bindings,
    prelude::*, //
};

/// Owned pages of order 0, to be allocated, handed on and freed many at a time.
///
/// The array that holds the pages is allocated once and never grows. The contents of the pages
/// cannot be reached: a batch is for drivers that give memory away, such as balloons.
///
/// # Context
///
/// [`Self::free`] and dropping a batch that is not empty may sleep.
///
/// # Invariants
///
/// - The elements of `pages` are valid, and each is a page of order 0 on which this batch holds
///   one reference: the one with which it was allocated.
/// - Nobody uses the contents of the pages.
///
/// # Examples
///
/// ```
/// use kernel::{
///     alloc::flags::__GFP_NOWARN,
///     page::PageBatch, //
/// };
///
/// let mut batch = PageBatch::with_capacity(32, GFP_KERNEL)?;
///
/// // A block of 2^3 frames, if there is one to be had.
/// if let Ok(block) = batch.alloc_block(GFP_NOWAIT | __GFP_NOWARN, 3) {
///     assert_eq!(block.len(), 8);
/// }
/// // The rest one by one.
/// let room = batch.room();
/// assert_eq!(batch.alloc_bulk(GFP_KERNEL, room), room);
///
/// batch.sort();
/// assert_eq!(batch.ranges().map(|run| run.len()).sum::<usize>(), 32);
/// batch.free();
/// assert!(batch.is_empty());
/// # Ok::<(), Error>(())
/// ```
pub struct PageBatch {
    pages: KVVec<*mut bindings::page>,
}

// SAFETY: Pages can be freed and handed on by any task.
unsafe impl Send for PageBatch {}

// SAFETY: What a shared reference allows is to read the frame numbers, which do not change.
unsafe impl Sync for PageBatch {}

impl PageBatch {
    /// Allocates an empty batch that has room for `capacity` pages.
    ///
    /// `flags` are those for the array, not for the pages to come.
    pub fn with_capacity(capacity: usize, flags: Flags) -> Result<Self, AllocError> {
        Ok(Self {
            // INVARIANT: There are no elements yet.
            pages: KVVec::with_capacity(capacity, flags)?,
        })
    }

    /// Returns the number of pages in the batch.
    #[inline]
    pub fn len(&self) -> usize {
        self.pages.len()
    }

    /// Returns whether there is no page in the batch.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// Returns how many pages fit into the batch, at least as many as were asked for.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.pages.capacity()
    }

    /// Returns how many more pages fit into the batch.
    #[inline]
    pub fn room(&self) -> usize {
        self.capacity() - self.len()
    }

    /// Adds the pages of a newly allocated block of 2<sup>`order`</sup> frames.
    ///
    /// The block is split: its pages are of order 0 from then on, and are freed or moved one by
    /// one. Returns the run of frames that was added.
    ///
    /// # Errors
    ///
    /// If no such block can be had with these flags, if there never is one of this order, or if
    /// there is not enough room, nothing is added.
    ///
    /// # Context
    ///
    /// As `flags` say.
    pub fn alloc_block(&mut self, flags: Flags, order: u32) -> Result<UnusedPages<'_>, AllocError> {
        // The page allocator warns of such an order.
        if order > bindings::MAX_PAGE_ORDER {
            return Err(AllocError);
        }
        // NO-OVERFLOW: `order` is far smaller than the width of `usize`.
        let len = 1_usize << order;
        if len > self.room() {
            return Err(AllocError);
        }

        // SAFETY: The order is one that the page allocator knows. Other than that it is always
        // safe to call this; whether it sleeps is what `flags` say.
        let first = unsafe { bindings::alloc_pages(flags.as_raw() & !GFP_COMP, order) };
        if first.is_null() {
            return Err(AllocError);
        }
        if order > 0 {
            // SAFETY: This is a block of that order which nobody else knows of, and not a compound
            // page.
            unsafe { bindings::split_page(first, order) };
        }

        for (i, slot) in self.pages.spare_capacity_mut()[..len]
            .iter_mut()
            .enumerate()
        {
            slot.write(first.wrapping_add(i));
        }
        // SAFETY: There is room for `len` more elements, and they were just written.
        // INVARIANT: `split_page` gave each page of the block its own reference. The `struct page`s
        // of what is one block for the page allocator are consecutive.
        unsafe { self.pages.inc_len(len) };

        // PANIC: `len` is not 0, and a block of memory does not end behind the last frame.
        let range = PfnRange::new(pfn_of(first), len).ok_or(AllocError)?;
        // SAFETY: The pages belong to the batch, which is borrowed for as long as the value lives
        // and, by its invariant, vouches for the contents.
        Ok(unsafe { UnusedPages::new(range) })
    }

    /// Adds up to `nr` newly allocated pages of order 0, at most as many as there is room for.
    ///
    /// Returns how many were added: fewer only if no more can be had with these flags, or if the
    /// room ended.
    ///
    /// # Context
    ///
    /// As `flags` say.
    pub fn alloc_bulk(&mut self, flags: Flags, nr: usize) -> usize {
        let nr = nr.min(self.room());
        let mut added = 0;

        while added < nr {
            let slots = &mut self.pages.spare_capacity_mut()[..nr - added];
            for slot in slots.iter_mut() {
                slot.write(core::ptr::null_mut());
            }
            let want = c_int::try_from(slots.len()).unwrap_or(c_int::MAX);
            // SAFETY: The array has at least `want` elements, all of them null. Whether this sleeps
            // is what `flags` say.
            let got = unsafe {
                bindings::alloc_pages_bulk(
                    flags.as_raw() & !GFP_COMP,
                    want,
                    slots.as_mut_ptr().cast(),
                )
            };
            // One call stops early when its per-CPU list runs dry or is in use. Only a call that
            // brings nothing means that there is nothing.
            if got == 0 {
                break;
            }
            // SAFETY: There is room, and the first `got` elements were filled.
            // INVARIANT: They are newly allocated pages of order 0.
            unsafe { self.pages.inc_len(got) };
            added += got;
        }
        added
    }

    /// Sorts the pages by frame number, so that [`Self::ranges`] finds runs as long as they can be.
    ///
    /// Allocates nothing.
    pub fn sort(&mut self) {
        self.pages
            .as_mut_slice()
            .sort_unstable_by_key(|&page| pfn_of(page));
    }

    /// Iterates over the runs of consecutive frames, in the order in which the pages are.
    ///
    /// They are found as the iterator goes. [`Self::sort`] the batch to have as few as possible.
    #[inline]
    pub fn ranges(&self) -> Ranges<'_> {
        Ranges {
            pages: self.pages.as_slice(),
        }
    }

    /// Gives all pages back to the page allocator, in as large blocks as they form together.
    ///
    /// # Context
    ///
    /// May sleep.
    // Not inlined, nor generic: `free_pages_bulk` is not exported to modules.
    #[inline(never)]
    pub fn free(&mut self) {
        if self.is_empty() {
            return;
        }
        // Runs are found in ascending order only. Where they are sorted already it costs one look
        // at each.
        self.sort();

        // CAST: A length always fits into an unsigned long.
        let nr = self.len() as c_ulong;
        // SAFETY: By the type invariant the elements are pages of order 0 on which we hold a
        // reference each. It is given up, and the elements are forgotten below.
        unsafe { bindings::free_pages_bulk(self.pages.as_mut_ptr(), nr) };
        self.pages.clear();
    }

    /// Returns the pages.
    #[cfg(CONFIG_BALLOON)]
    #[inline]
    pub(crate) fn as_pages(&self) -> &[*mut bindings::page] {
        self.pages.as_slice()
    }

    /// Forgets all pages: they belong to who took them from [`Self::as_pages`].
    #[cfg(CONFIG_BALLOON)]
    #[inline]
    pub(crate) fn forget(&mut self) {
        self.pages.clear();
    }

    /// Adds a page.
    ///
    /// # Panics
    ///
    /// If there is no room.
    ///
    /// # Safety
    ///
    /// The page must be as the type invariants say, and the caller gives its reference up.
    #[cfg(CONFIG_BALLOON)]
    pub(crate) unsafe fn put(&mut self, page: *mut bindings::page) {
        // PANIC: As documented.
        self.pages.spare_capacity_mut()[0].write(page);
        // SAFETY: There was room for the element, and it was just written.
        // INVARIANT: By the safety requirements.
        unsafe { self.pages.inc_len(1) };
    }
}

impl Drop for PageBatch {
    fn drop(&mut self) {
        self.free();
    }
}

/// The runs of consecutive frames in a [`PageBatch`], made by [`PageBatch::ranges`].
///
/// # Invariants
///
/// `pages` are some of the pages of a batch that is borrowed for `'a`.
pub struct Ranges<'a> {
    pages: &'a [*mut bindings::page],
}

impl<'a> Iterator for Ranges<'a> {
    type Item = UnusedPages<'a>;

    fn next(&mut self) -> Option<UnusedPages<'a>> {
        let first = pfn_of(*self.pages.first()?);
        let len = self
            .pages
            .iter()
            .zip(first.as_usize()..)
            .take_while(|&(&page, number)| pfn_of(page).as_usize() == number)
            .count();
        self.pages = &self.pages[len..];

        let range = PfnRange::new(first, len)?;
        // SAFETY: By the type invariant the pages belong to a batch that is borrowed for `'a`, and
        // a batch vouches for their contents.
        Some(unsafe { UnusedPages::new(range) })
    }
}

impl core::iter::FusedIterator for Ranges<'_> {}

/// A compound page could not be split, and its tails could not be freed one by one.
const GFP_COMP: bindings::gfp_t = 1 << bindings::___GFP_COMP_BIT;

/// Returns the frame number of a page.
#[inline]
pub(crate) fn pfn_of(page: *mut bindings::page) -> Pfn {
    // SAFETY: This computes with the address of a `struct page`, and for some memory models reads
    // its flags: all callers have a valid page.
    Pfn::new(unsafe { bindings::page_to_pfn(page) })
}

#[cfg(CONFIG_RUST_PAGE_KUNIT_TEST)]
#[macros::kunit_tests(rust_page_batch)]
mod tests {
    use super::*;
    use crate::alloc::flags::{
        __GFP_NORETRY,
        __GFP_NOWARN, //
    };

    const FLAGS: Flags = GFP_KERNEL;

    fn try_flags() -> Flags {
        FLAGS | __GFP_NORETRY | __GFP_NOWARN
    }

    /// The frames in the order in which `ranges` tells them.
    fn frames(batch: &PageBatch) -> Result<KVVec<usize>> {
        let mut all = KVVec::with_capacity(batch.len(), GFP_KERNEL)?;
        for run in batch.ranges() {
            for frame in run.pfns() {
                all.push(frame.as_usize(), GFP_KERNEL)?;
            }
        }
        Ok(all)
    }

    #[test]
    fn a_new_batch_is_empty() -> Result {
        let mut batch = PageBatch::with_capacity(7, GFP_KERNEL)?;
        assert!(batch.is_empty());
        assert!(batch.capacity() >= 7);
        assert_eq!(batch.room(), batch.capacity());
        assert_eq!(batch.ranges().count(), 0);
        batch.sort();
        batch.free();
        assert_eq!(batch.len(), 0);
        Ok(())
    }

    #[test]
    fn bulk_fills_the_room_and_no_more() -> Result {
        let mut batch = PageBatch::with_capacity(100, GFP_KERNEL)?;
        assert_eq!(batch.alloc_bulk(FLAGS, 0), 0);
        assert_eq!(batch.alloc_bulk(FLAGS, 1), 1);
        assert_eq!(batch.alloc_bulk(FLAGS, 30), 30);
        let room = batch.room();
        assert_eq!(batch.alloc_bulk(FLAGS, usize::MAX), room);
        assert_eq!(batch.room(), 0);
        assert_eq!(batch.alloc_bulk(FLAGS, 1), 0);
        assert_eq!(batch.len(), batch.capacity());
        assert_eq!(frames(&batch)?.len(), batch.len());
        Ok(())
    }

    #[test]
    fn a_block_is_one_aligned_run() -> Result {
        let mut batch = PageBatch::with_capacity(64, GFP_KERNEL)?;
        for order in [0, 1, 4] {
            let before = batch.len();
            let block = batch.alloc_block(try_flags(), order)?.range();
            assert_eq!(block.len(), 1 << order);
            assert_eq!(block.first().as_usize() % block.len(), 0);
            assert_eq!(batch.len(), before + block.len());
        }
        Ok(())
    }

    #[test]
    fn a_block_that_does_not_fit_adds_nothing() -> Result {
        let mut batch = PageBatch::with_capacity(16, GFP_KERNEL)?;
        let room = batch.room();
        batch.alloc_bulk(FLAGS, room - 1);
        assert!(batch.alloc_block(try_flags(), 1).is_err());
        assert!(batch
            .alloc_block(try_flags(), bindings::MAX_PAGE_ORDER + 1)
            .is_err());
        assert!(batch.alloc_block(try_flags(), u32::MAX).is_err());
        assert_eq!(batch.room(), 1);
        assert!(batch.alloc_block(try_flags(), 0).is_ok());
        Ok(())
    }

    #[test]
    fn sorting_joins_runs_and_loses_no_page() -> Result {
        let mut batch = PageBatch::with_capacity(96, GFP_KERNEL)?;
        let mut block = None;
        while batch.room() >= 16 {
            batch.alloc_bulk(FLAGS, 8);
            block = Some(batch.alloc_block(try_flags(), 3)?.range());
        }
        // Worst order: descending.
        batch.sort();
        batch.pages.as_mut_slice().reverse();
        let runs_before = batch.ranges().count();
        let mut before = frames(&batch)?;

        batch.sort();
        let after = frames(&batch)?;
        before.as_mut_slice().sort_unstable();
        assert_eq!(before.as_slice(), after.as_slice());
        assert!(after.as_slice().windows(2).all(|pair| pair[0] < pair[1]));
        assert!(batch.ranges().count() < runs_before);
        // The block lies within one run, and two runs never touch.
        let block = block.ok_or(EINVAL)?;
        assert!(batch
            .ranges()
            .any(|run| run.contains(block.first()) && run.contains(block.last())));
        let mut end = None;
        for run in batch.ranges() {
            assert!(end.is_none_or(|end: Pfn| end.as_usize() + 1 < run.first().as_usize()));
            end = Some(run.last());
        }
        Ok(())
    }

    #[test]
    fn what_is_freed_can_be_had_again() -> Result {
        let before = crate::mm::available_pages();
        let mut batch = PageBatch::with_capacity(1024, GFP_KERNEL)?;
        // Many times what the batch holds: a leak of pages would be seen.
        for _ in 0..16 {
            while batch.room() >= 64 && batch.alloc_block(try_flags(), 6).is_ok() {}
            let room = batch.room();
            assert_eq!(batch.alloc_bulk(FLAGS, room), room);
            batch.free();
            assert!(batch.is_empty());
        }
        let room = batch.room();
        assert_eq!(batch.alloc_bulk(FLAGS, room), room);
        drop(batch);
        let lost = before.saturating_sub(crate::mm::available_pages());
        assert!(lost < 4 * 1024);
        Ok(())
    }
}
