// SPDX-License-Identifier: GPL-2.0

//! Transcendent memory: one store for all guests.
//!
//! It has a lock of its own, so that nobody but its users waits while pages are copied and compressed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use cp_core::UserId;
use cp_core::diag::ProgramInterruption;
use cp_core::tmem::{
    Block, ClientId, Epoch, Frames, Function, OutsideStorage, Pool, Refusal, Storage, Store,
};
use cp_proto::{Pools, Reply, Tmem};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::ram::{self, GuestRam};

/// How many pages are evicted before others get their turn.
const TRIM_PAGES: u64 = 1024;

/// The store.
#[derive(Debug)]
pub struct TmemStore {
    store: Mutex<Store>,
    epochs: AtomicU64,
}

impl TmemStore {
    /// A store whose pages may take that many frames. Its epochs begin at random: none is one of an earlier `cpd`.
    pub fn new(frames: u64) -> rustix::io::Result<Self> {
        let mut seed = [0; 8];
        getrandom(&mut seed, GetRandomFlags::empty())?;
        Ok(Self {
            store: Mutex::new(Store::new(frames)),
            epochs: AtomicU64::new(u64::from_ne_bytes(seed)),
        })
    }

    /// A thread that panicked is a bug, but no reason to lose what guests have stored.
    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_epoch(&self) -> Epoch {
        Epoch(self.epochs.fetch_add(1, Ordering::Relaxed))
    }

    /// A guest is logged on.
    pub fn log_on(&self, user: UserId) -> ClientId {
        self.lock().log_on(user, self.next_epoch())
    }

    /// A guest is logged off.
    pub fn log_off(&self, client: ClientId) {
        let gone = self.lock().log_off(client);
        scrub(gone);
    }

    /// A guest was reset.
    pub fn reset(&self, client: ClientId) {
        let gone = self.lock().reset(client, self.next_epoch());
        scrub(gone);
    }

    /// DIAGNOSE X'1F4' of a guest. `None` if it is not logged on any more, or the block is none.
    pub fn call(
        &self,
        client: ClientId,
        function: Function,
        block: &[u8],
        ram: &GuestRam,
    ) -> Option<Reply> {
        let mut block = Block::new(block)?;
        let answer = self.lock().execute(client, function, &mut block, ram)?;
        scrub(answer.gone);
        Some(Reply::Tmem(Tmem {
            rc: answer.rc,
            block: block.as_bytes().into(),
            stored: answer.stored,
        }))
    }

    /// What an operator asks for.
    pub fn control(&self, request: Pools) -> Result<Reply, Refusal> {
        let dropped = |pools: Vec<Pool>| {
            let pages = pools.iter().map(Pool::len).sum();
            scrub(pools);
            Reply::Dropped { pages }
        };
        Ok(match request {
            Pools::List(whose) => Reply::Pools(self.lock().list(whose)?),
            Pools::Set(whose, setting) => {
                self.lock().set(whose, setting)?;
                while self.lock().trim(TRIM_PAGES) {}
                Reply::Done
            }
            Pools::Flush(selection) => {
                let pools = self.lock().flush(&selection)?;
                dropped(pools)
            }
            Pools::Destroy(selection) => {
                let pools = self.lock().destroy(&selection)?;
                dropped(pools)
            }
        })
    }
}

/// What the guest finds if there is no transcendent memory: nothing, as for each unknown code.
pub fn absent() -> Reply {
    Reply::Program {
        code: ProgramInterruption::Specification.code(),
    }
}

/// Drops pools, whose content is zeroed then, in a thread that nobody waits for; here and now if there is none.
fn scrub(gone: impl IntoIterator<Item = Pool>) {
    let gone: Vec<_> = gone.into_iter().filter(|pool| !pool.is_empty()).collect();
    if !gone.is_empty() {
        // A thread that cannot be made drops its closure, and so the pools.
        let _ = thread::Builder::new().spawn(move || drop(gone));
    }
}

impl From<ram::OutOfRange> for OutsideStorage {
    fn from(_: ram::OutOfRange) -> Self {
        Self
    }
}

impl Storage for GuestRam {
    fn check(&self, frames: Frames) -> Result<(), OutsideStorage> {
        Ok(self.check(frames.address(), frames.bytes() as u64)?)
    }

    fn read(&self, frames: Frames, bytes: &mut [u8]) -> Result<(), OutsideStorage> {
        Ok(self.read(frames.address(), bytes)?)
    }

    fn write(&self, frames: Frames, bytes: &[u8]) -> Result<(), OutsideStorage> {
        Ok(self.write(frames.address(), bytes)?)
    }
}
