// SPDX-License-Identifier: GPL-2.0

//! Proof that the contents of page frames do not matter.

use super::PfnRange;
use core::{
    marker::PhantomData,
    ops::Deref, //
};

/// A run of page frames that has an owner, and whose contents nobody uses while `'a` lasts.
///
/// A hypervisor may be told to take away the storage behind such frames. It must not be told so
/// about any others: their contents would be lost. So calls of that kind take this type, not a
/// [`PfnRange`], which is nothing but numbers. It is had from who owns the frames:
/// [`PageBatch::ranges`], [`PageBatch::alloc_block`] and [`balloon::Operations::migrate`].
///
/// Dereferences to the [`PfnRange`].
///
/// # Invariants
///
/// For the lifetime `'a`, all frames of the range are allocated to an owner who neither reads nor
/// writes them, nor lets others do so.
///
/// [`PageBatch::ranges`]: super::PageBatch::ranges
/// [`PageBatch::alloc_block`]: super::PageBatch::alloc_block
/// [`balloon::Operations::migrate`]: crate::balloon::Operations::migrate
#[derive(Clone, Copy, Debug)]
pub struct UnusedPages<'a> {
    range: PfnRange,
    _owner: PhantomData<&'a ()>,
}

impl UnusedPages<'_> {
    /// Vouches for a run of page frames.
    ///
    /// # Safety
    ///
    /// The frames must be as the type invariant says, for as long as the lifetime that the caller
    /// chooses.
    #[inline]
    pub(crate) unsafe fn new(range: PfnRange) -> Self {
        // INVARIANT: By the safety requirements.
        Self {
            range,
            _owner: PhantomData,
        }
    }

    /// Returns the numbers of the frames, which prove nothing.
    #[inline]
    pub fn range(&self) -> PfnRange {
        self.range
    }
}

impl Deref for UnusedPages<'_> {
    type Target = PfnRange;

    #[inline]
    fn deref(&self) -> &PfnRange {
        &self.range
    }
}
