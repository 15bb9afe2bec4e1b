// SPDX-License-Identifier: GPL-2.0

//! What operators do with pools.

use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::PoolId;
use super::pool::{Counts, Kind, Pool};
use super::store::{Client, Settings, Store, frames_of_bytes};
use crate::UserId;

/// A new value of one of the [`Settings`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Setting {
    /// Of [`Settings::weight`].
    Weight(NonZeroU16),
    /// Of [`Settings::cap`].
    Cap(Option<u64>),
    /// Of [`Settings::compress`].
    Compress(bool),
    /// Of [`Settings::frozen`].
    Frozen(bool),
}

impl Settings {
    fn set(&mut self, setting: Setting) {
        match setting {
            Setting::Weight(weight) => self.weight = weight,
            Setting::Cap(cap) => self.cap = cap,
            Setting::Compress(compress) => self.compress = compress,
            Setting::Frozen(frozen) => self.frozen = frozen,
        }
    }
}

/// Which pools to flush or destroy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// Whose; `None`: of all guests.
    pub whose: Option<UserId>,
    /// Which one; `None`: all of them.
    pub pool: Option<PoolId>,
    /// No persistent ones.
    pub only_ephemeral: bool,
    /// Also persistent ones that hold pages, which the guest then has lost.
    pub force: bool,
}

/// Why an operator's request is not carried out; nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// No such guest.
    #[error("{0} is not logged on")]
    NotLoggedOn(UserId),
    /// No such pool.
    #[error("{user} has no pool {:08x}", pool.number())]
    NoPool {
        /// Who.
        user: UserId,
        /// The pool.
        pool: PoolId,
    },
    /// A guest would lose data.
    #[error("pool {:08x} of {user} is persistent and holds {pages} pages, which only --force may lose", pool.number())]
    Persistent {
        /// Whose.
        user: UserId,
        /// The pool.
        pool: PoolId,
        /// What it holds.
        pages: u64,
    },
    /// A file is of another guest.
    #[error("the pools are those of {0}")]
    OfAnother(UserId),
    /// The guest of a file is not there any more.
    #[error("{0} was reset, or logged on again, after its persistent pages were saved")]
    AnotherLife(UserId),
    /// The guest of a file has gone on.
    #[error("{0} went on, or was saved once more, after its persistent pages were saved")]
    WentOn(UserId),
    /// Persistent pages do not fit.
    #[error("there is no room for the persistent pages of {0}: start cpd with a larger --tmem")]
    NoRoom(UserId),
}

/// The store, for operators.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// The most memory that pages may take, in frames.
    pub limit: u64,
    /// The memory that pages take, in frames.
    pub used: u64,
    /// The guests.
    pub guests: Vec<GuestView>,
}

/// A guest, for operators.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestView {
    /// Who.
    pub user_id: UserId,
    /// What is set for it.
    pub settings: Settings,
    /// Its pools.
    pub pools: Vec<PoolView>,
    /// Of all its pools since logon.
    pub counts: Counts,
}

/// A pool, for operators.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolView {
    /// Its name.
    pub id: PoolId,
    /// What becomes of its pages.
    pub kind: Kind,
    /// What the guest calls it.
    pub label: String,
    /// The most pages it may hold; `None`: as many as there is room for.
    pub quota: Option<u64>,
    /// How many pages it holds.
    pub pages: u64,
    /// The memory that they take, in frames.
    pub frames: u64,
    /// What has happened to them.
    pub counts: Counts,
}

impl PoolView {
    fn new(id: PoolId, pool: &Pool) -> Self {
        let label = pool.label.iter().take_while(|&&byte| byte != 0);
        Self {
            id,
            kind: pool.kind,
            label: label
                .map(|&byte| {
                    if byte.is_ascii_graphic() {
                        byte.into()
                    } else {
                        '.'
                    }
                })
                .collect(),
            quota: Some(pool.quota).filter(|&quota| quota != u64::MAX),
            pages: pool.len(),
            frames: frames_of_bytes(pool.bytes()),
            counts: pool.counts,
        }
    }
}

