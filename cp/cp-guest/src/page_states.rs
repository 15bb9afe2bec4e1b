// SPDX-License-Identifier: GPL-2.0

//! The states of a guest's pages, and how the host takes pages.
//!
//! Pages are taken in two steps. [`Pages::want`] looks through the states for pages to take while the guest runs, and
//! so only makes a list. [`Pages::take`] works the list off, a batch at a time, while no CPU executes instructions: it
//! reads each state again, changes it, lets the CPUs forget their translations and only then gives the memory back. A
//! page that was made stable in between is not taken, and one that is taken is not touched unnoticed.

use std::collections::VecDeque;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cp_core::diag::ProgramInterruption;
use cp_core::page_state::{Operation, PAGE_SIZE, PageStates, State, Usage};
use cp_proto::{Resident, Selection, SharedMemory, Taken};
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use crate::host::{Host, NotDiscarded};

/// How many pages of the list one exclusive section deals with: some milliseconds if all are scattered.
const BATCH: usize = 1024;

/// After how many pages that became unused CPUs forget which pages they may access, if unused ones are none of them.
const FORGET: u64 = 64;

/// What the user chose.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// ESSA has code 7: facility 147.
    pub no_dat: bool,
    /// A CPU that touches an unused page gets an addressing exception; without it, a page of zeroes.
    pub unused_exception: bool,
    /// A device that touches an unused or volatile page ends the guest.
    pub oracle: bool,
}

/// When a CPU may access a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// At once.
    Now,
    /// When it is paged in, for which whoever touches it waits.
    Later,
}

/// The pages of a guest.
#[derive(Debug)]
pub struct Pages {
    states: PageStates<SharedMemory>,
    /// The file of the storage, which knows what is resident; without it, all is.
    storage: Option<OwnedFd>,
    options: Options,
    /// Whether there is an ESSA at all.
    assist: AtomicBool,
    /// How many became unused, for [`FORGET`].
    made_unused: AtomicU64,
    wanted: Mutex<VecDeque<Wanted>>,
    /// Held by the one who releases pages.
    releasing: Mutex<()>,
}

/// A list that is worked off.
#[derive(Debug)]
struct Wanted {
    id: u64,
    pages: u64,
    candidates: std::vec::IntoIter<(u64, Usage)>,
    taken: Taken,
}

impl Wanted {
    fn is_done(&self) -> bool {
        self.taken.unused + self.taken.volatile == self.pages || self.candidates.len() == 0
    }
}

impl Pages {
    /// Those of `storage_bytes` bytes of storage in a file, all stable.
    pub fn new(
        storage_bytes: u64,
        storage: Option<OwnedFd>,
        options: Options,
    ) -> Result<Self, Errno> {
        let pages = usize::try_from(storage_bytes / PAGE_SIZE).map_err(|_| Errno::FBIG)?;
        let states = SharedMemory::new("coopmem-page-states", pages)?;
        Ok(Self {
            states: PageStates::with_table(states),
            storage,
            options,
            assist: AtomicBool::new(true),
            made_unused: AtomicU64::new(0),
            wanted: Mutex::default(),
            releasing: Mutex::default(),
        })
    }

    /// Executes ESSA on the page at an absolute address: what was executed, and what it returns.
    ///
    /// Blocks nobody. Only code 0 asks the host, and only of a stable or unused page whether it is resident; the other
    /// codes return such a page as resident.
    pub fn essa(
        &self,
        host: &impl Host,
        address: u64,
        code: u32,
    ) -> Result<(Operation, u64), ProgramInterruption> {
        if !self.assist.load(Ordering::Relaxed) {
            return Err(ProgramInterruption::Operation);
        }
        let operation = Operation::decode(code, self.options.no_dat)?;
        let mut before = self.states.execute(address, operation)?;
        match operation {
            Operation::Get => before = before.with_host(|| self.is_resident(address)),
            Operation::SetStableResident => host.populate(address),
            Operation::SetUnused if self.options.unused_exception => self.forget_some(host),
            _ => {}
        }
        Ok((operation, before.byte().into()))
    }

    /// CPUs ask again, each time that some more pages are unused, whether they may access one: otherwise they know for
    /// long that they might.
    fn forget_some(&self, host: &impl Host) {
        if self.made_unused.fetch_add(1, Ordering::Relaxed) % FORGET == FORGET - 1 {
            host.flush();
        }
    }

    /// Whether ESSA is executed, or an operation exception.
    pub fn set_assist(&self, on: bool) {
        self.assist.store(on, Ordering::Relaxed);
    }

    /// Whether a CPU may access the page at an absolute address. Neither blocks nor locks.
    pub fn access(&self, address: u64) -> Result<Access, ProgramInterruption> {
        match self.states.get(address) {
            Some(state) if state.is_discarded() => Err(ProgramInterruption::BlockVolatility),
            Some(state) if self.options.unused_exception && state.usage() == Usage::Unused => {
                Err(ProgramInterruption::Addressing)
            }
            Some(state) if state.is_preserved() => Ok(Access::Later),
            _ => Ok(Access::Now),
        }
    }

    /// As if `cpd` had paged a page out.
    #[cfg(test)]
    pub fn page_out(&self, address: u64) {
        assert!(self.states.leave(address) && self.states.has_left(address));
    }

    /// As if `cpd` had begun to page a page in.
    #[cfg(test)]
    pub fn begin_page_in(&self, address: u64) {
        assert!(self.states.comes_back(address));
    }

