// SPDX-License-Identifier: GPL-2.0

//! The pools of a guest in a file: if the guest is stopped, they outlive CP.
//!
//! A file is a header and records; `Documentation/control-program.rst` specifies it. It holds pages as the store keeps
//! them.

use std::fmt;
use std::io::{self, Read};

use crc32fast::Hasher;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::control::Refusal;
use super::page::{Page, Secret};
use super::pool::{Handle, Kind, Pool};
use super::store::{ClientId, MAX_POOLS, Slot, Store};
use super::{Epoch, Index, ObjectId, PAGE_SIZE, PoolId};
use crate::UserId;

const MAGIC: [u8; 8] = *b"TMEMSAVE";
const VERSION: u32 = 1;

/// How many pages are written before others get their turn.
const TURN_PAGES: usize = 512;

/// Names one save of a guest's pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaveId {
    /// The life of the guest.
    pub epoch: Epoch,
    /// Random, so that an earlier save in the same life is another one.
    pub number: u64,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    magic: [u8; 8],
    version: U32,
    /// In EBCDIC.
    user: [u8; 8],
    epoch: U64,
    number: U64,
}

/// What a record is about, and what of it.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Tag {
    what: U16,
    kind: U16,
}

impl Tag {
    const END: u16 = 0;
    const SLOT: u16 = 1;
    const PAGE: u16 = 2;

    const NO_POOL: u16 = 0;
    const PERSISTENT: u16 = 1;
    const EPHEMERAL: u16 = 2;

    const fn new(what: u16, kind: u16) -> Self {
        Self {
            what: U16::new(what),
            kind: U16::new(kind),
        }
    }
}

/// A slot, and the pool in it if there is one. Its pages follow.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct SlotRecord {
    /// The number of the pool, or of the last one that was there.
    pool: U32,
    quota: U64,
    label: [u8; 16],
}

/// A page. Its content follows, as it is kept.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct PageRecord {
    oid: [U64; 3],
    index: U64,
    length: U32,
}

/// Why a file is no file of pools; nothing has changed.
#[derive(Debug, Error)]
pub enum Damage {
    /// It begins in another way.
    #[error("it is not a file of pools")]
    Foreign,
    /// It is of another version.
    #[error("it has version {0}, and only version {VERSION} is known")]
    Version(u32),
    /// It has no end.
    #[error("it ends too early")]
    Short,
    /// It has more than its end.
    #[error("something follows its end")]
    Long,
    /// Something is not as it was written.
    #[error("it has been altered: {0}")]
    Altered(&'static str),
    /// It cannot be read.
    #[error("{0}")]
    Io(io::Error),
}

impl From<io::Error> for Damage {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Short,
            _ => Self::Io(error),
        }
    }
}

/// The pools of a guest on their way into a file, in turns, so that others can use the store in between.
#[derive(Debug)]
pub struct Saver {
    client: ClientId,
    id: SaveId,
    slot: usize,
    /// The last page of the slot that has been written.
    after: Option<Handle>,
    sum: Hasher,
    pages: u64,
}

impl Saver {
    /// The most bytes of one turn.
    pub const TURN_BYTES: usize = size_of::<Header>()
        + MAX_POOLS * (size_of::<Tag>() + size_of::<SlotRecord>())
        + TURN_PAGES * (size_of::<Tag>() + size_of::<PageRecord>() + PAGE_SIZE)
        + size_of::<Tag>()
        + size_of::<U32>();

    /// What is being saved.
    #[must_use]
    pub const fn id(&self) -> SaveId {
        self.id
    }

    /// How many pages have been written.
    #[must_use]
    pub const fn pages(&self) -> u64 {
        self.pages
    }

    /// Writes the next part of the file; says whether there is more. `None` if the guest is not logged on any more.
    pub fn write(&mut self, store: &Store, out: &mut Vec<u8>) -> Option<bool> {
        let client = store.clients.get(&self.client)?;
        let start = out.len();
        let begun = self.slot > 0 || self.after.is_some();
        if !begun {
            push(
                out,
                &Header {
                    magic: MAGIC,
                    version: U32::new(VERSION),
                    user: client.user.as_ebcdic(),
                    epoch: U64::new(self.id.epoch.0),
                    number: U64::new(self.id.number),
                },
            );
        }
        let mut left = TURN_PAGES;
        while let Some(slot) = client.slots.get(self.slot) {
            if self.after.is_none() {
                push_slot(out, self.slot as u16, slot);
            }
            let after = self.after;
            let pages = slot.pool.iter().flat_map(|pool| pool.pages_after(after));
            for (handle, page) in pages {
                push_page(out, handle, page);
                self.after = Some(handle);
                self.pages += 1;
                left -= 1;
                if left == 0 {
                    self.sum.update(&out[start..]);
                    return Some(true);
                }
            }
            self.slot += 1;
            self.after = None;
        }
        push(out, &Tag::new(Tag::END, 0));
        self.sum.update(&out[start..]);
        push(out, &U32::new(self.sum.clone().finalize()));
        Some(false)
    }
}

