// SPDX-License-Identifier: GPL-2.0

//! Page frame numbers.
//!
//! C header: [`include/linux/pfn.h`](srctree/include/linux/pfn.h)

use crate::{
    fmt,
    io::PhysAddr,
    prelude::*, //
};
use core::ops;

/// The number of a page frame: its physical address divided by [`PAGE_SIZE`].
///
/// A plain number. That there is memory behind it, and whose, is for others to prove: see
/// [`UnusedPages`].
///
/// # Examples
///
/// ```
/// use kernel::page::{
///     Pfn,
///     PAGE_SIZE, //
/// };
///
/// let frame = Pfn::new(3);
/// assert_eq!(frame.as_usize(), 3);
/// assert_eq!(frame.phys(), 3 * PAGE_SIZE as kernel::io::PhysAddr);
/// assert!(frame < Pfn::new(4));
/// ```
///
/// [`PAGE_SIZE`]: super::PAGE_SIZE
/// [`UnusedPages`]: super::UnusedPages
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(transparent)]
pub struct Pfn(usize);

impl Pfn {
    /// Makes a frame number of a plain number.
    #[inline]
    pub const fn new(number: usize) -> Self {
        Self(number)
    }

    /// Returns the plain number, for instance to print it.
    #[inline]
    pub const fn as_usize(self) -> usize {
        self.0
    }

    /// Returns the number of the frame behind this one, or 0 behind the last number.
    #[inline]
    pub const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }

    /// Returns the physical address of the frame's first byte.
    ///
    /// A number that is too large for any frame loses its high bits, as with `PFN_PHYS()`.
    #[inline]
    pub const fn phys(self) -> PhysAddr {
        // CAST: Both are as wide as an address, or `PhysAddr` is wider.
        (self.0 as PhysAddr) << super::PAGE_SHIFT
    }
}

impl fmt::Display for Pfn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_fmt(fmt!("{:#x}", self.0))
    }
}

/// A run of consecutive page frames. Never empty.
///
/// # Invariants
///
/// `first <= last`.
///
/// # Examples
///
/// ```
/// use kernel::page::{
///     Pfn,
///     PfnRange, //
/// };
///
/// let run = PfnRange::new(Pfn::new(0x100), 4).ok_or(EINVAL)?;
/// assert_eq!(run.first(), Pfn::new(0x100));
/// assert_eq!(run.last(), Pfn::new(0x103));
/// assert_eq!(run.len(), 4);
/// assert!(run.pfns().eq((0x100..0x104).map(Pfn::new)));
///
/// // A range is never empty, and ends at the last number at the latest.
/// assert_eq!(PfnRange::new(Pfn::new(1), 0), None);
/// assert_eq!(PfnRange::new(Pfn::new(usize::MAX), 2), None);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PfnRange {
    first: Pfn,
    last: Pfn,
}

impl PfnRange {
    /// Makes the range of `len` frames that starts with `first`.
    ///
    /// Returns [`None`] if `len` is 0 or if the last number would overflow.
    #[inline]
    pub const fn new(first: Pfn, len: usize) -> Option<Self> {
        let Some(more) = len.checked_sub(1) else {
            return None;
        };
        let Some(last) = first.0.checked_add(more) else {
            return None;
        };
        // INVARIANT: `last` is `first` plus a number that is not negative.
        Some(Self {
            first,
            last: Pfn(last),
        })
    }

    /// Returns the first frame.
    #[inline]
    pub const fn first(&self) -> Pfn {
        self.first
    }

    /// Returns the last frame. It belongs to the range.
    #[inline]
    pub const fn last(&self) -> Pfn {
        self.last
    }

    /// Returns the number of frames: 1 or more.
    #[inline]
    #[expect(clippy::len_without_is_empty)]
    pub const fn len(&self) -> usize {
        // NO-OVERFLOW: By the type invariant the difference is not negative. The one range whose
        // length does not fit, all numbers there are, cannot be made by `new`.
        self.last.0 - self.first.0 + 1
    }

    /// Returns whether the frame belongs to the range.
    #[inline]
    pub const fn contains(&self, frame: Pfn) -> bool {
        self.first.0 <= frame.0 && frame.0 <= self.last.0
    }

    /// Iterates over the frames, ascending.
    #[inline]
    pub fn pfns(&self) -> impl DoubleEndedIterator<Item = Pfn> {
        ops::RangeInclusive::new(self.first.0, self.last.0).map(Pfn)
    }
}

impl From<Pfn> for PfnRange {
    /// Makes the range of this one frame.
    #[inline]
    fn from(frame: Pfn) -> Self {
        // INVARIANT: The first is the last.
        Self {
            first: frame,
            last: frame,
        }
    }
}

impl fmt::Display for PfnRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_fmt(fmt!("{}-{}", self.first, self.last))
    }
}

#[cfg(CONFIG_RUST_PAGE_KUNIT_TEST)]
#[macros::kunit_tests(rust_page_frame)]
mod tests {
    use super::*;
    use crate::page::PAGE_SIZE;

    #[test]
    fn a_frame_starts_a_page_size_after_the_one_before() {
        let step = Pfn::new(8).phys() - Pfn::new(7).phys();
        assert_eq!(step, PAGE_SIZE as PhysAddr);
        assert_eq!(Pfn::new(0).phys(), 0);
    }

    #[test]
    fn a_range_has_both_its_ends() {
        for len in [1, 2, 3, 1024] {
            let run = PfnRange::new(Pfn::new(0x8000), len);
            let expected = Some((Pfn::new(0x8000), Pfn::new(0x8000 + len - 1), len));
            assert_eq!(run.map(|r| (r.first(), r.last(), r.len())), expected);
            assert_eq!(run.map(|r| r.pfns().count()), Some(len));
            assert_eq!(run.map(|r| r.contains(r.last())), Some(true));
            assert_eq!(run.map(|r| r.contains(Pfn::new(0x8000 + len))), Some(false));
        }
    }

    #[test]
    fn a_range_never_wraps() {
        let last = Pfn::new(usize::MAX);
        assert_eq!(PfnRange::new(last, 1), Some(last.into()));
        assert_eq!(PfnRange::new(last, 2), None);
        assert_eq!(
            PfnRange::new(Pfn::new(1), usize::MAX).map(|r| r.last()),
            Some(last)
        );
        assert_eq!(PfnRange::new(Pfn::new(2), usize::MAX), None);
        assert_eq!(PfnRange::new(last, 0), None);
        assert_eq!(PfnRange::from(last).pfns().count(), 1);
    }
}