    /// As if `cpd` had paged it in.
    #[cfg(test)]
    pub fn end_page_in(&self, address: u64) {
        self.states.is_back(address);
    }

    /// If the oracle is asked for: the first page among those of `length` bytes at an absolute address that no device
    /// may touch, since the guest does not need its content. Neither blocks nor locks.
    pub fn forbidden(&self, address: u64, length: u64) -> Option<(u64, State)> {
        let first = address & !(PAGE_SIZE - 1);
        let end = address.saturating_add(length);
        (first..end)
            .step_by(PAGE_SIZE as usize)
            .take_while(|_| self.options.oracle)
            .map_while(|page| Some((page, self.states.get(page)?)))
            .find(|(_, state)| matches!(state.usage(), Usage::Unused | Usage::Volatile))
    }

    /// The guest gives up what is in whole pages: their memory goes back to the host, and what the host has paged out of
    /// them is worth nothing.
    ///
    /// Waits for others who do the same, and for pages on their way in, so for nobody who needs an exclusive section or a
    /// lock of the machine: `cpd` does not wait for guests.
    pub fn release(&self, host: &impl Host, address: u64, bytes: u64) -> Result<(), NotDiscarded> {
        let _alone = self
            .releasing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.states.release(
            address..address + bytes,
            |page| host.populate(page),
            || host.discard(address, bytes),
        )
    }

    /// The guest was reset: all pages are stable.
    pub fn reset(&self) {
        self.states.reset();
    }

    /// Makes the list of pages that the host wants. [`Self::take`] must be called soon.
    pub fn want(&self, id: u64, selection: &Selection) {
        let candidates = self.select(selection);
        self.wanted().push_back(Wanted {
            id,
            pages: selection.pages,
            candidates: candidates.into_iter(),
            taken: Taken::default(),
        });
    }

    /// Takes a batch of the pages that the host wants. If that were the last of a list, tells which and how many.
    ///
    /// No CPU may execute instructions.
    pub fn take(&self, host: &impl Host) -> Option<(u64, Taken)> {
        let mut wanted = self.wanted();
        let first = wanted.front_mut()?;
        self.take_batch(host, first);
        if !first.is_done() {
            return None;
        }
        wanted.pop_front().map(|done| (done.id, done.taken))
    }

    /// Whether [`Self::take`] must be called again.
    pub fn is_wanted(&self) -> bool {
        !self.wanted().is_empty()
    }

    fn wanted(&self) -> MutexGuard<'_, VecDeque<Wanted>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_batch(&self, host: &impl Host, wanted: &mut Wanted) {
        let mut ranges: Vec<(Range<u64>, Usage)> = Vec::new();
        let mut left = wanted.pages - wanted.taken.unused - wanted.taken.volatile;
        for (address, usage) in wanted.candidates.by_ref().take(BATCH) {
            if left == 0 {
                break;
            }
            if host.pinned(address) || !self.states.take(address, usage) {
                continue;
            }
            match ranges.last_mut() {
                Some((range, last)) if range.end == address && *last == usage => {
                    range.end += PAGE_SIZE;
                }
                _ => ranges.push((address..address + PAGE_SIZE, usage)),
            }
            left -= 1;
        }
        if ranges.is_empty() {
            return;
        }
        host.flush();
        for (range, usage) in ranges {
            let bytes = range.end - range.start;
            if host.discard(range.start, bytes).is_err() {
                // The host keeps its frames; asking for more of them is of no use.
                wanted.candidates = Vec::new().into_iter();
                return;
            }
            let taken = match usage {
                Usage::Unused => &mut wanted.taken.unused,
                _ => &mut wanted.taken.volatile,
            };
            *taken += bytes / PAGE_SIZE;
        }
    }

    /// The pages that may be taken, in the order in which to try them; more than asked for, since some may not be
    /// there any more when it comes to it.
    fn select(&self, selection: &Selection) -> Vec<(u64, Usage)> {
        let (mut unused, mut volatile) = (Vec::new(), Vec::new());
        let mut resident = self
            .storage
            .as_ref()
            .map(|file| Resident::new(file.as_fd()));
        let mut resident = |address| match &mut resident {
            Some(resident) => resident.contains(address),
            None => true,
        };
        let wants = |usage| selection.only.is_none_or(|only| only == usage);
        for address in (0..self.states.table().len() as u64).map(|page| page * PAGE_SIZE) {
            let state = self.states.get(address).unwrap_or_default();
            match state.usage() {
                usage if !wants(usage) || state.taken().is_none() => {}
                Usage::Unused if resident(address) => unused.push(address),
                Usage::Volatile => volatile.push(address),
                _ => {}
            }
        }
        let share = volatile.len() * usize::from(selection.volatile_share.min(Selection::ALL));
        if let Some(seed) = selection.random {
            let mut random = fastrand::Rng::with_seed(seed);
            random.shuffle(&mut unused);
            random.shuffle(&mut volatile);
        }
        volatile.truncate(share.div_ceil(usize::from(Selection::ALL)));
        let each = |pages: Vec<u64>, usage| pages.into_iter().map(move |address| (address, usage));
        each(unused, Usage::Unused)
            .chain(each(volatile, Usage::Volatile))
            .collect()
    }

    fn is_resident(&self, address: u64) -> bool {
        self.storage
            .as_ref()
            .is_none_or(|file| seek(file, SeekFrom::Data(address)) == Ok(address))
    }
}

impl AsFd for Pages {
    /// The memfd of the states.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.states.table().as_fd()
    }
}
