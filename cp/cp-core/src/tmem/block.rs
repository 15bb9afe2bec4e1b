// SPDX-License-Identifier: GPL-2.0

//! The parameter block: a page, 64 bytes of header and up to 63 records of 64 bytes, all big-endian.
//!
//! The block is CP's own copy, so that what has been checked stays so.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, transmute_mut};

use super::pool::Kind;
use super::{Epoch, Failure, Index, ObjectId, PAGE_SIZE, PoolId};

/// The version of all that is here.
pub const VERSION: u16 = 1;

/// The size of a block, in bytes; it is on a boundary of this.
pub const BLOCK_LENGTH: usize = 4096;

/// The most entries of a batch.
pub const MAX_ENTRIES: usize = 63;

/// The most pages that one entry may put or get.
pub const MAX_PAGES: u32 = 256;

/// `nr_pages` of a flush up to the end of the object.
const TO_THE_END: u32 = u32::MAX;

/// `TMEM` in ASCII.
const MAGIC: u32 = 0x544d_454d;
const HEADER_LENGTH: u16 = 64;
const RECORD_LENGTH: usize = 64;

/// Header flag: the first entry that fails ends the batch.
const STOP_ON_ERROR: u16 = 1;

const PERSISTENT: u32 = 1;
const EPHEMERAL: u32 = 2;

/// What a DIAGNOSE asks for: the subcode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum Function {
    /// What there is.
    Query = 0,
    /// Make a pool.
    PoolCreate = 1,
    /// Unmake one.
    PoolDestroy = 2,
    /// Put, get and flush pages.
    Batch = 3,
    /// Counts of a pool or of the guest.
    Stats = 4,
}

impl Function {
    /// The function with that subcode.
    #[must_use]
    pub const fn from_subcode(subcode: u64) -> Option<Self> {
        Some(match subcode {
            0 => Self::Query,
            1 => Self::PoolCreate,
            2 => Self::PoolDestroy,
            3 => Self::Batch,
            4 => Self::Stats,
            _ => return None,
        })
    }
}

#[derive(Clone, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    magic: U32,
    version: U16,
    hdr_len: U16,
    ent_len: U16,
    nr: U16,
    done: U16,
    flags: U16,
    epoch: U64,
    rsvd: [U64; 5],
}

/// A block.
#[derive(Clone, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Block {
    header: Header,
    records: [[u8; RECORD_LENGTH]; MAX_ENTRIES],
}

/// Which entries of a batch are to be executed, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    pub first: usize,
    pub end: usize,
    pub stop_on_error: bool,
}

impl Block {
    /// Takes a copy of a block; `None` if it has another size.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        Self::read_from_bytes(bytes).ok()
    }

    /// The bytes for the guest.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        IntoBytes::as_bytes(self)
    }

    /// Checks all of the header.
    pub(super) fn check(&self, function: Function, epoch: Epoch) -> Result<Batch, Failure> {
        let header = &self.header;
        let query = function == Function::Query;
        let batch = function == Function::Batch;
        if header.magic != MAGIC || !query && header.version != VERSION {
            return Err(Failure::BadVersion);
        }
        let most = if batch { MAX_ENTRIES } else { 1 };
        let (nr, done) = (usize::from(header.nr.get()), usize::from(header.done.get()));
        if header.hdr_len != HEADER_LENGTH
            || usize::from(header.ent_len.get()) != RECORD_LENGTH
            || !(1..=most).contains(&nr)
            || done >= nr
        {
            return Err(Failure::BadLength);
        }
        let known = if batch { STOP_ON_ERROR } else { 0 };
        if header.flags.get() & !known != 0 || header.rsvd.iter().any(|&field| field != 0) {
            return Err(Failure::BadFlags);
        }
        if !query && header.epoch != epoch.0 {
            return Err(Failure::Epoch);
        }
        Ok(Batch {
            first: done,
            end: nr,
            stop_on_error: header.flags == STOP_ON_ERROR,
        })
    }

    pub(super) fn set_done(&mut self, done: usize) {
        self.header.done = U16::new(done as u16);
    }

    pub(super) fn set_epoch(&mut self, epoch: Epoch) {
        self.header.epoch = U64::new(epoch.0);
    }

    pub(super) fn entry(&mut self, place: usize) -> &mut Entry {
        transmute_mut!(&mut self.records[place])
    }

    pub(super) fn query(&mut self) -> &mut QueryRecord {
        transmute_mut!(&mut self.records[0])
    }

    pub(super) fn pool(&mut self) -> &mut PoolRecord {
        transmute_mut!(&mut self.records[0])
    }

    pub(super) fn stats(&mut self) -> &mut StatsRecord {
        transmute_mut!(&mut self.records[0])
    }
}

