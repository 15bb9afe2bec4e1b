// SPDX-License-Identifier: GPL-2.0

//! The slots of the paging volume.

use thiserror::Error;

/// How many slots a block has. Pages that left together in one come back together.
pub const BLOCK_SLOTS: usize = 16;

/// A place for one page on the paging volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot(u32);

impl Slot {
    /// Its number, from 0.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Where it begins on the volume, in bytes.
    #[must_use]
    pub const fn offset(self) -> u64 {
        self.0 as u64 * crate::page_state::PAGE_SIZE
    }

    /// Whether `other` is the one behind this.
    #[must_use]
    pub const fn is_before(self, other: Self) -> bool {
        self.0 + 1 == other.0
    }
}

/// There are not as many free slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the paging volume is full")]
pub struct Full;

/// Which slots are in use, and for what: an `O` tells the owner of a slot.
///
/// New pages get a block of their own as long as there is a free one, then whatever slots are left.
#[derive(Debug)]
pub struct Volume<O> {
    slots: Box<[Option<O>]>,
    /// Blocks without any slot in use, the next one last.
    free_blocks: Vec<u32>,
    in_use: usize,
    high: usize,
    /// Where the next slot that is left over is looked for.
    cursor: usize,
}

impl<O: Copy> Volume<O> {
    /// An empty volume. The number of slots is rounded down to whole blocks.
    #[must_use]
    pub fn new(slots: u32) -> Self {
        let blocks = slots / BLOCK_SLOTS as u32;
        Self {
            slots: vec![None; blocks as usize * BLOCK_SLOTS].into(),
            free_blocks: (0..blocks).rev().collect(),
            in_use: 0,
            high: 0,
            cursor: 0,
        }
    }

    /// How many slots there are.
    #[must_use]
    pub const fn total(&self) -> usize {
        self.slots.len()
    }

    /// How many are in use.
    #[must_use]
    pub const fn in_use(&self) -> usize {
        self.in_use
    }

    /// How many were ever in use at once, counted from the beginning of the volume to the last one.
    #[must_use]
    pub const fn high(&self) -> usize {
        self.high
    }

    /// Takes a slot for each owner, at most [`BLOCK_SLOTS`]; all or none.
    pub fn take(&mut self, owners: &[O]) -> Result<Vec<Slot>, Full> {
        if owners.len() > self.total() - self.in_use {
            return Err(Full);
        }
        let slots: Vec<_> = match self.free_blocks.pop() {
            Some(block) => (block as usize * BLOCK_SLOTS..)
                .take(owners.len())
                .collect(),
            None => self.left_over(owners.len()),
        };
        for (&slot, &owner) in slots.iter().zip(owners) {
            self.slots[slot] = Some(owner);
            self.high = self.high.max(slot + 1);
        }
        self.in_use += slots.len();
        Ok(slots.into_iter().map(|slot| Slot(slot as u32)).collect())
    }

    /// Free slots in blocks that are in use. There are enough.
    fn left_over(&mut self, count: usize) -> Vec<usize> {
        let total = self.total();
        let from = self.cursor;
        let found: Vec<_> = (from..total)
            .chain(0..from)
            .filter(|&slot| self.slots[slot].is_none())
            .take(count)
            .collect();
        self.cursor = found.last().map_or(from, |last| (last + 1) % total);
        found
    }

    /// Gives a slot back.
    pub fn release(&mut self, slot: Slot) {
        if self.slots[slot.index()].take().is_none() {
            return;
        }
        self.in_use -= 1;
        let block = slot.index() / BLOCK_SLOTS;
        if self.block(block).iter().all(Option::is_none) {
            self.free_blocks.push(block as u32);
        }
    }

    /// Whose page is in a slot.
    #[must_use]
    pub fn owner(&self, slot: Slot) -> Option<O> {
        self.slots[slot.index()]
    }

    /// The owner of a slot that is in use is known better now.
    pub fn set_owner(&mut self, slot: Slot, owner: O) {
        if let Some(old) = &mut self.slots[slot.index()] {
            *old = owner;
        }
    }

    fn block(&self, block: usize) -> &[Option<O>] {
        &self.slots[block * BLOCK_SLOTS..][..BLOCK_SLOTS]
    }

    /// The slots in use of the block that a slot is in, in their order, and whose they are.
    pub fn neighbours(&self, slot: Slot) -> impl Iterator<Item = (Slot, O)> {
        let block = slot.index() / BLOCK_SLOTS;
        (block * BLOCK_SLOTS..)
            .zip(self.block(block))
            .filter_map(|(slot, &owner)| Some((Slot(slot as u32), owner?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn pages_that_leave_together_are_together() {
        let mut volume = Volume::new(3 * BLOCK_SLOTS as u32 + 5);
        assert_eq!(volume.total(), 3 * BLOCK_SLOTS);
        let first = volume.take(&[1, 2, 3]).unwrap();
        let second = volume.take(&[4; BLOCK_SLOTS]).unwrap();
        assert!(first[0].is_before(first[1]) && !first[2].is_before(second[0]));
        let owners: Vec<_> = volume
            .neighbours(first[1])
            .map(|(_, owner)| owner)
            .collect();
        assert_eq!(owners, [1, 2, 3]);
        assert_eq!(volume.in_use(), 3 + BLOCK_SLOTS);
        assert_eq!(volume.high(), 2 * BLOCK_SLOTS);
        // A block whose pages are gone is used again.
        first.into_iter().for_each(|slot| volume.release(slot));
        volume.take(&[5; BLOCK_SLOTS]).unwrap();
        assert_eq!(volume.high(), 2 * BLOCK_SLOTS);
    }

    proptest! {
        /// No slot has two owners, none is lost, and there is room until all are in use.
        #[test]
        fn slots_have_one_owner(steps in proptest::collection::vec((0..=BLOCK_SLOTS, any::<prop::sample::Index>(), any::<bool>()), 0..200)) {
            let mut volume = Volume::new(6 * BLOCK_SLOTS as u32);
            let mut model: BTreeMap<Slot, u32> = BTreeMap::new();
            let mut next = 0;
            for (count, which, release) in steps {
                if release && !model.is_empty() {
                    let slot = *which.get(&model.keys().copied().collect::<Vec<_>>());
                    volume.release(slot);
                    volume.release(slot);
                    model.remove(&slot);
                } else {
                    let owners: Vec<u32> = (next..).take(count).collect();
                    next += count as u32;
                    match volume.take(&owners) {
                        Ok(slots) => {
                            prop_assert_eq!(slots.len(), count);
                            for (slot, owner) in slots.into_iter().zip(owners) {
                                prop_assert!(slot.index() < volume.total());
                                prop_assert_eq!(model.insert(slot, owner), None);
                            }
                        }
                        Err(Full) => prop_assert!(model.len() + count > volume.total()),
                    }
                }
                prop_assert_eq!(volume.in_use(), model.len());
                prop_assert!(volume.high() <= volume.total());
            }
            for (&slot, &owner) in &model {
                prop_assert!(volume.neighbours(slot).any(|each| each == (slot, owner)));
            }
        }
    }
}
