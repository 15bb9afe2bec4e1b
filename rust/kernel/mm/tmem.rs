// SPDX-License-Identifier: GPL-2.0

//! Transcendent memory: what [`cleancache`](super::cleancache) and
//! [`frontswap`](super::frontswap) have in common.
//!
//! Each has hooks in C, and at most one backend that these call.

use crate::{
    bindings,
    mm::folio::Folio,
    page::PfnRange,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Release, //
        },
        rcu, //
    }, //
};
use core::{
    marker::PhantomData,
    ptr, //
};

/// The most pages of one put or get. Larger folios are not put.
pub const MAX_PAGES: usize = 256;

/// Page frames of a folio that is put.
///
/// # Invariants
///
/// The folio is locked, and nobody changes its contents during `'a`.
pub struct Source<'a>(PfnRange, PhantomData<&'a ()>);

impl Source<'_> {
    /// # Safety
    ///
    /// The type invariant must hold.
    pub(super) unsafe fn new(frames: PfnRange) -> Self {
        // INVARIANT: As the caller says.
        Self(frames, PhantomData)
    }

    /// Returns the frames: at most [`MAX_PAGES`].
    pub fn frames(&self) -> PfnRange {
        self.0
    }
}

/// Page frames of a folio that wants its contents.
///
/// # Invariants
///
/// The folio is locked and not uptodate, and nobody else uses its contents during `'a`: they may
/// be overwritten.
pub struct Target<'a>(PfnRange, PhantomData<&'a ()>);

impl Target<'_> {
    /// # Safety
    ///
    /// The type invariant must hold.
    pub(super) unsafe fn new(frames: PfnRange) -> Self {
        // INVARIANT: As the caller says.
        Self(frames, PhantomData)
    }

    /// Returns the frames: at most [`MAX_PAGES`].
    pub fn frames(&self) -> PfnRange {
        self.0
    }
}

/// Folios of a file that want their contents.
///
/// # Invariants
///
/// - They are at most 64. Each is locked, in the page cache of the same file, has at most
///   [`MAX_PAGES`] pages, and is not uptodate; nobody else uses its contents during `'a`: they may
///   be overwritten.
/// - `left` and `hits` have bits of these only.
pub struct Wanted<'a> {
    folios: &'a [*mut bindings::folio],
    /// Those that were not asked for yet.
    left: u64,
    /// Those that have their contents.
    hits: u64,
}

impl<'a> Wanted<'a> {
    /// Those of `folios` whose bit is set.
    ///
    /// # Safety
    ///
    /// The type invariant must hold.
    pub(super) unsafe fn new(folios: &'a [*mut bindings::folio], left: u64) -> Self {
        // INVARIANT: As the caller says.
        Self {
            folios,
            left,
            hits: 0,
        }
    }

    /// The folios whose bits are set.
    fn of(&self, bits: u64) -> impl Iterator<Item = (usize, &'a Folio)> + use<'a> {
        let folios = self.folios.iter().enumerate();
        folios
            .filter(move |(which, _)| bits & 1 << which != 0)
            // SAFETY: By the type invariant they stay.
            .map(|(which, &folio)| (which, unsafe { Folio::from_raw(folio) }))
    }

    /// Those that are still wanted: a number for [`settle`](Self::settle), the index in the file,
    /// and the frames.
    pub fn left(&self) -> impl Iterator<Item = (usize, u64, PfnRange)> + use<'a> {
        self.of(self.left)
            .map(|(which, folio)| (which, folio.index(), folio.frames()))
    }

    /// Says that a folio has its contents, or will not be asked for again.
    pub fn settle(&mut self, which: usize, hit: bool) {
        let bit = self.left & 1 << which;
        self.left &= !bit;
        if hit {
            self.hits |= bit;
        }
    }

    /// Whether a folio has its contents.
    pub fn has(&self, which: usize) -> bool {
        self.hits & 1 << which != 0
    }

    /// Which have their contents.
    pub(super) fn hits(&self) -> u64 {
        self.hits
    }

    /// Those of `asked` that do not have their contents.
    pub(super) fn misses(&self, asked: u64) -> impl Iterator<Item = &'a Folio> + use<'a> {
        self.of(asked & !self.hits).map(|(_, folio)| folio)
    }
}

/// What hooks call, if it is there. Readers are protected by RCU, so what they call must not sleep.
///
/// # Invariants
///
/// `backend` is null, or comes from a [`KBox`] that stays at least until a grace period after it
/// has become null.
pub(super) struct Slot<T> {
    taken: Atomic<bool>,
    backend: Atomic<*mut T>,
}

impl<T: Send + Sync> Slot<T> {
    pub(super) const fn new() -> Self {
        // INVARIANT: Null.
        Self {
            taken: Atomic::new(false),
            backend: Atomic::new(ptr::null_mut()),
        }
    }

    /// Fills the slot; `switch_on` is called before hooks can see what is in it, so that no flush
    /// is missed: whoever did not flush since the switch was off did so before the first put.
    ///
    /// # Errors
    ///
    /// `EBUSY` if it is taken.
    pub(super) fn fill(&self, backend: KBox<T>, switch_on: impl FnOnce()) -> Result {
        if self.taken.xchg(true, Acquire) {
            return Err(EBUSY);
        }
        switch_on();
        // INVARIANT: It is from a box, which only `empty` makes again.
        self.backend.store(KBox::into_raw(backend), Release);
        Ok(())
    }

    /// Empties the slot, which the caller has filled, waits for running hooks and then calls
    /// `switch_off`. Sleeps.
    pub(super) fn empty(&self, switch_off: impl FnOnce()) {
        let backend = self.backend.xchg(ptr::null_mut(), Acquire);
        rcu::synchronize_rcu();
        switch_off();
        if !backend.is_null() {
            // SAFETY: By the type invariant it is from a box, and the grace period is over.
            drop(unsafe { KBox::from_raw(backend) });
        }
        self.taken.store(false, Release);
    }

    /// Calls `f` with what is in the slot. `f` must not sleep.
    pub(super) fn with<R>(&self, f: impl FnOnce(&T) -> R) -> Option<R> {
        let _guard = rcu::read_lock();
        // Acquire is more than the address dependency needs, and as cheap on s390.
        let backend = self.backend.load(Acquire);
        // SAFETY: By the type invariant it stays while the guard lives.
        unsafe { backend.as_ref() }.map(f)
    }
}