/// The record of QUERY: all of it is stored.
#[derive(Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct QueryRecord {
    pub version_min: U16,
    pub version_max: U16,
    pub max_nr: U16,
    pub max_pools: U16,
    pub max_pages: U32,
    pub features: U32,
    pub rsvd: [U64; 6],
}

impl QueryRecord {
    /// Feature: contents are compressed.
    pub const COMPRESSED: u32 = 1;
}

/// The record of `POOL_CREATE` and `POOL_DESTROY`.
#[derive(Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct PoolRecord {
    pub pool: U32,
    flags: U32,
    page_shift: U16,
    rsvd1: U16,
    rsvd2: U32,
    pub quota: U64,
    label: [u8; 16],
    rsvd3: [U64; 3],
}

/// A pool that is wanted.
#[derive(Debug, PartialEq, Eq)]
pub struct Wanted {
    pub kind: Kind,
    pub label: [u8; 16],
    pub quota: u64,
}

impl PoolRecord {
    /// Checks the record of `POOL_CREATE`.
    pub fn wanted(&self) -> Result<Wanted, Failure> {
        let kind = match self.flags.get() {
            PERSISTENT => Kind::Persistent,
            EPHEMERAL => Kind::Ephemeral,
            _ => return Err(Failure::BadFlags),
        };
        if self.page_shift != PAGE_SIZE.trailing_zeros() as u16 {
            return Err(Failure::BadLength);
        }
        if self.pool != 0 || self.is_reserved_used() {
            return Err(Failure::BadFlags);
        }
        Ok(Wanted {
            kind,
            label: self.label,
            quota: self.quota.get(),
        })
    }

    /// Checks the record of `POOL_DESTROY`: nothing but the pool.
    pub fn named(&self) -> Result<PoolId, Failure> {
        let unused = self.flags == 0 && self.page_shift == 0 && self.quota == 0;
        if !unused || self.label != [0; 16] || self.is_reserved_used() {
            return Err(Failure::BadFlags);
        }
        Ok(PoolId::from_number(self.pool.get()))
    }

    fn is_reserved_used(&self) -> bool {
        self.rsvd1 != 0 || self.rsvd2 != 0 || self.rsvd3.iter().any(|&field| field != 0)
    }
}

/// The record of STATS: all but the first two fields is stored.
#[derive(Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct StatsRecord {
    pool: U32,
    rsvd: U32,
    pub pages: U64,
    pub bytes: U64,
    pub puts: U64,
    pub rejected: U64,
    pub hits: U64,
    pub misses: U64,
    pub evicted: U64,
}

impl StatsRecord {
    /// `pool` of all pools of the guest, and of those that it had.
    const ALL: u32 = u32::MAX;

    /// Which pool; `None` for all.
    pub fn which(&self) -> Result<Option<PoolId>, Failure> {
        if self.rsvd != 0 {
            return Err(Failure::BadFlags);
        }
        let pool = self.pool.get();
        Ok((pool != Self::ALL).then(|| PoolId::from_number(pool)))
    }
}

/// An entry of a batch.
#[derive(Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Entry {
    op: U16,
    pub rc: U16,
    pool: U32,
    oid: [U64; 3],
    index: U64,
    addr: U64,
    nr_pages: U32,
    flags: U32,
    cookie: U64,
}

/// Some pages of an object; none if the range is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handles {
    pub object: ObjectId,
    pub pages: RangeInclusive<u64>,
}

impl Handles {
    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = (ObjectId, Index)> + use<> {
        let object = self.object;
        self.pages.clone().map(move |page| (object, Index(page)))
    }
}

