// SPDX-License-Identifier: GPL-2.0

//! The pools of all guests, and whose pages go when room is short.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

use super::block::{Frames, Wanted};
use super::pool::{Counts, Kind, Pool};
use super::save::SaveId;
use super::{Epoch, Failure, PAGE_SIZE, PoolId};
use crate::UserId;

/// The most pools of a guest.
pub const MAX_POOLS: usize = 16;

/// The most pages that are evicted for one put: the guest, and others who wait for the store, shall not wait long
/// because many small pages must go for one large one.
pub(super) const MOST_EVICTIONS: u64 = 1024;

/// The weight of a guest that nobody has given another one.
const DEFAULT_WEIGHT: NonZeroU16 = NonZeroU16::new(100).unwrap();

/// A guest that is logged on: never the same for two logons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientId(u64);

/// What operators set for a guest, until it logs off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Its share of the store is this, as a part of the weights of all.
    pub weight: NonZeroU16,
    /// The most memory that its pages may take, in frames; `None`: as much as there is.
    pub cap: Option<u64>,
    /// Whether new pages are compressed.
    pub compress: bool,
    /// Whether new pages are refused.
    pub frozen: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            weight: DEFAULT_WEIGHT,
            cap: None,
            compress: true,
            frozen: false,
        }
    }
}

/// What becomes of a call.
#[derive(Debug)]
pub struct Answer {
    /// The return code.
    pub rc: u16,
    /// The frames that have new content.
    pub stored: Vec<Frames>,
    /// A pool that is gone, to be dropped where nobody waits for it.
    pub gone: Option<Pool>,
}

#[derive(Debug, Default)]
pub(super) struct Slot {
    pub(super) generation: u16,
    pub(super) pool: Option<Pool>,
}

#[derive(Debug)]
pub(super) struct Client {
    pub(super) user: UserId,
    pub(super) epoch: Epoch,
    pub(super) settings: Settings,
    /// The save that has its pools as they are.
    pub(super) saved: Option<SaveId>,
    pub(super) slots: [Slot; MAX_POOLS],
    /// Of pools that it has no more.
    past: Counts,
}

impl Client {
    pub(super) fn pools(&self) -> impl Iterator<Item = (PoolId, &Pool)> {
        (0..).zip(&self.slots).filter_map(|(number, slot)| {
            Some((PoolId::new(number, slot.generation), slot.pool.as_ref()?))
        })
    }

    fn slot_mut(&mut self, id: PoolId) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(id.slot())?;
        (slot.generation == id.generation()).then_some(slot)
    }

    pub(super) fn pool_mut(&mut self, id: PoolId) -> Result<&mut Pool, Failure> {
        self.slot_mut(id)
            .and_then(|slot| slot.pool.as_mut())
            .ok_or(Failure::BadPool)
    }

    pub(super) fn create(&mut self, wanted: Wanted) -> Result<(PoolId, u64), Failure> {
        let quota = match (wanted.kind, wanted.quota) {
            (Kind::Ephemeral, 1..) => return Err(Failure::BadLength),
            (Kind::Persistent, _) if self.settings.cap == Some(0) => return Err(Failure::Denied),
            (_, 0) => u64::MAX,
            (_, quota) => quota,
        };
        let (number, slot) = (0..)
            .zip(&mut self.slots)
            .find(|(_, slot)| slot.pool.is_none())
            .ok_or(Failure::Rejected)?;
        slot.generation = slot.generation.wrapping_add(1);
        slot.pool = Some(Pool::new(wanted.kind, wanted.label, quota));
        Ok((PoolId::new(number, slot.generation), quota))
    }

    pub(super) fn destroy(&mut self, id: PoolId) -> Result<Pool, Failure> {
        let pool = self
            .slot_mut(id)
            .and_then(|slot| slot.pool.take())
            .ok_or(Failure::BadPool)?;
        self.past += pool.counts;
        self.past.flushed += pool.len();
        Ok(pool)
    }

    pub(super) fn counts(&self) -> Counts {
        let mut all = self.past;
        for (_, pool) in self.pools() {
            all += pool.counts;
        }
        all
    }

    /// The memory that its pages take, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.pools().map(|(_, pool)| pool.bytes()).sum()
    }

    fn bytes_of(&self, kind: Kind) -> u64 {
        self.pools()
            .filter(|(_, pool)| pool.kind == kind)
            .map(|(_, pool)| pool.bytes())
            .sum()
    }

    fn cap(&self) -> u64 {
        self.settings.cap.map_or(u64::MAX, bytes_of_frames)
    }

    pub(super) fn exceeds_cap(&self) -> bool {
        self.bytes() > self.cap()
    }

    /// Gives up its oldest ephemeral page; says whether it had one.
    pub(super) fn evict(&mut self) -> bool {
        self.slots
            .iter_mut()
            .filter_map(|slot| slot.pool.as_mut())
            .filter(|pool| pool.oldest().is_some())
            .min_by_key(|pool| pool.oldest())
            .is_some_and(Pool::evict)
    }
}

