// SPDX-License-Identifier: GPL-2.0

//! The paging volume: a file.
//!
//! Of each page in a slot a digest is kept in memory. It tells whether a page that leaves again has changed, and
//! whether what comes back is what was written.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cp_core::page_state::PAGE_SIZE;
use cp_core::paging::{BLOCK_SLOTS, Full, Slot, Volume};
use thiserror::Error;

/// The content of a page.
pub type Page = [u8; PAGE_SIZE as usize];

/// The guest whose page is in a slot, in the order in which they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestNumber(pub u32);

#[derive(Clone, Copy, Debug)]
struct Owner {
    guest: GuestNumber,
    page: u32,
    digest: [u8; 32],
}

/// Why a page cannot leave, or come back.
#[derive(Debug, Error)]
pub enum VolumeError {
    #[error(transparent)]
    Full(#[from] Full),
    #[error("the paging volume cannot be written: {0}")]
    Write(io::Error),
    #[error("the paging volume cannot be read: {0}")]
    Read(io::Error),
    #[error("page {page:#x} in slot {slot} of the paging volume is not what was written there")]
    Damaged { page: u64, slot: usize },
}

/// What has been read and written.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Times that something was read.
    pub reads: AtomicU64,
    /// Times that something was written.
    pub writes: AtomicU64,
}

impl Traffic {
    /// Reads and writes.
    pub fn operations(&self) -> u64 {
        self.reads.load(Ordering::Relaxed) + self.writes.load(Ordering::Relaxed)
    }
}

/// A page that leaves.
#[derive(Clone, Copy, Debug)]
pub struct Leaving<'a> {
    /// Its number.
    pub page: usize,
    /// The slot that it came from.
    pub slot: Option<Slot>,
    /// What is in it.
    pub content: &'a Page,
}

/// Where pages are that were to be written.
#[derive(Debug, PartialEq, Eq)]
pub struct Written {
    /// The slot of each.
    pub slots: Vec<Slot>,
    /// How many had changed: the others were there already.
    pub changed: u64,
}

/// Pages for slots one behind the other.
#[derive(Debug, Default)]
struct Run {
    content: Vec<u8>,
    owners: Vec<(Slot, Owner)>,
}

/// The paging volume.
#[derive(Debug)]
pub struct PagingVolume {
    file: File,
    slots: Mutex<Volume<Owner>>,
    /// What has been read and written.
    pub traffic: Traffic,
}