/// Adjacent frames of storage, not known to exist: 1 to [`MAX_PAGES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frames {
    address: u64,
    pages: u32,
}

impl Frames {
    /// `None` if the address is not on a page boundary, or the frames cannot be that many.
    #[must_use]
    pub const fn new(address: u64, pages: u32) -> Option<Self> {
        if address.is_multiple_of(PAGE_SIZE as u64) && 1 <= pages && pages <= MAX_PAGES {
            Some(Self { address, pages })
        } else {
            None
        }
    }

    /// The absolute address of the first.
    #[must_use]
    pub const fn address(self) -> u64 {
        self.address
    }

    /// The absolute addresses of all.
    pub fn each(&self) -> impl Iterator<Item = u64> + use<> {
        let first = self.address;
        (0..self.pages()).map(move |page| first + page * PAGE_SIZE as u64)
    }

    /// How many bytes they have.
    #[must_use]
    pub const fn bytes(self) -> usize {
        self.pages as usize * PAGE_SIZE
    }

    /// How many there are.
    #[must_use]
    pub const fn pages(self) -> u64 {
        self.pages as u64
    }
}

/// An entry that has been checked, as far as that can be done without the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub pool: PoolId,
    pub handles: Handles,
    pub action: Action,
}

/// What to do with the handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Put(Frames),
    /// A put that can only fail; but what was there must go.
    RefusedPut(Failure),
    /// Leaves the pages where they are if `keep`.
    Get {
        frames: Frames,
        keep: bool,
    },
    Flush,
}

impl Entry {
    const PUT: u16 = 1;
    const GET: u16 = 2;
    const GET_KEEP: u16 = 3;
    const FLUSH_RANGE: u16 = 4;
    const FLUSH_OBJECT: u16 = 5;

    /// Checks all fields.
    pub fn decode(&self) -> Result<Request, Failure> {
        let (op, index, nr_pages) = (self.op.get(), self.index.get(), self.nr_pages.get());
        let flags = match self.flags.get() {
            0 => Ok(()),
            _ => Err(Failure::BadFlags),
        };
        let action = match op {
            Self::PUT => match flags.and_then(|()| self.frames()) {
                Ok(frames) => Action::Put(frames),
                Err(failure) => Action::RefusedPut(failure),
            },
            Self::GET | Self::GET_KEEP => {
                flags?;
                Action::Get {
                    frames: self.frames()?,
                    keep: op == Self::GET_KEEP,
                }
            }
            Self::FLUSH_RANGE | Self::FLUSH_OBJECT => {
                flags?;
                let whole = op == Self::FLUSH_OBJECT;
                if whole && (index != 0 || nr_pages != 0) || !whole && nr_pages == 0 {
                    return Err(Failure::BadLength);
                }
                if self.addr != 0 {
                    return Err(Failure::BadAddress);
                }
                Action::Flush
            }
            _ => return Err(Failure::BadOperation),
        };
        let last = if op == Self::FLUSH_OBJECT || op == Self::FLUSH_RANGE && nr_pages == TO_THE_END
        {
            Some(u64::MAX)
        } else {
            // Of no pages there is no last one; what would go on behind the last index of all ends there.
            u64::from(nr_pages)
                .checked_sub(1)
                .map(|more| index.saturating_add(more))
        };
        Ok(Request {
            pool: PoolId::from_number(self.pool.get()),
            handles: Handles {
                object: ObjectId(self.oid.map(U64::get)),
                #[expect(
                    clippy::reversed_empty_ranges,
                    reason = "the range of a put of no pages"
                )]
                pages: last.map_or(1..=0, |last| index..=last),
            },
            action,
        })
    }

    /// The frames of a put or get.
    fn frames(&self) -> Result<Frames, Failure> {
        let (index, nr_pages) = (self.index.get(), self.nr_pages.get());
        let counted = (1..=MAX_PAGES).contains(&nr_pages);
        if !counted || index.checked_add(u64::from(nr_pages) - 1).is_none() {
            return Err(Failure::BadLength);
        }
        Frames::new(self.addr.get(), nr_pages).ok_or(Failure::BadAddress)
    }
}