/// The pools of all guests.
#[derive(Debug)]
pub struct Store {
    /// The most memory that pages may take, in bytes.
    pub(super) limit: u64,
    /// Of guests that log on.
    pub(super) defaults: Settings,
    pub(super) clients: BTreeMap<ClientId, Client>,
    logons: u64,
    /// Rises with each page that is stored or was of use.
    age: u64,
}

impl Store {
    /// A store whose pages may take that many frames.
    #[must_use]
    pub fn new(frames: u64) -> Self {
        Self {
            limit: bytes_of_frames(frames),
            defaults: Settings::default(),
            clients: BTreeMap::new(),
            logons: 0,
            age: 0,
        }
    }

    /// A guest is logged on.
    pub fn log_on(&mut self, user: UserId, epoch: Epoch) -> ClientId {
        self.logons += 1;
        let id = ClientId(self.logons);
        let client = Client {
            user,
            epoch,
            settings: self.defaults,
            saved: None,
            slots: Default::default(),
            past: Counts::default(),
        };
        self.clients.insert(id, client);
        id
    }

    /// A guest is logged off. Its pools are to be dropped where nobody waits for it.
    #[must_use]
    pub fn log_off(&mut self, id: ClientId) -> Vec<Pool> {
        self.clients.remove(&id).map_or_else(Vec::new, |client| {
            client
                .slots
                .into_iter()
                .filter_map(|slot| slot.pool)
                .collect()
        })
    }

    /// A guest was reset: its pools are as gone as at logoff, and it has a new epoch.
    #[must_use]
    pub fn reset(&mut self, id: ClientId, epoch: Epoch) -> Vec<Pool> {
        let Some(client) = self.clients.get_mut(&id) else {
            return Vec::new();
        };
        client.epoch = epoch;
        client.saved = None;
        let pools: Vec<_> = client.pools().map(|(id, _)| id).collect();
        pools
            .into_iter()
            .filter_map(|id| client.destroy(id).ok())
            .collect()
    }

    /// The memory that all pages take, in frames.
    #[must_use]
    pub fn frames(&self) -> u64 {
        frames_of_bytes(self.bytes())
    }

    /// The memory that all ephemeral pages take, in frames.
    #[must_use]
    pub fn ephemeral_frames(&self) -> u64 {
        let of = |client: &Client| client.bytes_of(Kind::Ephemeral);
        frames_of_bytes(self.clients.values().map(of).sum())
    }

    /// Evicts ephemeral pages of the guests that have most for their weight until that many frames are free, or there
    /// are none left. Tells how many frames are.
    pub fn evict(&mut self, frames: u64) -> u64 {
        let before = self.frames();
        let freed = |store: &Self| before - store.frames();
        while freed(self) < frames {
            let richest = self.richest(None).and_then(|id| self.clients.get_mut(&id));
            if !richest.is_some_and(Client::evict) {
                break;
            }
        }
        freed(self)
    }

