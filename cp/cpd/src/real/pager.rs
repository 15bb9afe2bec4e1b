// SPDX-License-Identifier: GPL-2.0

//! The pager of one guest.
//!
//! A page leaves like this, with all others of its batch; until 6, nothing is lost if it stays after all:
//!
//! 1. Its state says that it is leaving. If the guest says anything of it from now on, or gives it up, it stays.
//! 2. It is write-protected: a store that comes from now on waits.
//! 3. It is copied, and the copy is written to the paging volume.
//! 4. Faults that have come are looked at: a page that somebody waits for stays.
//! 5. Its state says that it is preserved, unless it stays.
//! 6. Its frame is given back. Whoever waits for it, or touches it now, has it brought back.
//!
//! And like this it comes back, with others that left with it:
//!
//! 1. Its state says that it is coming back, if it is preserved still; else it is a page of zeroes. From now on whoever
//!    releases it waits until it is there. Without that, its content would arrive after its memory has been given back.
//!    To give the memory back once more would not do: what has been stored since then would be lost.
//! 2. Its content is read, and put into a frame: whoever waits goes on.
//! 3. Its state says that it is back.
//!
//! A page on the aging list may be written before that, and stays: neither its state nor its mapping changes, and what is
//! used of it is not waited for. Nothing relies on what was written then: when the page leaves, its copy is compared with
//! it, and written if that is not the same.
//!
//! One lock covers each batch and each page that comes back: a page is never on its way in both directions.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::c_void;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cp_core::UserId;
use cp_core::page_state::{PAGE_SIZE, PageStates, Usage};
use cp_core::paging::{AGES, AgeList, BLOCK_SLOTS, ByAge, PageMap, Place, Slot};
use cp_proto::{Resident, SharedMemory};
use procfs::process::{MemoryPageFlags, PageInfo, Process};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::{Errno, read, retry_on_intr, write};
use thiserror::Error;
use userfaultfd::{Event, EventBuffer, FaultKind, Uffd};

use crate::ram::resident_pages;

use super::volume::{GuestNumber, Leaving, Page, PagingVolume, VolumeError};

/// How many pages leave in one batch: whoever faults meanwhile waits for it.
const BATCH: usize = 4 * BLOCK_SLOTS;

/// How many faults are read at once.
const FAULTS: usize = 64;

/// Why a guest cannot be paged any longer.
#[derive(Debug, Error)]
pub enum PagerError {
    #[error(transparent)]
    Volume(#[from] VolumeError),
    #[error("its userfaultfd fails: {0}")]
    Userfaultfd(#[from] userfaultfd::Error),
    #[error("its storage cannot be read or given back: {0}")]
    Storage(Errno),
}

#[derive(Debug, Default)]
struct Counts {
    page_ins: AtomicU64,
    pages_in: AtomicU64,
    pages_out: AtomicU64,
    stayed: AtomicU64,
    written: AtomicU64,
    written_early: AtomicU64,
}

/// What has been paged of a guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Pages that are only on the paging volume.
    pub preserved: u64,
    /// Times that pages were read for it.
    pub page_ins: u64,
    /// Pages that came back.
    pub pages_in: u64,
    /// Pages that left.
    pub pages_out: u64,
    /// Pages that stayed, since somebody used them while they were leaving.
    pub stayed: u64,
    /// Pages that were written.
    pub written: u64,
    /// Those of them that were on the aging list, and stayed.
    pub written_early: u64,
}

/// How many pages may leave, and how many are there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Census {
    /// Stable ones that are resident, by age.
    pub stable: ByAge,
    /// Unused ones that are resident.
    pub unused: u64,
    /// Volatile ones that are resident.
    pub volatile: u64,
}

/// Somebody waits for a page.
#[derive(Clone, Copy, Debug)]
struct Fault {
    page: usize,
    kind: FaultKind,
}

#[derive(Debug)]
struct State {
    map: PageMap,
    /// Faults that have been read, and are served next.
    faults: VecDeque<Fault>,
    /// Faults that are served when the paging volume would have answered.
    delayed: VecDeque<(Instant, Fault)>,
}

/// The pager.
#[derive(Debug)]
pub struct Pager {
    pub user: UserId,
    number: GuestNumber,
    uffd: Uffd,
    /// Where the storage is in the guest's process.
    address: u64,
    memfd: File,
    states: PageStates<SharedMemory>,
    process: Process,
    volume: Arc<PagingVolume>,
    age_list: Arc<AgeList>,
    /// How long a page-in takes at least.
    latency: Duration,
    state: Mutex<State>,
    /// An eventfd: faults have been read by somebody who does not serve them.
    nudged: OwnedFd,
    counts: Counts,
}

/// What a [`Pager`] is made from.
#[derive(Debug)]
pub struct Guest {
    pub user: UserId,
    pub number: GuestNumber,
    pub uffd: Uffd,
    pub address: u64,
    pub memfd: File,
    pub states: PageStates<SharedMemory>,
    pub process: Process,
}

/// No page leaves while it lives.
#[must_use]
pub struct Held<'a>(#[expect(dead_code, reason = "is only held")] MutexGuard<'a, State>);

