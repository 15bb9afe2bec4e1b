// SPDX-License-Identifier: GPL-2.0

//! A pool: pages under their handles.

use std::collections::BTreeMap;
use std::ops::{AddAssign, Bound, RangeInclusive};

use serde::{Deserialize, Serialize};

use super::block::Handles;
use super::page::Page;
use super::{Failure, Index, ObjectId};

/// What becomes of the pages of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// They may vanish at any time, and a get takes them out.
    Ephemeral,
    /// They stay until the guest, or an operator by force, flushes them.
    Persistent,
}

/// What has happened to pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Stored.
    pub puts: u64,
    /// Refused.
    pub rejected: u64,
    /// Got.
    pub hits: u64,
    /// Asked for in vain.
    pub misses: u64,
    /// Flushed, by the guest or an operator.
    pub flushed: u64,
    /// Given up for want of room.
    pub evicted: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, more: Self) {
        self.puts += more.puts;
        self.rejected += more.rejected;
        self.hits += more.hits;
        self.misses += more.misses;
        self.flushed += more.flushed;
        self.evicted += more.evicted;
    }
}

/// How much one call may still do, in pages.
#[derive(Debug)]
pub struct Budget(u64);

impl Budget {
    pub const fn new(pages: u64) -> Self {
        Self(pages)
    }

    pub fn take(&mut self, pages: u64) -> Result<(), Failure> {
        self.0 = self.0.checked_sub(pages).ok_or(Failure::Again)?;
        Ok(())
    }
}

/// Names a page in its pool.
pub type Handle = (ObjectId, Index);

/// A pool. Dropping one that holds much takes time, since all of its content is zeroed.
#[derive(Debug)]
pub struct Pool {
    pub(super) kind: Kind,
    pub(super) label: [u8; 16],
    /// The most pages it may hold.
    pub(super) quota: u64,
    pages: BTreeMap<Handle, Kept>,
    /// The handles of an ephemeral pool, the one that is to go first first.
    ages: BTreeMap<u64, Handle>,
    bytes: u64,
    pub(super) counts: Counts,
}

#[derive(Debug)]
struct Kept {
    page: Page,
    age: u64,
}

impl Pool {
    pub(super) fn new(kind: Kind, label: [u8; 16], quota: u64) -> Self {
        Self {
            kind,
            label,
            quota,
            pages: BTreeMap::new(),
            ages: BTreeMap::new(),
            bytes: 0,
            counts: Counts::default(),
        }
    }

    /// How many pages it holds.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.pages.len() as u64
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// How much memory its pages take, in bytes.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The age of the page that is to go first; none of a persistent pool ever does.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.ages.keys().next().copied()
    }

    pub(super) fn insert(&mut self, handle: Handle, page: Page, age: u64) {
        self.remove(handle);
        self.bytes += page.cost();
        if self.kind == Kind::Ephemeral {
            self.ages.insert(age, handle);
        }
        self.pages.insert(handle, Kept { page, age });
    }

    /// Whether a handle is behind those of all its pages.
    pub(super) fn is_behind(&self, handle: Handle) -> bool {
        let last = self.pages.last_key_value();
        last.is_none_or(|(&last, _)| last < handle)
    }

    pub(super) fn get(&self, handle: Handle) -> Option<&Page> {
        self.pages.get(&handle).map(|kept| &kept.page)
    }

    /// All pages, or those behind a handle, in the order of their handles.
    pub(super) fn pages_after(
        &self,
        handle: Option<Handle>,
    ) -> impl Iterator<Item = (Handle, &Page)> {
        let start = handle.map_or(Bound::Unbounded, Bound::Excluded);
        self.pages
            .range((start, Bound::Unbounded))
            .map(|(&handle, kept)| (handle, &kept.page))
    }

    /// The page was of use: it is to go later.
    pub(super) fn refresh(&mut self, handle: Handle, age: u64) {
        if let Some(kept) = self.pages.get_mut(&handle)
            && self.ages.remove(&kept.age).is_some()
        {
            kept.age = age;
            self.ages.insert(age, handle);
        }
    }

    /// Takes a page out; says whether there was one.
    pub(super) fn remove(&mut self, handle: Handle) -> bool {
        let Some(kept) = self.pages.remove(&handle) else {
            return false;
        };
        self.bytes -= kept.page.cost();
        self.ages.remove(&kept.age);
        true
    }

    /// Gives up the page that is to go first; says whether there was one.
    pub(super) fn evict(&mut self) -> bool {
        let Some(&handle) = self.ages.values().next() else {
            return false;
        };
        self.counts.evicted += 1;
        self.remove(handle)
    }

    /// Empties handles, as many as the budget allows.
    pub(super) fn flush(&mut self, handles: &Handles, budget: &mut Budget) -> Result<(), Failure> {
        while let Some(handle) = self.next_of(handles) {
            budget.take(1)?;
            self.remove(handle);
            self.counts.flushed += 1;
        }
        Ok(())
    }

    /// Takes all pages out; they are in the pool that is given.
    pub(super) fn take_all(&mut self) -> Self {
        let left = Self::new(self.kind, self.label, self.quota);
        let gone = std::mem::replace(self, left);
        self.counts = gone.counts;
        self.counts.flushed += gone.len();
        gone
    }

    fn next_of(&self, handles: &Handles) -> Option<Handle> {
        let range: &RangeInclusive<u64> = &handles.pages;
        if range.is_empty() {
            return None;
        }
        let ends = (handles.object, Index(*range.start()))..=(handles.object, Index(*range.end()));
        self.pages.range(ends).next().map(|(&handle, _)| handle)
    }
}