    /// The memory that all pages take, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.clients.values().map(Client::bytes).sum()
    }

    /// That many ages that no page has had: the first of them.
    pub(super) fn next_ages(&mut self, pages: u64) -> u64 {
        let first = self.age;
        self.age += pages;
        first
    }

    /// Sees to it that a guest may store that many bytes more in a pool of that kind; says whether it may.
    ///
    /// Nothing is evicted if that would not be enough. If it takes too many at once the guest may not store anything
    /// now; it has come nearer to it.
    pub(super) fn make_room(&mut self, id: ClientId, kind: Kind, need: u64) -> bool {
        let Some(client) = self.clients.get(&id) else {
            return false;
        };
        // What is never evicted may not take the place of those who come later.
        if kind == Kind::Persistent && client.bytes_of(kind) + need > self.share(client) {
            return false;
        }
        let persistent = client.bytes_of(Kind::Persistent) + need;
        if persistent > client.cap() || self.persistent_of_others(id) + persistent > self.limit {
            return false;
        }
        let newcomer = match kind {
            Kind::Ephemeral => need,
            Kind::Persistent => 0,
        };
        let mut evictions = 0..MOST_EVICTIONS;
        loop {
            let victim = if self.clients[&id].bytes() + need > self.clients[&id].cap() {
                Some(id)
            } else if self.bytes() + need > self.limit {
                self.richest(Some((id, newcomer)))
            } else {
                return true;
            };
            if evictions.next().is_none()
                || !victim
                    .and_then(|victim| self.clients.get_mut(&victim))
                    .is_some_and(Client::evict)
            {
                return false;
            }
        }
    }

    /// The memory that persistent pages of all other guests take, in bytes.
    pub(super) fn persistent_of_others(&self, id: ClientId) -> u64 {
        self.clients
            .iter()
            .filter(|&(&other, _)| other != id)
            .map(|(_, client)| client.bytes_of(Kind::Persistent))
            .sum()
    }

    /// The part of the store that a guest's weight gives it, in bytes.
    fn share(&self, client: &Client) -> u64 {
        let weight = |client: &Client| u128::from(client.settings.weight.get());
        let all: u128 = self.clients.values().map(weight).sum();
        (u128::from(self.limit) * weight(client) / all) as u64
    }

    /// The guest whose ephemeral pages are most for its weight, if `newcomer` had that many bytes more; that one itself
    /// if it is as rich as another one.
    pub(super) fn richest(&self, newcomer: Option<(ClientId, u64)>) -> Option<ClientId> {
        let is_new = |id: ClientId| newcomer.is_some_and(|(new, _)| new == id);
        let wealth = |id: ClientId, client: &Client| {
            let more = newcomer.map_or(0, |(_, bytes)| if is_new(id) { bytes } else { 0 });
            u128::from(client.bytes_of(Kind::Ephemeral) + more)
        };
        let compare = |a: &(&ClientId, &Client), b: &(&ClientId, &Client)| -> Ordering {
            let weight = |client: &Client| u128::from(client.settings.weight.get());
            let (of_a, of_b) = (wealth(*a.0, a.1), wealth(*b.0, b.1));
            (of_a * weight(b.1))
                .cmp(&(of_b * weight(a.1)))
                .then(is_new(*a.0).cmp(&is_new(*b.0)))
        };
        self.clients
            .iter()
            .filter(|(_, client)| client.bytes_of(Kind::Ephemeral) > 0)
            .max_by(compare)
            .map(|(&which, _)| which)
    }
}

const fn bytes_of_frames(frames: u64) -> u64 {
    frames.saturating_mul(PAGE_SIZE as u64)
}

/// As many frames as bytes take, the last one in part.
pub(super) const fn frames_of_bytes(bytes: u64) -> u64 {
    bytes.div_ceil(PAGE_SIZE as u64)
}
