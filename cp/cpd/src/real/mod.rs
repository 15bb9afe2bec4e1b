// SPDX-License-Identifier: GPL-2.0

//! Real memory: the frames that all guests and transcendent memory share, and the paging volume for what does not fit.
//!
//! A demand scan keeps a list of available frames filled: unused pages go first, then volatile ones, then stable ones
//! and those in ephemeral pools by their age, fairly over all guests. A guest that needs a frame when there is none
//! takes them itself, from whomever.

mod pager;
mod volume;

use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{io, iter, thread};

use cp_core::UserId;
use cp_core::page_state::PageStates;
use cp_core::paging::{AgeList, BLOCK_SLOTS, ByAge, Full, Watermarks, demand, ephemeral_by_age};
use cp_core::respond::{HostView, PagingView};
use cp_proto::SharedMemory;
use procfs::process::Process;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::readlink;
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use thiserror::Error;
use userfaultfd::Uffd;

use pager::Census;
pub use pager::{Held, Pager, PagerError};
use volume::{GuestNumber, PagingVolume, VolumeError};

use crate::guest::Resources;
use crate::tmem::TmemStore;

/// How often the demand scan looks at the available list.
const SCAN_INTERVAL: Duration = Duration::from_millis(20);

/// How often it is noted which pages are in use.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Only if less than this part of all frames is available: what is old must be known before frames are short.
const SWEEP_PART: u64 = 4;

/// How long guests may take to give up what they do not need, before what they need is taken.
const GUEST_LIMIT: Duration = Duration::from_millis(50);

/// How long a guest whose pager has failed may take to say so and end.
const FAREWELL_LIMIT: Timespec = Timespec {
    tv_sec: 5,
    tv_nsec: 0,
};

/// What an administrator chooses.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The frames of the system.
    pub frames: u64,
    /// The file of the paging volume.
    pub volume: PathBuf,
    /// Its size, in pages.
    pub slots: u32,
    /// Whether pages are written before frames are short, until `SET AGELIST` says something else.
    pub early_writes: bool,
    /// How long a page-in takes at least.
    pub latency: Duration,
}

