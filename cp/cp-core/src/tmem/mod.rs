// SPDX-License-Identifier: GPL-2.0

//! Transcendent memory: pages that guests give away, and get back if CP still has them.
//!
//! A guest reaches it by DIAGNOSE X'1F4' ([`crate::diag::tmem`]) with a [`Block`]; `Documentation/tmem-hypercall.rst`
//! specifies all of it. Its pages are in pools of its own: those of an ephemeral pool may vanish whenever CP wants
//! room, those of a persistent one stay until the guest lets go of them. Two rules make it safe to use: a put that does
//! not succeed leaves nothing under its handles, not even what was there before, and a get that does not succeed leaves
//! the guest's frames as they are.
//!
//! Nothing is shared between guests. They meet only where room is short: then the guest whose ephemeral pages exceed
//! its weighted share most loses its oldest one.

mod batch;
mod block;
mod control;
mod page;
mod pool;
mod save;
mod store;
#[cfg(test)]
mod tests;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod world;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use block::{BLOCK_LENGTH, Block, Frames, Function, MAX_ENTRIES, MAX_PAGES, VERSION};
pub use control::{GuestView, Listing, PoolView, Refusal, Selection, Setting};
pub use pool::{Counts, Kind, Pool};
pub use save::{Damage, Restored, SaveId, Saved, Saver};
pub use store::{Answer, ClientId, MAX_POOLS, Settings, Store};

/// The size of a page, in bytes.
pub const PAGE_SIZE: usize = 4096;

/// The name of a pool within its guest: its slot, and how often that was used before, so that the name of a pool that
/// is gone never means another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PoolId(u32);

impl PoolId {
    /// From the number that guests and operators see.
    #[must_use]
    pub const fn from_number(number: u32) -> Self {
        Self(number)
    }

    const fn new(slot: u16, generation: u16) -> Self {
        Self((generation as u32) << 16 | slot as u32)
    }

    /// The number that guests and operators see.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    const fn slot(self) -> usize {
        (self.0 & 0xffff) as usize
    }

    const fn generation(self) -> u16 {
        (self.0 >> 16) as u16
    }
}

/// A set of pages in a pool: a file, say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectId(pub [u64; 3]);

/// A page within its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Index(pub u64);

/// Names one life of a guest, from its logon or reset to its next: what an earlier life knew of pools is worth nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch(pub u64);

/// Why an operation is not carried out, or a block not looked at.
///
/// The discriminant is the return code; 0 is success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[repr(u16)]
pub enum Failure {
    /// Not all the pages are there.
    #[error("not all the pages are there")]
    Miss = 1,
    /// No room: nothing is stored, and what was there is gone.
    #[error("there is no room, or the guest is frozen")]
    Rejected = 2,
    /// Enough for one call.
    #[error("not begun: enough was done for one call")]
    Again = 3,
    /// No such pool.
    #[error("there is no such pool")]
    BadPool = 0x10,
    /// The frames are not in storage, or not on a page boundary.
    #[error("the frames are not whole pages of storage")]
    BadAddress = 0x11,
    /// A length or number is out of its range.
    #[error("a length or number is out of its range")]
    BadLength = 0x12,
    /// A flag that is not known, or a reserved field that is not zero.
    #[error("an unknown flag is set, or a reserved field is not zero")]
    BadFlags = 0x13,
    /// No such operation.
    #[error("there is no such operation")]
    BadOperation = 0x14,
    /// No block, or one of another version.
    #[error("this is no block of a version that is known")]
    BadVersion = 0x15,
    /// The guest was reset since it asked.
    #[error("the epoch is another one")]
    Epoch = 0x16,
    /// The operator does not grant it.
    #[error("the operator does not grant it")]
    Denied = 0x17,
}

impl Failure {
    /// The return code of an outcome.
    #[must_use]
    pub const fn code(outcome: Result<(), Self>) -> u16 {
        match outcome {
            Ok(()) => 0,
            Err(failure) => failure as u16,
        }
    }
}

/// Frames lie outside of the guest's storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("frames are outside of the guest's storage")]
pub struct OutsideStorage;

/// The storage of the guest that an operation is for.
pub trait Storage {
    /// Checks that all the frames exist.
    fn check(&self, frames: Frames) -> Result<(), OutsideStorage>;

    /// Copies what is in the frames.
    fn read(&self, frames: Frames, bytes: &mut [u8]) -> Result<(), OutsideStorage>;

    /// Replaces what is in the frames, which have been checked.
    fn write(&self, frames: Frames, bytes: &[u8]) -> Result<(), OutsideStorage>;
}