impl Pager {
    /// For a guest none of whose pages has left its frame.
    pub fn new(
        guest: Guest,
        volume: Arc<PagingVolume>,
        age_list: Arc<AgeList>,
        latency: Duration,
    ) -> Result<Self, Errno> {
        let pages = guest.states.table().len();
        Ok(Self {
            user: guest.user,
            number: guest.number,
            uffd: guest.uffd,
            address: guest.address,
            memfd: guest.memfd,
            states: guest.states,
            process: guest.process,
            volume,
            age_list,
            latency,
            state: Mutex::new(State {
                map: PageMap::new(pages),
                faults: VecDeque::new(),
                delayed: VecDeque::new(),
            }),
            nudged: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            counts: Counts::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many pages are in frames.
    pub fn resident(&self) -> u64 {
        resident_pages(&self.memfd)
    }

    /// What it has done so far.
    pub fn view(&self) -> View {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        View {
            preserved: self.lock().map.out(),
            page_ins: count(&self.counts.page_ins),
            pages_in: count(&self.counts.pages_in),
            pages_out: count(&self.counts.pages_out),
            stayed: count(&self.counts.stayed),
            written: count(&self.counts.written),
            written_early: count(&self.counts.written_early),
        }
    }

    /// Waits for faults until `end` says that the guest's process is gone, and serves them.
    ///
    /// `make_room` is called before pages come into frames. An error is the end of the guest: it waits for ever for a
    /// page, so its process must be ended.
    pub fn run(
        &self,
        end: &OwnedFd,
        make_room: impl Fn() -> Result<(), PagerError>,
    ) -> Result<(), PagerError> {
        loop {
            let due = self.lock().delayed.front().map(|&(due, _)| due);
            let limit = due
                .map(|due| due.saturating_duration_since(Instant::now()))
                .map(|wait| Timespec {
                    tv_sec: wait.as_secs() as i64,
                    tv_nsec: wait.subsec_nanos().into(),
                });
            let mut fds = [
                PollFd::new(&self.uffd, PollFlags::IN),
                PollFd::new(end, PollFlags::IN),
                PollFd::new(&self.nudged, PollFlags::IN),
            ];
            retry_on_intr(|| poll(&mut fds, limit.as_ref())).map_err(PagerError::Storage)?;
            if !fds[1].revents().is_empty() {
                return Ok(());
            }
            // Before the faults are looked at; fails if nobody has nudged.
            let _ = read(&self.nudged, &mut [0; 8]);
            make_room()?;
            let mut state = self.lock();
            self.read_faults(&mut state)?;
            self.serve(&mut state)?;
        }
    }

    /// Has [`Self::run`] look for faults that have been read.
    fn nudge(&self) {
        // Fails only if it has been nudged all too often.
        let _ = write(&self.nudged, &1_u64.to_ne_bytes());
    }

    fn read_faults(&self, state: &mut State) -> Result<(), PagerError> {
        let mut buffer = EventBuffer::new(FAULTS);
        loop {
            let mut none = true;
            for event in self.uffd.read_events(&mut buffer)? {
                none = false;
                if let Event::Pagefault { kind, addr, .. } = event?
                    && let Some(offset) = (addr as u64).checked_sub(self.address)
                    && offset / PAGE_SIZE < state.map.pages() as u64
                {
                    let page = (offset / PAGE_SIZE) as usize;
                    state.faults.push_back(Fault { page, kind });
                }
            }
            if none {
                return Ok(());
            }
        }
    }

    /// Serves all faults that have been read and are due.
    fn serve(&self, state: &mut State) -> Result<(), PagerError> {
        let now = Instant::now();
        while let Some(fault) = state.faults.pop_front() {
            if self.latency.is_zero() || !self.must_be_read(&state.map, fault.page) {
                self.serve_one(state, fault)?;
            } else {
                state.delayed.push_back((now + self.latency, fault));
            }
        }
        while let Some(&(due, fault)) = state.delayed.front()
            && due <= now
        {
            state.delayed.pop_front();
            self.serve_one(state, fault)?;
        }
        Ok(())
    }

    fn must_be_read(&self, map: &PageMap, page: usize) -> bool {
        matches!(map.place(page), Place::Out(_)) && self.is_preserved(page)
    }

    fn serve_one(&self, state: &mut State, fault: Fault) -> Result<(), PagerError> {
        match (state.map.place(fault.page), fault.kind) {
            (Place::Out(slot), _) => self.come_back(&mut state.map, fault.page, slot),
            (_, FaultKind::Missing) => self.zero(fault.page),
            (..) => self.allow_stores(&[fault.page]),
        }
    }

    fn is_preserved(&self, page: usize) -> bool {
        self.states
            .get(address(page))
            .is_some_and(|state| state.is_preserved())
    }

    fn host(&self, page: usize) -> *mut c_void {
        (self.address + address(page)) as *mut c_void
    }

    /// Stores to pages that follow each other wait from now on.
    fn refuse_stores(&self, run: &[usize]) -> Result<(), PagerError> {
        let bytes = run.len() * PAGE_SIZE as usize;
        unless_gone(self.uffd.write_protect(self.host(run[0]), bytes))
    }

    /// Stores to pages that follow each other do not wait any longer.
    fn allow_stores(&self, run: &[usize]) -> Result<(), PagerError> {
        let bytes = run.len() * PAGE_SIZE as usize;
        unless_gone(
            self.uffd
                .remove_write_protection(self.host(run[0]), bytes, true),
        )
    }

    /// Gives a page that is nowhere a frame of zeroes, and wakes who waits for it.
    fn zero(&self, page: usize) -> Result<(), PagerError> {
        self.install(page, || {
            // SAFETY: The page is in the guest's process; there is nothing of this process.
            unsafe {
                self.uffd
                    .zeropage(self.host(page), PAGE_SIZE as usize, true)
            }
        })
    }

    /// Fills a page that is nowhere, and wakes who waits for it.
    fn fill(&self, page: usize, content: &Page) -> Result<(), PagerError> {
        self.install(page, || {
            // SAFETY: `content` is a page; the rest is in the guest's process.
            unsafe {
                self.uffd.copy(
                    content.as_ptr().cast(),
                    self.host(page),
                    PAGE_SIZE as usize,
                    true,
                )
            }
        })
    }

    /// Has a page put where it is missing. What fails since the page is there already is as good as done; a process
    /// that ends needs nothing.
    fn install(
        &self,
        page: usize,
        put: impl Fn() -> userfaultfd::Result<usize>,
    ) -> Result<(), PagerError> {
        use userfaultfd::Error::{CopyFailed, PartiallyCopied, ZeropageFailed};
        loop {
            let errno = match put() {
                Ok(_) => return Ok(()),
                Err(PartiallyCopied(_)) => Errno::AGAIN,
                Err(CopyFailed(errno) | ZeropageFailed(errno)) => {
                    Errno::from_raw_os_error(errno as i32)
                }
                Err(error) => return Err(error.into()),
            };
            match errno {
                // The page table has just been taken away, by a sweep.
                Errno::AGAIN => {}
                Errno::EXIST => {
                    return Ok(self.uffd.wake(self.host(page), PAGE_SIZE as usize)?);
                }
                Errno::SRCH => return Ok(()),
                errno => return Err(PagerError::Storage(errno)),
            }
        }
    }

    /// Has a page that is out in a frame again, and wakes who waits for it.
    fn come_back(&self, map: &mut PageMap, page: usize, slot: Slot) -> Result<(), PagerError> {
        if self.states.comes_back(address(page)) {
            self.bring_back(map, page, slot)
        } else {
            // The guest has given it up since it left.
            self.volume.release([slot]);
            map.put(page, Place::Frame);
            self.zero(page)
        }
    }

    /// Brings back a page that is coming back, and all others of the guest that left in the same block.
    fn bring_back(&self, map: &mut PageMap, page: usize, slot: Slot) -> Result<(), PagerError> {
        self.counts.page_ins.fetch_add(1, Ordering::Relaxed);
        let mut filled = Ok(());
        let (mut coming, mut came) = (vec![page], Vec::new());
        let read = self.volume.read_block(
            self.number,
            slot,
            |other, slot| {
                if other == page {
                    return true;
                }
                let comes =
                    map.place(other) == Place::Out(slot) && self.states.comes_back(address(other));
                if comes {
                    coming.push(other);
                }
                comes
            },
            |page, slot, content| {
                if filled.is_ok() {
                    filled = self.fill(page, content);
                }
                if filled.is_ok() {
                    came.push((page, slot));
                }
            },
        );
        self.counts
            .pages_in
            .fetch_add(came.len() as u64, Ordering::Relaxed);
        let keep_slot = self.age_list.keep_slot();
        for &(page, slot) in &came {
            map.put(
                page,
                if keep_slot {
                    Place::Kept(slot)
                } else {
                    Place::Frame
                },
            );
            self.states.is_back(address(page));
        }
        if !keep_slot {
            self.volume.release(came.into_iter().map(|(_, slot)| slot));
        }
        // Those that have not come, since something has failed.
        for page in coming {
            self.states.stays_out(address(page));
        }
        read?;
        filled
    }

    /// Holds the pages of a range in their frames, having brought them back.
    pub fn hold(&self, start: u64, bytes: u64) -> Result<Held<'_>, PagerError> {
        let mut state = self.lock();
        for page in pages(start, bytes) {
            if let Place::Out(slot) = state.map.place(page) {
                self.come_back(&mut state.map, page, slot)?;
            }
        }
        Ok(Held(state))
    }

    /// What is resident, and how old it is.
    pub fn census(&self) -> Census {
        let state = self.lock();
        let mut resident = Resident::new(self.memfd.as_fd());
        let mut census = Census::default();
        for page in 0..state.map.pages() {
            if !resident.contains(address(page)) {
                continue;
            }
            match self.states.get(address(page)).map(|state| state.usage()) {
                Some(Usage::Unused) => census.unused += 1,
                Some(Usage::Volatile) => census.volatile += 1,
                _ => census.stable[age(&state.map, page)] += 1,
            }
        }
        census
    }

    /// Notes which pages were used since the last time; afterwards the guest's process must forget it.
    pub fn sweep(&self) {
        let first = (self.address / PAGE_SIZE) as usize;
        let mut state = self.lock();
        let pages = state.map.pages();
        let Ok(used) = self
            .process
            .pagemap()
            .and_then(|mut map| map.get_range_info(first..first + pages))
        else {
            // It ends.
            return;
        };
        let keep_slot = self.age_list.keep_slot();
        for (page, used) in used.into_iter().enumerate() {
            let used = matches!(used, PageInfo::MemoryPage(flags) if flags.contains(MemoryPageFlags::PRESENT));
            if used
                && !keep_slot
                && let Place::Kept(slot) = state.map.place(page)
            {
                self.volume.release([slot]);
                state.map.put(page, Place::Frame);
            }
            state.map.grow_older(page, used);
        }
    }

    /// Writes pages that will be the next to leave, as many of each age, unless they have been written and not been used
    /// since. Not if slots are few: they are for those that must leave.
    pub fn write_early(&self, mut quota: ByAge) -> Result<(), PagerError> {
        let mut round = self.lock().map.round();
        let is_stable = |page| {
            let state = self.states.get(address(page));
            state.is_some_and(|state| state.usage() == Usage::Stable)
        };
        while quota.iter().any(|&pages| pages > 0) && self.volume.has_room(BATCH) {
            let mut state = self.lock();
            let mut batch = self.next_batch(&state.map, &mut round, &mut quota, is_stable);
            if batch.is_empty() {
                break;
            }
            batch.retain(|&page| !state.map.is_written(page));
            batch.sort_unstable();
            let contents = self.copy(&batch)?;
            let written = self.write(&mut state.map, &batch, &contents)?;
            self.counts
                .written_early
                .fetch_add(written, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Lets pages leave, as many of each age; tells how many have.
    pub fn evict(&self, mut quota: ByAge) -> Result<u64, PagerError> {
        let mut left = 0;
        let mut round = self.lock().map.round();
        while quota.iter().any(|&pages| pages > 0) {
            let mut state = self.lock();
            let leaves = |page| self.states.leave(address(page));
            let batch = self.next_batch(&state.map, &mut round, &mut quota, leaves);
            if let Some(&last) = batch.last() {
                state.map.end_round(last);
                let evicted = self.evict_batch(&mut state, batch);
                // Faults that came meanwhile have been read here, but are served there, at their time.
                if !state.faults.is_empty() {
                    self.nudge();
                }
                left += evicted?;
            } else {
                break;
            }
        }
        Ok(left)
    }

    /// The next resident pages that `may` leave.
    fn next_batch(
        &self,
        map: &PageMap,
        round: &mut impl Iterator<Item = usize>,
        quota: &mut ByAge,
        may: impl Fn(usize) -> bool,
    ) -> Vec<usize> {
        let mut resident = Resident::new(self.memfd.as_fd());
        let mut last = 0;
        round
            .filter(|&page| {
                if page < last {
                    resident = Resident::new(self.memfd.as_fd());
                }
                last = page;
                let left = &mut quota[age(map, page)];
                let found = *left > 0 && resident.contains(address(page)) && may(page);
                *left -= u64::from(found);
                found
            })
            .take(BATCH)
            .collect()
    }

    fn evict_batch(&self, state: &mut State, mut batch: Vec<usize>) -> Result<u64, PagerError> {
        batch.sort_unstable();
        for run in runs(&batch) {
            self.refuse_stores(run)?;
        }
        let written = self
            .copy(&batch)
            .and_then(|contents| self.write(&mut state.map, &batch, &contents));
        // Also if that has failed: whoever waits for one of them must be let go.
        self.read_faults(state)?;
        let wanted: BTreeSet<_> = state.faults.iter().map(|fault| fault.page).collect();
        let may_leave = |page| written.is_ok() && !wanted.contains(&page);
        let (left, slots): (Vec<_>, Vec<_>) = batch
            .iter()
            .map(|&page| (page, state.map.place(page).slot()))
            .filter(|&(page, slot)| may_leave(page) && self.has_left(page, slot))
            .unzip();
        for run in runs(&left) {
            let punched = fallocate(
                &self.memfd,
                FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
                address(run[0]),
                address(run.len()),
            );
            punched.map_err(PagerError::Storage)?;
        }
        for (&page, slot) in left.iter().zip(slots) {
            state.map.put(page, slot.map_or(Place::Frame, Place::Out));
        }
        let stayed: Vec<_> = batch
            .into_iter()
            .filter(|page| left.binary_search(page).is_err())
            .collect();
        for run in runs(&stayed) {
            for &page in run {
                self.states.stays(address(page));
                if written.is_ok() {
                    state.map.grow_older(page, true);
                }
            }
            self.allow_stores(run)?;
        }
        self.counts
            .pages_out
            .fetch_add(left.len() as u64, Ordering::Relaxed);
        self.counts
            .stayed
            .fetch_add(stayed.len() as u64, Ordering::Relaxed);
        written?;
        Ok(left.len() as u64)
    }

    /// Whether a page that was leaving has left. One of zeroes is not preserved anywhere: it is simply no more.
    fn has_left(&self, page: usize, slot: Option<Slot>) -> bool {
        match slot {
            Some(_) => self.states.has_left(address(page)),
            None => self.states.stays(address(page)),
        }
    }

    fn copy(&self, batch: &[usize]) -> Result<Vec<Page>, PagerError> {
        let mut contents = vec![[0; PAGE_SIZE as usize]; batch.len()];
        let mut rest = &mut contents[..];
        for run in runs(batch) {
            let (these, others) = rest.split_at_mut(run.len());
            let read = self
                .memfd
                .read_exact_at(these.as_flattened_mut(), address(run[0]));
            // The file has shrunk, if no system call has failed.
            read.map_err(|error| {
                PagerError::Storage(Errno::from_io_error(&error).unwrap_or(Errno::NXIO))
            })?;
            rest = others;
        }
        Ok(contents)
    }

    /// Writes pages to the paging volume; those of zeroes need no slot. Gives how many had changed since they were.
    fn write(
        &self,
        map: &mut PageMap,
        batch: &[usize],
        contents: &[Page],
    ) -> Result<u64, PagerError> {
        let mut changed = 0;
        for (pages, contents) in batch.chunks(BLOCK_SLOTS).zip(contents.chunks(BLOCK_SLOTS)) {
            let (mut leaving, mut zero) = (Vec::new(), Vec::new());
            for (&page, content) in pages.iter().zip(contents) {
                let slot = map.place(page).slot();
                if content.iter().all(|&byte| byte == 0) {
                    zero.extend(slot);
                    map.note_written(page, None);
                } else {
                    leaving.push(Leaving {
                        page,
                        slot,
                        content,
                    });
                }
            }
            self.volume.release(zero);
            let written = self.volume.write(self.number, &leaving)?;
            for (page, slot) in leaving.iter().zip(written.slots) {
                map.note_written(page.page, Some(slot));
            }
            changed += written.changed;
        }
        self.counts.written.fetch_add(changed, Ordering::Relaxed);
        Ok(changed)
    }

    /// Gives up the slots of pages whose content the guest has given up: they are zero, but nobody has looked.
    pub fn give_up_lost(&self) {
        let mut state = self.lock();
        for page in 0..state.map.pages() {
            if let Place::Out(slot) = state.map.place(page)
                && !self.is_preserved(page)
            {
                self.volume.release([slot]);
                state.map.put(page, Place::Frame);
            }
        }
    }

    /// Gives up the slots of pages that are in frames as well.
    pub fn give_up_kept(&self) {
        let slots = self.lock().map.give_up_kept();
        self.volume.release(slots);
    }

    /// The guest's process is gone.
    pub fn release(&self) {
        let slots = self.lock().map.give_up_all();
        self.volume.release(slots);
    }
}

/// A process that ends needs nothing any more.
fn unless_gone(done: userfaultfd::Result<()>) -> Result<(), PagerError> {
    match done {
        Err(userfaultfd::Error::SystemError(errno))
            if errno as i32 == Errno::SRCH.raw_os_error() =>
        {
            Ok(())
        }
        done => Ok(done?),
    }
}

fn age(map: &PageMap, page: usize) -> usize {
    usize::from(map.age(page)).min(AGES - 1)
}

const fn address(page: usize) -> u64 {
    page as u64 * PAGE_SIZE
}

/// The numbers of the pages that a range touches.
fn pages(start: u64, bytes: u64) -> std::ops::Range<usize> {
    (start / PAGE_SIZE) as usize..(start + bytes).div_ceil(PAGE_SIZE) as usize
}

/// Pages that follow each other.
fn runs(pages: &[usize]) -> impl Iterator<Item = &[usize]> {
    pages.chunk_by(|a, b| a + 1 == *b)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use cp_core::page_state::Operation;
    use cp_guest::paging::Mapping;
    use rustix::pipe::pipe;
    use std::ptr::NonNull;
    use std::sync::atomic::AtomicBool;
    use std::sync::{RwLock, mpsc};
    use std::thread;

    pub const PAGES: usize = 256;
    pub const ALL: ByAge = [PAGES as u64; AGES];

    /// A volume without a name.
    pub fn volume(slots: u32) -> PagingVolume {
        let directory = tempfile::tempdir().unwrap();
        PagingVolume::create(&directory.path().join("page"), slots).unwrap()
    }

    /// A guest whose process is this one.
    pub struct TestGuest {
        storage: SharedMemory,
        mapping: Mapping,
        states: PageStates<SharedMemory>,
        /// How often something was on its way back when it was released.
        waited: AtomicU64,
        pub pager: Arc<Pager>,
    }

    impl TestGuest {
        fn new(slots: u32, latency: Duration) -> Self {
            Self::with_volume(0, Arc::new(volume(slots)), latency)
        }

        pub fn with_volume(number: u32, volume: Arc<PagingVolume>, latency: Duration) -> Self {
            let storage = SharedMemory::new("storage", PAGES * PAGE_SIZE as usize).unwrap();
            let table = SharedMemory::new("states", PAGES).unwrap();
            let shared = SharedMemory::open(table.as_fd().try_clone_to_owned().unwrap(), PAGES);
            let start = NonNull::from(&storage[..]).cast();
            // SAFETY: `storage` is there, shared, and as long as the guest.
            let mapping = unsafe { Mapping::new(start, storage.len()) };
            let age_list = Arc::new(AgeList::new(0, false));
            let guest = Guest {
                user: UserId::new("LINUX01").unwrap(),
                number: GuestNumber(number),
                uffd: mapping.watch().unwrap(),
                address: start.as_ptr() as u64,
                memfd: storage.as_fd().try_clone_to_owned().unwrap().into(),
                states: PageStates::with_table(shared.unwrap()),
                process: Process::myself().unwrap(),
            };
            Self {
                storage,
                mapping,
                states: PageStates::with_table(table),
                waited: AtomicU64::new(0),
                pager: Arc::new(Pager::new(guest, volume, age_list, latency).unwrap()),
            }
        }

        pub fn byte(&self, page: usize) -> &std::sync::atomic::AtomicU8 {
            &self.storage[page * PAGE_SIZE as usize + 77]
        }

        /// Stores to each page.
        pub fn fill(&self, value: u8) {
            (0..PAGES).for_each(|page| self.byte(page).store(value, Ordering::Relaxed));
        }

        /// Runs something while the pager serves.
        pub fn served<T>(&self, run: impl FnOnce() -> T) -> T {
            let (end, close) = pipe().unwrap();
            thread::scope(|scope| {
                let server = scope.spawn(move || self.pager.run(&end, || Ok(())));
                let result = run();
                drop(close);
                server.join().unwrap().unwrap();
                result
            })
        }

        fn forget_use(&self) {
            self.pager.sweep();
            self.mapping.sweep().unwrap();
        }

        /// DIAGNOSE X'10', whose memory is given back by `discard`.
        fn release_by(&self, page: usize, discard: impl FnOnce()) {
            let range = address(page)..address(page + 1);
            let arrive = |_| {
                self.waited.fetch_add(1, Ordering::Relaxed);
                self.byte(page).load(Ordering::Relaxed);
            };
            let done = self.states.release(range, arrive, || {
                discard();
                Ok::<_, ()>(())
            });
            assert_eq!(done, Ok(()));
        }

        fn essa(&self, page: usize, operation: Operation) -> cp_core::page_state::State {
            self.states.execute(address(page), operation).unwrap()
        }

        fn release(&self, page: usize) {
            self.release_by(page, || self.discard(page));
        }

        /// The host takes what the guest does not need, while no CPU executes instructions.
        fn take_pages(&self) {
            for page in 0..PAGES {
                let usages = [Usage::Unused, Usage::Volatile];
                if usages.map(|usage| self.states.take(address(page), usage)) != [false; 2] {
                    self.discard(page);
                }
            }
        }

        /// As QEMU gives memory back.
        fn discard(&self, page: usize) {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            fallocate(self.storage.as_fd(), flags, address(page), PAGE_SIZE).unwrap();
        }
    }

    fn count(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }

    /// Threads count in bytes of each page, while pages leave, age and come back: all that they have counted is there.
    #[test]
    fn no_store_is_lost() {
        let guest = TestGuest::new(1024, Duration::ZERO);
        count_while_pages_leave(&guest, 20_000);
        assert!(guest.pager.view().stayed > 0);
        assert!(guest.pager.view().written_early > 0);
    }

    /// Also if page-ins take their time, and if pages cannot leave since there is no room for them: nobody waits for ever.
    #[test]
    fn nobody_is_forgotten() {
        count_while_pages_leave(&TestGuest::new(1024, Duration::from_micros(200)), 5_000);
        count_while_pages_leave(&TestGuest::new(128, Duration::ZERO), 5_000);
    }

    fn count_while_pages_leave(guest: &TestGuest, pages: u64) {
        let stop = AtomicBool::new(false);
        guest.served(|| {
            thread::scope(|scope| {
                let writers: Vec<_> = (0..3)
                    .map(|writer| {
                        let stop = &stop;
                        scope.spawn(move || {
                            let mut counted = [0_u8; PAGES];
                            let mut random = writer as u64 + 1;
                            while !stop.load(Ordering::Relaxed) {
                                random = random.wrapping_mul(6364136223846793005).wrapping_add(1);
                                let page = (random >> 40) as usize % PAGES;
                                let place = page * PAGE_SIZE as usize + 100 * writer;
                                guest.storage[place].fetch_add(1, Ordering::Relaxed);
                                counted[page] = counted[page].wrapping_add(1);
                            }
                            counted
                        })
                    })
                    .collect();
                let mut rounds = 0;
                while guest.pager.view().pages_out < pages {
                    let early = guest.pager.write_early([16; AGES]);
                    match early.and_then(|()| guest.pager.evict([8; AGES])) {
                        Ok(_) => {}
                        Err(PagerError::Volume(VolumeError::Full(_))) => guest.pager.give_up_kept(),
                        Err(error) => panic!("{error}"),
                    }
                    rounds += 1;
                    if rounds % 16 == 0 {
                        guest.forget_use();
                    }
                }
                stop.store(true, Ordering::Relaxed);
                for (writer, thread) in writers.into_iter().enumerate() {
                    for (page, counted) in thread.join().unwrap().into_iter().enumerate() {
                        let place = page * PAGE_SIZE as usize + 100 * writer;
                        let stored = guest.storage[place].load(Ordering::Relaxed);
                        assert_eq!(stored, counted, "writer {writer}, page {page}");
                    }
                }
            });
        });
        assert!(guest.pager.view().pages_in > pages / 20);
    }

    /// Owners of pages count in them and give them up in all ways, while pages leave, are taken and come back: what has been
    /// given up is zero until something is stored, and the rest is there.
    #[test]
    fn nothing_that_was_given_up_appears_again() {
        let guest = TestGuest::new(1024, Duration::ZERO);
        let (stop, cpus) = (AtomicBool::new(false), RwLock::new(()));
        guest.served(|| {
            thread::scope(|scope| {
                let (guest, stop, cpus) = (&guest, &stop, &cpus);
                let owners: Vec<_> = (0..3)
                    .map(|owner| {
                        scope.spawn(move || {
                            let mut pages: Vec<_> =
                                (owner..PAGES).step_by(3).map(Owned::new).collect();
                            let mut random = owner as u64 + 1;
                            while !stop.load(Ordering::Relaxed) {
                                random = random.wrapping_mul(6364136223846793005).wrapping_add(1);
                                let page = (random >> 40) as usize % pages.len();
                                let _executes = cpus.read();
                                pages[page].step(guest, random >> 36 & 15);
                            }
                        })
                    })
                    .collect();
                // One that ends now has found something.
                let all_go_on = || owners.iter().all(|owner| !owner.is_finished());
                let mut rounds = 0;
                while guest.pager.view().pages_out < 20_000 && all_go_on() {
                    guest.pager.write_early([16; AGES]).unwrap();
                    guest.pager.evict([8; AGES]).unwrap();
                    rounds += 1;
                    if rounds % 16 == 0 {
                        guest.forget_use();
                        let _exclusive = cpus.write();
                        guest.take_pages();
                    }
                }
                stop.store(true, Ordering::Relaxed);
            });
        });
        assert!(count(&guest.waited) > 0);
    }

    /// A page, and what its owner knows of it.
    struct Owned {
        page: usize,
        usage: Usage,
        counted: u8,
    }

    impl Owned {
        fn new(page: usize) -> Self {
            Self {
                page,
                usage: Usage::Stable,
                counted: 0,
            }
        }

        fn step(&mut self, guest: &TestGuest, choice: u64) {
            let byte = guest.byte(self.page);
            match (self.usage, choice) {
                (_, 0) => {
                    guest.release(self.page);
                    self.counted = 0;
                }
                (Usage::Stable, 1) => {
                    guest.essa(self.page, Operation::SetUnused);
                    self.usage = Usage::Unused;
                }
                (Usage::Stable, 2) => {
                    guest.essa(self.page, Operation::SetVolatile);
                    self.usage = Usage::Volatile;
                }
                (Usage::Stable, _) => {
                    let found = byte.fetch_add(1, Ordering::Relaxed);
                    assert_eq!(found, self.counted, "page {}", self.page);
                    self.counted = self.counted.wrapping_add(1);
                }
                (Usage::Unused, _) => {
                    guest.essa(self.page, Operation::SetStable);
                    self.usage = Usage::Stable;
                    let found = byte.load(Ordering::Relaxed);
                    assert!(found == 0 || found == self.counted, "page {}", self.page);
                    self.counted = found;
                }
                _ => {
                    let unless_discarded = Operation::SetStableIfNotDiscarded;
                    if guest.essa(self.page, unless_discarded).is_discarded() {
                        guest.essa(self.page, Operation::SetStable);
                        self.counted = 0;
                    }
                    self.usage = Usage::Stable;
                    let found = byte.load(Ordering::Relaxed);
                    assert_eq!(found, self.counted, "page {}", self.page);
                }
            }
        }
    }

    #[test]
    fn pages_leave_and_come_back_in_blocks() {
        let guest = TestGuest::new(1024, Duration::ZERO);
        guest.served(|| {
            for page in 0..PAGES {
                guest.byte(page).store(page as u8, Ordering::Relaxed);
            }
            assert_eq!(guest.pager.resident(), PAGES as u64);
            // The one of zeroes leaves no trace.
            assert_eq!(guest.pager.evict(ALL).unwrap(), PAGES as u64);
            assert_eq!(guest.pager.resident(), 0);
            assert_eq!(guest.pager.view().preserved, PAGES as u64 - 1);
            for page in 0..PAGES {
                assert_eq!(guest.byte(page).load(Ordering::Relaxed), page as u8);
            }
            let blocks = (PAGES / BLOCK_SLOTS) as u64;
            assert_eq!(guest.pager.view().page_ins, blocks);
            assert_eq!(guest.pager.view().preserved, 0);
            // What has not changed is not written again.
            let written = count(&guest.pager.volume.traffic.writes);
            guest.byte(3).store(0xff, Ordering::Relaxed);
            guest.pager.evict(ALL).unwrap();
            assert_eq!(count(&guest.pager.volume.traffic.writes), written + 1);
            assert_eq!(guest.byte(3).load(Ordering::Relaxed), 0xff);
            assert_eq!(guest.byte(4).load(Ordering::Relaxed), 4);
        });
        guest.pager.release();
        assert_eq!(guest.pager.volume.fill().1, 0);
    }

    #[test]
    fn what_is_written_early_leaves_without_being_written() {
        let guest = TestGuest::new(1024, Duration::ZERO);
        guest.served(|| {
            let written = || (guest.pager.view().written, guest.pager.view().written_early);
            guest.fill(1);
            guest.essa(0, Operation::SetVolatile);
            guest.byte(1).store(0, Ordering::Relaxed);
            guest.pager.write_early(ALL).unwrap();
            // Neither what can be lost nor what is zero.
            let early = PAGES as u64 - 2;
            assert_eq!(written(), (early, early));
            assert_eq!(guest.pager.volume.fill().1 as u64, early);
            assert_eq!(guest.pager.resident(), PAGES as u64);
            assert_eq!(guest.pager.view().preserved, 0);
            guest.pager.write_early(ALL).unwrap();
            assert_eq!(written(), (early, early));
            // What is used or given up after that, leaves as it is then.
            guest.byte(2).store(2, Ordering::Relaxed);
            guest.release(3);
            guest.pager.evict(ALL).unwrap();
            assert_eq!(guest.pager.resident(), 1);
            assert_eq!(written(), (early + 1, early));
            for (page, value) in [(1, 0), (2, 2), (3, 0), (4, 1), (PAGES - 1, 1)] {
                assert_eq!(guest.byte(page).load(Ordering::Relaxed), value, "{page}");
            }
            // What has come back is written early again only if it has changed.
            guest.fill(1);
            guest.byte(9).store(7, Ordering::Relaxed);
            guest.pager.write_early(ALL).unwrap();
            let (all, early) = written();
            guest.pager.evict(ALL).unwrap();
            assert_eq!(written(), (all, early));
            assert_eq!(guest.byte(9).load(Ordering::Relaxed), 7);
        });
    }

    #[test]
    fn slots_that_are_not_kept_are_given_up_with_the_next_use() {
        let guest = TestGuest::new(1024, Duration::ZERO);
        let in_use = || {
            // When the pager has done what it was at.
            let _state = guest.pager.lock();
            guest.pager.volume.fill().1
        };
        guest.pager.age_list.set_keep_slot(false);
        guest.served(|| {
            let touch = |pages: std::ops::Range<usize>| {
                for page in pages {
                    guest.byte(page).fetch_add(1, Ordering::Relaxed);
                }
            };
            touch(0..PAGES);
            guest.forget_use();
            guest.forget_use();
            guest.pager.write_early(ALL).unwrap();
            assert_eq!(in_use(), PAGES);
            touch(0..100);
            guest.pager.sweep();
            assert_eq!(in_use(), PAGES - 100);
            guest.pager.evict(ALL).unwrap();
            assert_eq!(in_use(), PAGES);
            touch(0..PAGES);
            assert_eq!(in_use(), 0);
            for page in 0..PAGES {
                let touched = if page < 100 { 3 } else { 2 };
                assert_eq!(guest.byte(page).load(Ordering::Relaxed), touched);
            }
        });
    }

    #[test]
    fn nothing_is_written_early_where_slots_are_few() {
        let guest = TestGuest::new(128, Duration::ZERO);
        guest.served(|| {
            guest.fill(1);
            guest.pager.write_early(ALL).unwrap();
            let (total, in_use, _) = guest.pager.volume.fill();
            assert!((1..=BATCH).contains(&(total - in_use)), "{in_use}");
        });
    }

    #[test]
    fn what_the_guest_gives_up_does_not_come_back() {
        let guest = TestGuest::new(1024, Duration::ZERO);
        guest.served(|| {
            guest.fill(1);
            guest.pager.evict(ALL).unwrap();
            // DIAGNOSE X'10', and ESSA: set unused.
            guest.release(5);
            assert!(guest.essa(6, Operation::SetUnused).is_preserved());
            assert_eq!(guest.byte(5).load(Ordering::Relaxed), 0);
            assert_eq!(guest.byte(6).load(Ordering::Relaxed), 0);
            assert_eq!(guest.byte(7).load(Ordering::Relaxed), 1);
            // Unused and volatile pages are for others to take.
            guest.essa(7, Operation::SetVolatile);
            let census = guest.pager.census();
            assert_eq!((census.unused, census.volatile), (1, 1));
            guest.pager.evict(ALL).unwrap();
            assert_eq!(guest.pager.resident(), 2);
        });
    }

    #[test]
    fn what_the_guest_gives_up_needs_no_slot() {
        let guest = TestGuest::new(1024, Duration::ZERO);
        guest.served(|| {
            guest.fill(1);
            guest.pager.evict(ALL).unwrap();
            (10..20).for_each(|page| guest.release(page));
            guest.essa(20, Operation::SetVolatile);
            guest.pager.give_up_lost();
            assert_eq!(guest.pager.volume.fill().1, PAGES - 11);
            assert_eq!(guest.pager.view().preserved, PAGES as u64 - 11);
            for (page, value) in [(9, 1), (10, 0), (19, 0), (21, 1)] {
                assert_eq!(guest.byte(page).load(Ordering::Relaxed), value, "{page}");
            }
        });
    }

    /// Also if the pager has begun to bring it back, and somebody waits for it.
    #[test]
    fn what_is_released_on_its_way_back_is_zero_when_it_has_come() {
        let guest = TestGuest::new(1024, Duration::ZERO);
        guest.served(|| {
            guest.byte(5).store(1, Ordering::Relaxed);
            guest.byte(6).store(1, Ordering::Relaxed);
            guest.pager.evict(ALL).unwrap();
            thread::scope(|scope| {
                let guest = &guest;
                let mut state = guest.pager.lock();
                let Place::Out(slot) = state.map.place(5) else {
                    panic!("it has not left");
                };
                assert!(guest.states.comes_back(address(5)));
                let (done, woken) = mpsc::channel();
                scope.spawn(move || done.send(guest.byte(5).load(Ordering::Relaxed)));
                let (done, released) = mpsc::channel();
                scope.spawn(move || {
                    guest.release(5);
                    done.send(guest.byte(5).load(Ordering::Relaxed))
                });
                // Its content is not there yet.
                let early = released.recv_timeout(Duration::from_millis(50));
                guest
                    .pager
                    .bring_back(&mut state.map, 5, slot)
                    .expect("the volume is right");
                drop(state);
                let limit = Duration::from_secs(10);
                let (woken, released) = (woken.recv_timeout(limit), released.recv_timeout(limit));
                // Whoever waits for ever would keep this test from failing.
                guest.pager.zero(5).unwrap();
                assert_eq!(early, Err(mpsc::RecvTimeoutError::Timeout));
                assert!(woken.is_ok());
                assert_eq!(released, Ok(0));
            });
            // Its neighbour came along.
            assert_eq!(guest.byte(6).load(Ordering::Relaxed), 1);
            assert_eq!(guest.pager.view().page_ins, 1);
        });
    }

    /// Nor does it leave once more before its memory has been given back.
    #[test]
    fn what_is_being_released_does_not_leave() {
        let guest = TestGuest::new(1024, Duration::ZERO);
        guest.served(|| {
            guest.byte(5).store(1, Ordering::Relaxed);
            guest.byte(6).store(1, Ordering::Relaxed);
            guest.release_by(5, || {
                assert_eq!(guest.pager.evict(ALL).unwrap(), 1);
                guest.discard(5);
            });
            assert_eq!(guest.byte(5).load(Ordering::Relaxed), 0);
            assert_eq!(guest.byte(6).load(Ordering::Relaxed), 1);
            // Afterwards it does.
            guest.byte(5).store(2, Ordering::Relaxed);
            guest.pager.evict(ALL).unwrap();
            assert_eq!(guest.pager.resident(), 0);
            assert_eq!(guest.byte(5).load(Ordering::Relaxed), 2);
        });
    }

    #[test]
    fn a_full_volume_loses_nothing() {
        let guest = TestGuest::new(64, Duration::ZERO);
        guest.served(|| {
            for page in 0..PAGES {
                guest.byte(page).store(page as u8 | 1, Ordering::Relaxed);
            }
            let error = guest.pager.evict(ALL).unwrap_err();
            assert!(
                matches!(error, PagerError::Volume(VolumeError::Full(_))),
                "{error}"
            );
            assert_eq!(guest.pager.view().preserved, 64);
            for page in 0..PAGES {
                assert_eq!(guest.byte(page).load(Ordering::Relaxed), page as u8 | 1);
            }
            // Slots of pages that came back can be used for others.
            assert!(guest.pager.evict([16; AGES]).is_err());
            guest.pager.give_up_kept();
            assert!(guest.pager.evict([16; AGES]).unwrap() > 0);
            for page in 0..PAGES {
                assert_eq!(guest.byte(page).load(Ordering::Relaxed), page as u8 | 1);
            }
        });
    }

    #[test]
    fn the_oldest_leave_first_and_the_held_ones_stay() {
        let guest = TestGuest::new(1024, Duration::from_millis(1));
        guest.served(|| {
            guest.fill(1);
            for _ in 0..2 {
                guest.forget_use();
                (0..100).for_each(|page| guest.byte(page).store(2, Ordering::Relaxed));
            }
            guest.pager.sweep();
            let census = guest.pager.census();
            assert_eq!(census.stable[0], 100);
            assert_eq!(census.stable[1..].iter().sum::<u64>(), 156);
            guest
                .pager
                .evict([0, 200, 200, 200, 200, 200, 200, 200])
                .unwrap();
            assert_eq!(guest.pager.resident(), 100);
            // A page that is paged out takes its time to come back, and comes.
            let start = Instant::now();
            assert_eq!(guest.byte(200).load(Ordering::Relaxed), 1);
            assert!(start.elapsed() >= Duration::from_millis(1));
            let held = guest.pager.hold(address(120), 3 * PAGE_SIZE).unwrap();
            assert!(guest.pager.resident() >= 103);
            drop(held);
        });
    }
}