fn push(out: &mut Vec<u8>, record: &(impl IntoBytes + Immutable)) {
    out.extend_from_slice(record.as_bytes());
}

fn push_slot(out: &mut Vec<u8>, number: u16, slot: &Slot) {
    let kind = match slot.pool.as_ref().map(|pool| pool.kind) {
        None => Tag::NO_POOL,
        Some(Kind::Persistent) => Tag::PERSISTENT,
        Some(Kind::Ephemeral) => Tag::EPHEMERAL,
    };
    push(out, &Tag::new(Tag::SLOT, kind));
    push(
        out,
        &SlotRecord {
            pool: U32::new(PoolId::new(number, slot.generation).number()),
            quota: U64::new(slot.pool.as_ref().map_or(0, |pool| pool.quota)),
            label: slot.pool.as_ref().map_or([0; 16], |pool| pool.label),
        },
    );
}

fn push_page(out: &mut Vec<u8>, (object, index): Handle, page: &Page) {
    let (kind, content) = page.parts();
    push(out, &Tag::new(Tag::PAGE, kind));
    push(
        out,
        &PageRecord {
            oid: object.0.map(U64::new),
            index: U64::new(index.0),
            length: U32::new(content.len() as u32),
        },
    );
    out.extend_from_slice(content);
}

/// A file that is being read.
struct Input<R> {
    from: R,
    sum: Hasher,
}

impl<R: Read> Input<R> {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Damage> {
        self.from.read_exact(bytes)?;
        self.sum.update(bytes);
        Ok(())
    }

    fn record<T: FromBytes + IntoBytes>(&mut self) -> Result<T, Damage> {
        let mut record = T::new_zeroed();
        self.fill(record.as_mut_bytes())?;
        Ok(record)
    }

    fn page(&mut self, kind: u16, length: u32) -> Result<Page, Damage> {
        let length = usize::try_from(length)
            .ok()
            .filter(|&length| length <= PAGE_SIZE)
            .ok_or(Damage::Altered("a page is too large"))?;
        let mut content = Secret::zeroed(length);
        self.fill(&mut content)?;
        Page::from_parts(kind, content).ok_or(Damage::Altered("a page is damaged"))
    }

    fn end(mut self) -> Result<(), Damage> {
        let sum = self.sum.clone().finalize();
        if self.record::<U32>()? != sum {
            return Err(Damage::Altered("its checksum is another one"));
        }
        match self.fill(&mut [0]) {
            Err(Damage::Short) => Ok(()),
            Ok(()) => Err(Damage::Long),
            Err(damage) => Err(damage),
        }
    }
}

/// The pools of a guest from a file, all of which has been checked.
pub struct Saved {
    user: UserId,
    id: SaveId,
    slots: [Slot; MAX_POOLS],
    pages: u64,
}

/// Without the content.
impl fmt::Debug for Saved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            user, id, pages, ..
        } = self;
        write!(f, "Saved({user}, {id:?}, {pages} pages)")
    }
}

impl Saved {
    /// Reads all of a file and checks it. It is read in small pieces, but not twice.
    pub fn read(from: impl Read) -> Result<Self, Damage> {
        let mut input = Input {
            from,
            sum: Hasher::new(),
        };
        let header: Header = input.record()?;
        if header.magic != MAGIC {
            return Err(Damage::Foreign);
        }
        if header.version != VERSION {
            return Err(Damage::Version(header.version.get()));
        }
        let mut saved = Self {
            user: UserId::from_ebcdic(header.user)
                .map_err(|_| Damage::Altered("its user ID is none"))?,
            id: SaveId {
                epoch: Epoch(header.epoch.get()),
                number: header.number.get(),
            },
            slots: Default::default(),
            pages: 0,
        };
        let mut read = 0;
        loop {
            let Tag { what, kind } = input.record()?;
            match what.get() {
                Tag::SLOT => {
                    saved.add_slot(read, kind.get(), &input.record()?)?;
                    read += 1;
                }
                Tag::PAGE => {
                    let record: PageRecord = input.record()?;
                    let page = input.page(kind.get(), record.length.get())?;
                    let pool = read
                        .checked_sub(1)
                        .and_then(|slot: usize| saved.slots[slot].pool.as_mut())
                        .filter(|pool| pool.len() < pool.quota)
                        .ok_or(Damage::Altered("a page is in no pool"))?;
                    let object = ObjectId(record.oid.map(|word| word.get()));
                    let handle = (object, Index(record.index.get()));
                    if !pool.is_behind(handle) {
                        return Err(Damage::Altered("a page is not in its place"));
                    }
                    pool.insert(handle, page, saved.pages);
                    saved.pages += 1;
                }
                Tag::END if read == MAX_POOLS && kind == 0 => {
                    input.end()?;
                    return Ok(saved);
                }
                _ => {
                    return Err(Damage::Altered(
                        "a record is not known, or not in its place",
                    ));
                }
            }
        }
    }