/// Why a guest's storage cannot be paged.
#[derive(Debug, Error)]
pub enum AdmitError {
    #[error("{0} file descriptors came with the storage, 1 is needed: a userfaultfd")]
    Descriptors(usize),
    #[error("what came with the storage is no userfaultfd")]
    NoUserfaultfd,
    #[error("the storage is not at a page boundary")]
    Address,
    #[error("the table of page states cannot be shared: {0}")]
    States(Errno),
    #[error("the guest's process cannot be watched: {0}")]
    Process(#[from] procfs::ProcError),
    #[error(transparent)]
    System(#[from] Errno),
    #[error("no thread for the guest's pager: {0}")]
    Thread(io::Error),
}

/// What guests are asked for by the demand scan. None of the calls waits for a guest.
pub trait Guests: Send + Sync {
    /// Has guests give up so many unused and volatile pages each; waits no longer than that.
    fn take(&self, pages: &[(UserId, u64)], limit: Duration);
    /// Has guests forget which pages they have used.
    fn sweep(&self);
    /// Logs a guest off, whose pager has failed.
    fn fail(&self, user: UserId, reason: &str);
}

/// The frames, the paging volume, and the guests that share them.
#[derive(Debug)]
pub struct RealMemory {
    frames: u64,
    marks: Watermarks,
    /// As long as the available list is filled at once.
    age_list: Arc<AgeList>,
    latency: Duration,
    volume: Arc<PagingVolume>,
    tmem: Option<Arc<TmemStore>>,
    pagers: Mutex<Vec<Arc<Pager>>>,
    numbers: AtomicU32,
    /// Reads and writes in the last second.
    rate: AtomicU64,
}

impl RealMemory {
    /// Nobody has any frame.
    pub fn new(setup: &Setup, tmem: Option<Arc<TmemStore>>) -> io::Result<Self> {
        let marks = Watermarks::new(setup.frames);
        Ok(Self {
            frames: setup.frames,
            marks,
            age_list: Arc::new(AgeList::new(marks.high, setup.early_writes)),
            latency: setup.latency,
            volume: Arc::new(PagingVolume::create(&setup.volume, setup.slots)?),
            tmem,
            pagers: Mutex::default(),
            numbers: AtomicU32::new(0),
            rate: AtomicU64::new(0),
        })
    }

    fn pagers(&self) -> MutexGuard<'_, Vec<Arc<Pager>>> {
        self.pagers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many frames nobody has.
    pub fn available(&self) -> u64 {
        let guests: u64 = self.pagers().iter().map(|pager| pager.resident()).sum();
        let tmem = self.tmem.as_ref().map_or(0, |store| store.frames());
        self.frames.saturating_sub(guests + tmem)
    }

    /// The pages that are the next to leave.
    pub fn age_list(&self) -> &AgeList {
        &self.age_list
    }

    /// What a host looks like that has these frames and no others.
    pub fn view(&self, host: HostView) -> HostView {
        let (pages, in_use, high) = self.volume.fill();
        HostView {
            frames: self.frames,
            available_frames: self.available(),
            paging: PagingView {
                pages: pages as u64,
                in_use: in_use as u64,
                high: high as u64,
                rate: self.rate.load(Ordering::Relaxed),
            },
            ..host
        }
    }

    /// Lets the storage of a guest be paged that has not touched it yet. Its pager lives as long as the process.
    pub fn admit(
        self: &Arc<Self>,
        user: UserId,
        resources: &Resources,
        address: u64,
        fds: Vec<OwnedFd>,
        guests: Arc<dyn Guests>,
    ) -> Result<Arc<Pager>, AdmitError> {
        let [uffd] =
            <[OwnedFd; 1]>::try_from(fds).map_err(|fds| AdmitError::Descriptors(fds.len()))?;
        if !address.is_multiple_of(cp_core::page_state::PAGE_SIZE) {
            return Err(AdmitError::Address);
        }
        let pid = i32::try_from(resources.pid).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or(Errno::SRCH)?;
        let end = pidfd_open(pid, PidfdFlags::empty())?;
        let table = resources
            .page_states
            .try_clone()
            .map_err(|_| Errno::MFILE)?;
        let states = SharedMemory::open(table, resources.ram.pages() as usize)
            .map_err(AdmitError::States)?;
        let pager = Arc::new(Pager::new(
            pager::Guest {
                user,
                number: GuestNumber(self.numbers.fetch_add(1, Ordering::Relaxed)),
                uffd: into_uffd(uffd)?,
                address,
                memfd: resources
                    .ram
                    .as_fd()
                    .try_clone_to_owned()
                    .map_err(|_| Errno::MFILE)?
                    .into(),
                states: PageStates::with_table(states),
                process: Process::new(pid.as_raw_nonzero().get())?,
            },
            Arc::clone(&self.volume),
            Arc::clone(&self.age_list),
            self.latency,
        )?);
        self.pagers().push(Arc::clone(&pager));
        let (real, serving) = (Arc::clone(self), Arc::clone(&pager));
        let thread = thread::Builder::new().name(format!("pager {user}"));
        let spawned = thread.spawn(move || {
            if let Err(error) = serving.run(&end, || real.make_room()) {
                guests.fail(serving.user, &error.to_string());
                end_process(&end);
            }
            real.pagers().retain(|other| !Arc::ptr_eq(other, &serving));
            serving.release();
        });
        match spawned {
            Ok(_) => Ok(pager),
            Err(error) => {
                self.pagers().retain(|other| !Arc::ptr_eq(other, &pager));
                Err(AdmitError::Thread(error))
            }
        }
    }

    /// Sees to it that the next block that comes in finds frames.
    fn make_room(&self) -> Result<(), PagerError> {
        let needed = BLOCK_SLOTS as u64;
        while self.available() < needed {
            let taken = self.take(self.marks.wanted(self.available()), &self.census());
            match taken {
                _ if self.available() >= needed => break,
                Ok(0) => return Err(VolumeError::Full(Full).into()),
                // Whoever uses storage for the first time takes a frame at once, as fast as they become free.
                Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes frames from stable pages of guests and from ephemeral pages of transcendent memory, the oldest first; tells
    /// how many.
    fn take(&self, wanted: u64, census: &[(Arc<Pager>, Census)]) -> Result<u64, PagerError> {
        let quotas = demand(wanted, &self.ages(census));
        let evict = |frames| self.tmem.as_ref().map_or(0, |tmem| tmem.evict(frames));
        let evicted = evict(quotas[0].iter().sum());
        let page_out = || {
            let guests = census.iter().zip(&quotas[1..]);
            guests
                .map(|((pager, _), &quota)| pager.evict(quota))
                .sum::<Result<u64, _>>()
        };
        let mut paged = page_out();
        if matches!(paged, Err(PagerError::Volume(VolumeError::Full(_)))) {
            // Pages that are in frames can do without their slots, whoever has them.
            census.iter().for_each(|(pager, _)| pager.give_up_kept());
            paged = page_out();
        }
        if paged.is_err() {
            // There is no room on the volume, say: then younger ones must do.
            evict(self.marks.wanted(self.available()));
        }
        paged.map(|paged| evicted + paged)
    }

    /// How old what may leave is: in ephemeral pools, then of each guest.
    fn ages(&self, census: &[(Arc<Pager>, Census)]) -> Vec<ByAge> {
        let ephemeral = self.tmem.as_ref().map_or(0, |tmem| tmem.ephemeral_frames());
        let guests = census.iter().map(|(_, resident)| resident.stable);
        iter::once(ephemeral_by_age(ephemeral))
            .chain(guests)
            .collect()
    }

    /// Writes the pages on the aging list, so that they can leave at once.
    fn write_early(&self) {
        let census = self.census();
        let members = self.age_list.members(&self.ages(&census));
        for ((pager, _), &quota) in census.iter().zip(&members[1..]) {
            if let Err(error) = pager.write_early(quota) {
                tracing::warn!("pages are not written early: {error}");
            }
        }
    }

    /// What is resident of each guest.
    fn census(&self) -> Vec<(Arc<Pager>, Census)> {
        let pagers = self.pagers().clone();
        let count = |pager: Arc<Pager>| (Arc::clone(&pager), pager.census());
        pagers.into_iter().map(count).collect()
    }

    /// Keeps the available list filled, for ever.
    pub fn scan(&self, guests: &dyn Guests) -> ! {
        let mut swept = Instant::now();
        let mut traffic = 0;
        loop {
            thread::sleep(SCAN_INTERVAL);
            let available = self.available();
            let mut changed = false;
            if swept.elapsed() >= SWEEP_INTERVAL {
                let before = std::mem::replace(&mut traffic, self.volume.traffic.operations());
                self.rate.store(traffic - before, Ordering::Relaxed);
                let pagers = self.pagers().clone();
                pagers.iter().for_each(|pager| pager.give_up_lost());
                if available < self.frames / SWEEP_PART {
                    pagers.iter().for_each(|pager| pager.sweep());
                    guests.sweep();
                    changed = true;
                }
                swept = Instant::now();
            }
            if self.marks.wanted(available) > 0 {
                self.refill(guests);
                changed = true;
            }
            if changed && self.age_list.early_writes() {
                self.write_early();
            }
        }
    }

    fn refill(&self, guests: &dyn Guests) {
        let census = self.census();
        let wanted = self.marks.wanted(self.available());
        // Unused pages before volatile ones, whoever has them.
        let spare = census.iter().map(|(_, resident)| {
            let mut ages = ByAge::default();
            (ages[1], ages[0]) = (resident.unused, resident.volatile);
            ages
        });
        let quotas = demand(wanted, &spare.collect::<Vec<_>>());
        let asked: Vec<_> = census
            .iter()
            .zip(quotas)
            .map(|((pager, _), quota)| (pager.user, quota.iter().sum()))
            .filter(|&(_, pages)| pages > 0)
            .collect();
        if !asked.is_empty() {
            guests.take(&asked, GUEST_LIMIT);
        }
        let wanted = self.marks.wanted(self.available());
        if wanted > 0
            && let Err(error) = self.take(wanted, &census)
        {
            tracing::warn!("pages cannot leave: {error}");
        }
    }
}

/// Ends a guest's process, which waits for a page that it cannot have, if it does not do so by itself.
fn end_process(process: &OwnedFd) {
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    let ended = retry_on_intr(|| poll(&mut fds, Some(&FAREWELL_LIMIT)));
    if ended == Ok(0) {
        // It may end just now.
        let _ = pidfd_send_signal(process, Signal::KILL);
    }
}

/// Takes a file descriptor as a userfaultfd, if it is one.
fn into_uffd(fd: OwnedFd) -> Result<Uffd, AdmitError> {
    let name = readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()), Vec::new())?;
    if name.as_bytes() != b"anon_inode:[userfaultfd]" {
        return Err(AdmitError::NoUserfaultfd);
    }
    // SAFETY: It is a userfaultfd, and given up here.
    Ok(unsafe { Uffd::from_raw_fd(fd.into_raw_fd()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pager::tests::{ALL, PAGES, TestGuest};

    /// With a volume for all pages of one guest.
    fn real_memory(frames: u64) -> RealMemory {
        let directory = tempfile::tempdir().unwrap();
        let setup = Setup {
            frames,
            volume: directory.path().join("page"),
            slots: PAGES as u32,
            early_writes: false,
            latency: Duration::ZERO,
        };
        RealMemory::new(&setup, None).unwrap()
    }

    fn guest(real: &RealMemory, number: u32) -> TestGuest {
        let guest = TestGuest::with_volume(number, Arc::clone(&real.volume), Duration::ZERO);
        real.pagers().push(Arc::clone(&guest.pager));
        guest
    }

    /// Storage that is used for the first time takes frames although there are none.
    #[test]
    fn room_is_made_until_there_is_some() {
        let real = real_memory(PAGES as u64 / 4);
        let guest = guest(&real, 0);
        guest.served(|| {
            guest.fill(1);
            // What is taken at once would not do.
            assert!(guest.pager.resident() - real.marks.wanted(0) > real.frames);
            real.make_room().unwrap();
            assert!(real.available() >= BLOCK_SLOTS as u64);
        });
    }

    #[test]
    fn a_full_volume_uses_the_slots_that_other_guests_keep() {
        let real = real_memory(4 * PAGES as u64);
        let (first, second) = (guest(&real, 0), guest(&real, 1));
        first.served(|| {
            second.served(|| {
                // All slots are those of the second guest, whose pages are in frames again.
                second.fill(1);
                second.pager.evict(ALL).unwrap();
                second.fill(1);
                first.fill(1);
                let half = PAGES as u64 / 2;
                real.take(half, &real.census()).unwrap();
                assert_eq!(
                    real.pagers()
                        .iter()
                        .map(|pager| pager.view().preserved)
                        .sum::<u64>(),
                    half
                );
            });
        });
    }
}
