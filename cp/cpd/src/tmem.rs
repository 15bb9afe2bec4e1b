// SPDX-License-Identifier: GPL-2.0

//! Transcendent memory: one store for all guests.
//!
//! It has a lock of its own, so that nobody but its users waits while pages are copied and compressed.

use std::fs::File;
use std::io::{self, Write};
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use cp_core::UserId;
use cp_core::diag::ProgramInterruption;
use cp_core::tmem::{
    Block, ClientId, Damage, Epoch, Frames, Function, OutsideStorage, Pool, Refusal, SaveId, Saved,
    Saver, Storage, Store,
};
use cp_proto::{Pools, Reply, Tmem};
use rustix::rand::{GetRandomFlags, getrandom};
use tempfile::NamedTempFile;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::ram::{self, GuestRam};

/// How many pages are evicted before others get their turn.
const TRIM_PAGES: u64 = 1024;

/// The store.
#[derive(Debug)]
pub struct TmemStore {
    store: Mutex<Store>,
    /// The frames that it takes, and those of them that can be had again, for who must not wait for the lock.
    frames: AtomicU64,
    ephemeral: AtomicU64,
    epochs: AtomicU64,
}

/// The store, whose size is known when it is let go.
struct Locked<'a> {
    store: MutexGuard<'a, Store>,
    owner: &'a TmemStore,
}

impl Deref for Locked<'_> {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Store {
        &mut self.store
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let (frames, ephemeral) = (self.store.frames(), self.store.ephemeral_frames());
        self.owner.frames.store(frames, Ordering::Relaxed);
        self.owner.ephemeral.store(ephemeral, Ordering::Relaxed);
    }
}

/// Why pools are not saved or restored.
#[derive(Debug, Error)]
pub enum FileError {
    #[error("cannot write {0}: {1}")]
    Write(String, io::Error),
    #[error("cannot open {0}: {1}")]
    Open(String, io::Error),
    #[error("{0} is not taken: {1}")]
    Damage(String, Damage),
    #[error("{0} is not taken: {1}")]
    Refused(String, Refusal),
    #[error("the guest is not logged on any more")]
    Gone,
}

impl TmemStore {
    /// A store whose pages may take that many frames. Its epochs begin at random: none is one of an earlier `cpd`.
    pub fn new(frames: u64) -> rustix::io::Result<Self> {
        Ok(Self {
            store: Mutex::new(Store::new(frames)),
            frames: AtomicU64::new(0),
            ephemeral: AtomicU64::new(0),
            epochs: AtomicU64::new(random()?),
        })
    }

    /// A thread that panicked is a bug, but no reason to lose what guests have stored.
    fn lock(&self) -> Locked<'_> {
        Locked {
            store: self.store.lock().unwrap_or_else(PoisonError::into_inner),
            owner: self,
        }
    }

    /// The frames that it takes. Waits for nobody.
    pub fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    /// The frames of ephemeral pages. Waits for nobody.
    pub fn ephemeral_frames(&self) -> u64 {
        self.ephemeral.load(Ordering::Relaxed)
    }

    /// Evicts ephemeral pages until that many frames are free; tells how many are.
    pub fn evict(&self, frames: u64) -> u64 {
        let mut all = 0;
        while all < frames {
            match self.lock().evict((frames - all).min(TRIM_PAGES)) {
                0 => break,
                freed => all += freed,
            }
        }
        all
    }

    fn next_epoch(&self) -> Epoch {
        Epoch(self.epochs.fetch_add(1, Ordering::Relaxed))
    }

    /// A guest is logged on. One that has been saved lives on.
    pub fn log_on(&self, user: UserId, saved: Option<SaveId>) -> ClientId {
        let epoch = saved.map_or_else(|| self.next_epoch(), |save| save.epoch);
        let mut store = self.lock();
        let client = store.log_on(user, epoch);
        if let Some(save) = saved {
            store.set_saved(client, save);
        }
        client
    }

    /// Whether a guest is as it was saved.
    pub fn is_saved(&self, client: ClientId) -> bool {
        self.lock().is_saved(client)
    }

    /// Writes the pools of a guest that does not run to a file, which is replaced when all is on disk. Gives what is
    /// saved, and how many pages are in it.
    pub fn save(&self, client: ClientId, path: &Path) -> Result<(SaveId, u64), FileError> {
        let failed = |error| FileError::Write(path.display().to_string(), error);
        let number = random().map_err(|errno| failed(errno.into()))?;
        let mut saver = self.lock().save(client, number).ok_or(FileError::Gone)?;
        let folder = path.parent().unwrap_or(path);
        let mut file = NamedTempFile::new_in(folder).map_err(failed)?;
        let mut turn = Zeroizing::new(Vec::with_capacity(Saver::TURN_BYTES));
        let mut more = true;
        while more {
            turn.clear();
            more = saver
                .write(&self.lock(), &mut turn)
                .ok_or(FileError::Gone)?;
            file.write_all(&turn).map_err(failed)?;
        }
        file.as_file().sync_all().map_err(failed)?;
        file.persist(path).map_err(|error| failed(error.error))?;
        // The name as well.
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(failed)?;
        self.lock().set_saved(client, saver.id());
        Ok((saver.id(), saver.pages()))
    }

    /// Gives a guest the pools of a file.
    pub fn restore(&self, client: ClientId, path: &Path) -> Result<Reply, FileError> {
        let name = || path.display().to_string();
        let file = File::open(path).map_err(|error| FileError::Open(name(), error))?;
        let saved = Saved::read(file).map_err(|damage| FileError::Damage(name(), damage))?;
        let restored = self.lock().restore(client, saved);
        let restored = restored.map_err(|refusal| FileError::Refused(name(), refusal))?;
        scrub(restored.gone);
        self.trim();
        Ok(Reply::Restored {
            pages: restored.pages,
            dropped: restored.dropped,
        })
    }

    fn trim(&self) {
        while self.lock().trim(TRIM_PAGES) {}
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
                self.trim();
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

fn random() -> rustix::io::Result<u64> {
    let mut bytes = [0; 8];
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(u64::from_ne_bytes(bytes))
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