impl Store {
    /// All that there is, or what one guest has.
    pub fn list(&self, whose: Option<UserId>) -> Result<Listing, Refusal> {
        let view = |client: &Client| GuestView {
            user_id: client.user,
            settings: client.settings,
            pools: client
                .pools()
                .map(|(id, pool)| PoolView::new(id, pool))
                .collect(),
            counts: client.counts(),
        };
        let guests: Vec<_> = self
            .clients
            .values()
            .filter(|client| is(client, whose))
            .map(view)
            .collect();
        logged_on(whose, !guests.is_empty())?;
        Ok(Listing {
            limit: frames_of_bytes(self.limit),
            used: frames_of_bytes(self.bytes()),
            guests,
        })
    }

    /// Sets something for a guest; or for all, and those who log on later. A lower cap is met by [`Self::trim`].
    pub fn set(&mut self, whose: Option<UserId>, setting: Setting) -> Result<(), Refusal> {
        let mut found = false;
        for client in self.clients.values_mut().filter(|client| is(client, whose)) {
            client.settings.set(setting);
            found = true;
        }
        if whose.is_none() {
            self.defaults.set(setting);
        }
        logged_on(whose, found)
    }

    /// Evicts at most that many pages, of guests that exceed their caps and what exceeds the store; says whether there may
    /// be more to evict.
    pub fn trim(&mut self, pages: u64) -> bool {
        let mut left = pages;
        for client in self.clients.values_mut() {
            while client.exceeds_cap() {
                if left == 0 {
                    return true;
                }
                left -= 1;
                if !client.evict() {
                    break;
                }
            }
        }
        while self.bytes() > self.limit {
            if left == 0 {
                return true;
            }
            left -= 1;
            if !self
                .richest(None)
                .and_then(|id| self.clients.get_mut(&id))
                .is_some_and(Client::evict)
            {
                break;
            }
        }
        false
    }

    /// Empties pools. What they held is to be dropped where nobody waits for it.
    pub fn flush(&mut self, selection: &Selection) -> Result<Vec<Pool>, Refusal> {
        self.take(selection, |client, id| {
            client.pool_mut(id).map(Pool::take_all).ok()
        })
    }

    /// Unmakes pools, which are to be dropped where nobody waits for it.
    pub fn destroy(&mut self, selection: &Selection) -> Result<Vec<Pool>, Refusal> {
        self.take(selection, |client, id| client.destroy(id).ok())
    }

    fn take(
        &mut self,
        selection: &Selection,
        take: impl Fn(&mut Client, PoolId) -> Option<Pool>,
    ) -> Result<Vec<Pool>, Refusal> {
        let &Selection {
            whose,
            pool: which,
            only_ephemeral,
            force,
        } = selection;
        let mut chosen = Vec::new();
        let mut found = false;
        for (&id, client) in self.clients.iter().filter(|(_, client)| is(client, whose)) {
            found = true;
            let user = client.user;
            if let Some(pool) = which
                && client.pools().all(|(id, _)| id != pool)
            {
                return Err(Refusal::NoPool { user, pool });
            }
            for (pool, content) in client.pools() {
                let persistent = content.kind == Kind::Persistent;
                if which.is_some_and(|which| which != pool) || only_ephemeral && persistent {
                    continue;
                }
                if persistent && !content.is_empty() && !force {
                    let pages = content.len();
                    return Err(Refusal::Persistent { user, pool, pages });
                }
                chosen.push((id, pool));
            }
        }
        logged_on(whose, found)?;
        let taken = chosen.into_iter().filter_map(|(id, pool)| {
            let client = self.clients.get_mut(&id)?;
            take(client, pool)
        });
        Ok(taken.collect())
    }
}

fn is(client: &Client, whose: Option<UserId>) -> bool {
    whose.is_none_or(|user| user == client.user)
}

fn logged_on(whose: Option<UserId>, found: bool) -> Result<(), Refusal> {
    match whose {
        Some(user) if !found => Err(Refusal::NotLoggedOn(user)),
        _ => Ok(()),
    }
}