    fn add_slot(&mut self, place: usize, kind: u16, record: &SlotRecord) -> Result<(), Damage> {
        let id = PoolId::from_number(record.pool.get());
        let unnamed = record.quota == 0 && record.label == [0; 16];
        let kind = match kind {
            Tag::NO_POOL if unnamed => None,
            Tag::NO_POOL => return Err(Damage::Altered("what is no pool has a quota or a label")),
            Tag::PERSISTENT => Some(Kind::Persistent),
            Tag::EPHEMERAL => Some(Kind::Ephemeral),
            _ => return Err(Damage::Altered("a pool is of no known kind")),
        };
        let slot = self
            .slots
            .get_mut(place)
            .filter(|_| id.slot() == place)
            .ok_or(Damage::Altered("a pool is not in its place"))?;
        slot.generation = id.generation();
        slot.pool = kind.map(|kind| Pool::new(kind, record.label, record.quota.get()));
        Ok(())
    }

    fn pools(&self) -> impl Iterator<Item = &Pool> {
        self.slots.iter().filter_map(|slot| slot.pool.as_ref())
    }

    fn persistent(&self) -> impl Iterator<Item = &Pool> {
        self.pools().filter(|pool| pool.kind == Kind::Persistent)
    }
}

/// What became of pools from a file.
#[derive(Debug)]
pub struct Restored {
    /// How many pages the guest has again.
    pub pages: u64,
    /// How many ephemeral pages it has not, since it is not any more as it was saved.
    pub dropped: u64,
    /// Pools, to be dropped where nobody waits for it.
    pub gone: Vec<Pool>,
}

impl Store {
    /// Begins to save a guest that does not run; `None` if it is not logged on. `number` is random.
    #[must_use]
    pub fn save(&self, client: ClientId, number: u64) -> Option<Saver> {
        let epoch = self.clients.get(&client)?.epoch;
        Some(Saver {
            client,
            id: SaveId { epoch, number },
            slot: 0,
            after: None,
            sum: Hasher::new(),
            pages: 0,
        })
    }

    /// A guest is as that save has it, until it uses transcendent memory or is reset.
    pub fn set_saved(&mut self, id: ClientId, save: SaveId) {
        if let Some(client) = self.clients.get_mut(&id)
            && client.epoch == save.epoch
        {
            client.saved = Some(save);
        }
    }

    /// Whether a guest is as some save has it.
    #[must_use]
    pub fn is_saved(&self, id: ClientId) -> bool {
        self.clients
            .get(&id)
            .is_some_and(|client| client.saved.is_some())
    }

    /// Gives a guest the pools of a file in place of its own, if it is as they were saved. Otherwise persistent pages are
    /// refused, and ephemeral ones dropped.
    ///
    /// [`Self::trim`] evicts what is too much then.
    pub fn restore(&mut self, id: ClientId, saved: Saved) -> Result<Restored, Refusal> {
        let user = saved.user;
        let client = self.clients.get(&id).ok_or(Refusal::NotLoggedOn(user))?;
        if client.user != user {
            return Err(Refusal::OfAnother(user));
        }
        if client.saved != Some(saved.id) {
            if saved.persistent().any(|pool| !pool.is_empty()) {
                let same_life = client.epoch == saved.id.epoch;
                return Err(if same_life {
                    Refusal::WentOn(user)
                } else {
                    Refusal::AnotherLife(user)
                });
            }
            return Ok(Restored {
                pages: 0,
                dropped: saved.pages,
                gone: pools(saved.slots),
            });
        }
        let room = self.limit.saturating_sub(self.persistent_of_others(id));
        if saved.persistent().map(Pool::bytes).sum::<u64>() > room {
            return Err(Refusal::NoRoom(user));
        }
        // What is put from now on is younger.
        self.next_ages(saved.pages);
        let client = self
            .clients
            .get_mut(&id)
            .ok_or(Refusal::NotLoggedOn(user))?;
        client.saved = None;
        Ok(Restored {
            pages: saved.pages,
            dropped: 0,
            gone: pools(std::mem::replace(&mut client.slots, saved.slots)),
        })
    }
}

fn pools(slots: [Slot; MAX_POOLS]) -> Vec<Pool> {
    slots.into_iter().filter_map(|slot| slot.pool).collect()
}