impl PagingVolume {
    /// A volume with that many slots in a file, which is emptied; only this user may read it.
    pub fn create(path: &Path, slots: u32) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?;
        Ok(Self {
            file,
            slots: Mutex::new(Volume::new(slots)),
            traffic: Traffic::default(),
        })
    }

    fn slots(&self) -> MutexGuard<'_, Volume<Owner>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Slots that there are, that are in use, and up to where they were.
    pub fn fill(&self) -> (usize, usize, usize) {
        let slots = self.slots();
        (slots.total(), slots.in_use(), slots.high())
    }

    /// Whether there are more free slots than that.
    pub fn has_room(&self, slots: usize) -> bool {
        let volume = self.slots();
        volume.total() - volume.in_use() > slots
    }

    /// Gives slots back.
    pub fn release(&self, slots: impl IntoIterator<Item = Slot>) {
        let mut volume = self.slots();
        for slot in slots {
            volume.release(slot);
        }
    }

    /// Writes pages of a guest, at most [`BLOCK_SLOTS`] that have no slot yet. What is there already is not written
    /// again. After an error, slots that were there are as they were or hold what is new, and
    /// there are no new ones.
    pub fn write(
        &self,
        guest: GuestNumber,
        leaving: &[Leaving<'_>],
    ) -> Result<Written, VolumeError> {
        let owners: Vec<_> = leaving
            .iter()
            .map(|page| Owner {
                guest,
                page: page.page as u32,
                digest: blake3::hash(page.content).into(),
            })
            .collect();
        let new: Vec<_> = owners
            .iter()
            .zip(leaving)
            .filter(|(_, page)| page.slot.is_none())
            .map(|(&owner, _)| owner)
            .collect();
        let taken = self.slots().take(&new)?;
        let mut fresh = taken.iter().copied();
        let slots: Vec<_> = leaving
            .iter()
            .map_while(|page| page.slot.or_else(|| fresh.next()))
            .collect();
        match self.write_changed(leaving, &slots, &owners) {
            Ok(changed) => Ok(Written { slots, changed }),
            Err(error) => {
                self.release(taken);
                Err(VolumeError::Write(error))
            }
        }
    }

    fn write_changed(
        &self,
        leaving: &[Leaving<'_>],
        slots: &[Slot],
        owners: &[Owner],
    ) -> io::Result<u64> {
        let mut changed = 0;
        let mut run = Run::default();
        for ((page, &slot), &owner) in leaving.iter().zip(slots).zip(owners) {
            let there = page.slot.and_then(|slot| self.slots().owner(slot));
            if there.is_some_and(|there| there.digest == owner.digest) {
                continue;
            }
            changed += 1;
            if !run
                .owners
                .last()
                .is_none_or(|(last, _)| last.is_before(slot))
            {
                self.write_run(&mut run)?;
            }
            run.content.extend_from_slice(page.content);
            run.owners.push((slot, owner));
        }
        self.write_run(&mut run)?;
        Ok(changed)
    }

    fn write_run(&self, run: &mut Run) -> io::Result<()> {
        let Some((first, _)) = run.owners.first() else {
            return Ok(());
        };
        let written = self.file.write_all_at(&run.content, first.offset());
        let mut slots = self.slots();
        for (slot, owner) in run.owners.drain(..) {
            // Of what failed nobody knows what is there: it is like no page.
            let digest = if written.is_ok() {
                owner.digest
            } else {
                [0; 32]
            };
            slots.set_owner(slot, Owner { digest, ..owner });
        }
        run.content.clear();
        self.traffic.writes.fetch_add(1, Ordering::Relaxed);
        written
    }

    /// Reads those pages of a guest that are in one block with a slot and that are `wanted`, in one operation; tells
    /// the number and the slot of each.
    pub fn read_block(
        &self,
        guest: GuestNumber,
        slot: Slot,
        mut wanted: impl FnMut(usize, Slot) -> bool,
        mut arrive: impl FnMut(usize, Slot, &Page),
    ) -> Result<(), VolumeError> {
        let found: Vec<_> = self
            .slots()
            .neighbours(slot)
            .filter(|(slot, owner)| owner.guest == guest && wanted(owner.page as usize, *slot))
            .collect();
        let (Some((first, _)), Some((last, _))) = (found.first(), found.last()) else {
            return Ok(());
        };
        let mut block = [0; BLOCK_SLOTS * PAGE_SIZE as usize];
        let length = (last.offset() - first.offset() + PAGE_SIZE) as usize;
        self.file
            .read_exact_at(&mut block[..length], first.offset())
            .map_err(VolumeError::Read)?;
        self.traffic.reads.fetch_add(1, Ordering::Relaxed);
        let (pages, _) = block.as_chunks::<{ PAGE_SIZE as usize }>();
        for (slot, owner) in &found {
            let content = &pages[slot.index() - first.index()];
            if blake3::hash(content) != owner.digest {
                return Err(VolumeError::Damaged {
                    page: u64::from(owner.page) * PAGE_SIZE,
                    slot: slot.index(),
                });
            }
            arrive(owner.page as usize, *slot, content);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUEST: GuestNumber = GuestNumber(1);

    fn page(byte: u8) -> Page {
        [byte; PAGE_SIZE as usize]
    }

    fn volume(slots: u32) -> (tempfile::TempDir, PagingVolume) {
        let directory = tempfile::tempdir().unwrap();
        let volume = PagingVolume::create(&directory.path().join("page"), slots).unwrap();
        (directory, volume)
    }

    fn leaving(page: usize, slot: Option<Slot>, content: &Page) -> Leaving<'_> {
        Leaving {
            page,
            slot,
            content,
        }
    }

    fn read(
        volume: &PagingVolume,
        guest: GuestNumber,
        slot: Slot,
    ) -> Result<Vec<(usize, u8)>, VolumeError> {
        let mut found = Vec::new();
        volume.read_block(
            guest,
            slot,
            |_, _| true,
            |page, _, content| found.push((page, content[7])),
        )?;
        Ok(found)
    }

    #[test]
    fn a_block_is_read_at_once_and_unchanged_pages_are_not_written() {
        let (_directory, volume) = volume(64);
        let contents = [page(1), page(2), page(3)];
        let pages: Vec<_> = (10..)
            .zip(&contents)
            .map(|(page, content)| leaving(page, None, content))
            .collect();
        let Written { slots, changed } = volume.write(GUEST, &pages).unwrap();
        assert_eq!(changed, 3);
        assert_eq!(
            read(&volume, GUEST, slots[2]).unwrap(),
            [(10, 1), (11, 2), (12, 3)]
        );
        assert_eq!(read(&volume, GuestNumber(2), slots[2]).unwrap(), []);
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        assert_eq!(
            (count(&volume.traffic.reads), count(&volume.traffic.writes)),
            (1, 1)
        );

        let changed = page(9);
        let again = [
            leaving(10, Some(slots[0]), &contents[0]),
            leaving(12, Some(slots[2]), &changed),
        ];
        let written = Written {
            slots: vec![slots[0], slots[2]],
            changed: 1,
        };
        assert_eq!(volume.write(GUEST, &again).unwrap(), written);
        assert_eq!(count(&volume.traffic.writes), 2);
        assert_eq!(
            read(&volume, GUEST, slots[0]).unwrap(),
            [(10, 1), (11, 2), (12, 9)]
        );
        assert_eq!(volume.fill(), (64, 3, 3));
        volume.release(slots);
        assert_eq!(volume.fill().1, 0);
    }

    #[test]
    fn damage_is_noticed() {
        let (_directory, volume) = volume(64);
        let written = volume.write(GUEST, &[leaving(3, None, &page(1))]);
        let slots = written.unwrap().slots;
        volume
            .file
            .write_all_at(b"x", slots[0].offset() + 99)
            .unwrap();
        let damaged = read(&volume, GUEST, slots[0]).unwrap_err();
        assert!(
            matches!(
                damaged,
                VolumeError::Damaged {
                    page: 0x3000,
                    slot: 0
                }
            ),
            "{damaged}"
        );
        volume.file.set_len(100).unwrap();
        assert!(matches!(
            read(&volume, GUEST, slots[0]),
            Err(VolumeError::Read(_))
        ));
    }

    #[test]
    fn a_full_volume_keeps_what_it_has() {
        let (_directory, volume) = volume(16);
        let contents = [page(1); BLOCK_SLOTS];
        let pages: Vec<_> = contents
            .iter()
            .enumerate()
            .map(|(page, content)| leaving(page, None, content))
            .collect();
        let slots = volume.write(GUEST, &pages).unwrap().slots;
        let refused = volume.write(GUEST, &[leaving(99, None, &page(2))]);
        assert!(matches!(refused, Err(VolumeError::Full(_))));
        assert_eq!(read(&volume, GUEST, slots[0]).unwrap().len(), BLOCK_SLOTS);
    }
}
