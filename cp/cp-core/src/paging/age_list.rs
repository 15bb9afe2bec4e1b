// SPDX-License-Identifier: GPL-2.0

//! The aging list: the pages that are the next to leave.

use std::sync::atomic::{AtomicBool, Ordering};

use super::demand::{ByAge, demand};

/// What becomes of the pages on the aging list, as `SET AGELIST` says.
///
/// Nobody keeps the list itself: it is what a demand for so many frames would take.
#[derive(Debug)]
pub struct AgeList {
    size: u64,
    early_writes: AtomicBool,
    keep_slot: AtomicBool,
}

impl AgeList {
    /// One of so many pages, whose slots are kept.
    #[must_use]
    pub const fn new(size: u64, early_writes: bool) -> Self {
        Self {
            size,
            early_writes: AtomicBool::new(early_writes),
            keep_slot: AtomicBool::new(true),
        }
    }

    /// How many pages are on it at most.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Whether its pages are written before frames are short.
    #[must_use]
    pub fn early_writes(&self) -> bool {
        self.early_writes.load(Ordering::Relaxed)
    }

    /// `EARLYWRITES YES` or `NO`.
    pub fn set_early_writes(&self, on: bool) {
        self.early_writes.store(on, Ordering::Relaxed);
    }

    /// Whether a page has its slot still when it is used again.
    #[must_use]
    pub fn keep_slot(&self) -> bool {
        self.keep_slot.load(Ordering::Relaxed)
    }

    /// `KEEPSLOT YES` or `NO`.
    pub fn set_keep_slot(&self, on: bool) {
        self.keep_slot.store(on, Ordering::Relaxed);
    }

    /// How many pages of each age of each guest are on it. What has been used since the last sweep is not.
    #[must_use]
    pub fn members(&self, guests: &[ByAge]) -> Vec<ByAge> {
        let mut members = demand(self.size, guests);
        for guest in &mut members {
            guest[0] = 0;
        }
        members
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_to_leave_are_on_it_unless_they_are_in_use() {
        let guests = [[100, 30, 0, 0, 0, 0, 0, 10], [50, 0, 0, 0, 0, 0, 0, 0]];
        let few = AgeList::new(20, true);
        assert_eq!(few.members(&guests)[0], [0, 10, 0, 0, 0, 0, 0, 10]);
        let many = AgeList::new(1000, true);
        let members = [[0, 30, 0, 0, 0, 0, 0, 10], [0; 8]];
        assert_eq!(many.members(&guests), members);
    }
}
