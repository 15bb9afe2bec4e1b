// SPDX-License-Identifier: GPL-2.0

//! Where each page of a guest is.

use super::Slot;

/// Where a page is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// In a frame, or nowhere since it is zero; only the host's file system knows.
    #[default]
    Frame,
    /// As above, and it has a slot, to which it returns: with what it was when it came from there.
    Kept(Slot),
    /// Only in a slot, unless the guest has given its content up meanwhile.
    Out(Slot),
}

impl Place {
    /// Its slot, if it has one.
    #[must_use]
    pub const fn slot(self) -> Option<Slot> {
        match self {
            Self::Frame => None,
            Self::Kept(slot) | Self::Out(slot) => Some(slot),
        }
    }
}

/// Where the pages of a guest are, and how long ago each was used.
#[derive(Debug)]
pub struct PageMap {
    places: Box<[Place]>,
    ages: Box<[u8]>,
    /// Which pages were written and, as far as sweeps tell, have not been used since.
    written: Box<[bool]>,
    out: u64,
    /// Where the next pages are looked for that shall leave.
    cursor: usize,
}

impl PageMap {
    /// Of a guest with that many pages, none of which has left its frame.
    #[must_use]
    pub fn new(pages: usize) -> Self {
        Self {
            places: vec![Place::Frame; pages].into(),
            ages: vec![0; pages].into(),
            written: vec![false; pages].into(),
            out: 0,
            cursor: 0,
        }
    }

    /// How many pages there are.
    #[must_use]
    pub const fn pages(&self) -> usize {
        self.places.len()
    }

    /// How many are only in slots.
    #[must_use]
    pub const fn out(&self) -> u64 {
        self.out
    }

    /// Where a page is.
    #[must_use]
    pub fn place(&self, page: usize) -> Place {
        self.places[page]
    }

    /// A page is somewhere else now. One that comes into its frame was used.
    pub fn put(&mut self, page: usize, place: Place) {
        let is_out = |place| u64::from(matches!(place, Place::Out(_)));
        self.out = self.out + is_out(place) - is_out(self.places[page]);
        self.places[page] = place;
        self.ages[page] = 0;
        self.written[page] = false;
    }

    /// The content of a page in a frame has been written to a slot, or needs none since it is zero. That is no use of it.
    pub fn note_written(&mut self, page: usize, slot: Option<Slot>) {
        self.places[page] = slot.map_or(Place::Frame, Place::Kept);
        self.written[page] = true;
    }

    /// Whether a page was written and, as far as sweeps tell, has not been used since.
    #[must_use]
    pub fn is_written(&self, page: usize) -> bool {
        self.written[page]
    }

    /// The slots of all pages that are in their frames too; they are not theirs any more.
    pub fn give_up_kept(&mut self) -> Vec<Slot> {
        self.take_slots(|place| matches!(place, Place::Kept(_)))
    }

    /// All slots; they are not its any more.
    pub fn give_up_all(&mut self) -> Vec<Slot> {
        self.out = 0;
        self.take_slots(|_| true)
    }

    fn take_slots(&mut self, which: impl Fn(Place) -> bool) -> Vec<Slot> {
        self.places
            .iter_mut()
            .zip(&mut self.written)
            .filter(|(place, _)| which(**place))
            .filter_map(|(place, written)| {
                *written = false;
                std::mem::take(place).slot()
            })
            .collect()
    }

    /// How long ago a page was used, in sweeps.
    #[must_use]
    pub fn age(&self, page: usize) -> u8 {
        self.ages[page]
    }

    /// Some time has passed, in which the page was used or not.
    pub fn grow_older(&mut self, page: usize, used: bool) {
        self.ages[page] = if used {
            0
        } else {
            self.ages[page].saturating_add(1)
        };
        self.written[page] &= !used;
    }

    /// All pages from where it ended the last time, once around.
    pub fn round(&self) -> impl Iterator<Item = usize> + use<> {
        let (from, pages) = (self.cursor, self.pages());
        (from..pages).chain(0..from)
    }

    /// The next round begins behind this page.
    pub fn end_round(&mut self, page: usize) {
        self.cursor = (page + 1) % self.pages();
    }
}

#[cfg(test)]
mod tests {
    use super::super::Volume;
    use super::*;

    #[test]
    fn pages_keep_their_slots_until_they_are_given_up() {
        let slots = Volume::new(16).take(&[0, 1, 2]).unwrap();
        let mut map = PageMap::new(4);
        map.put(0, Place::Out(slots[0]));
        map.put(1, Place::Out(slots[1]));
        map.put(2, Place::Kept(slots[2]));
        assert_eq!(map.out(), 2);
        map.put(1, Place::Kept(slots[1]));
        assert_eq!(map.out(), 1);
        assert_eq!(map.give_up_kept(), slots[1..]);
        assert_eq!(map.place(1), Place::Frame);
        assert_eq!(map.give_up_all(), slots[..1]);
        assert_eq!((map.out(), map.place(0)), (0, Place::Frame));
    }

    #[test]
    fn age_counts_from_the_last_use() {
        let mut map = PageMap::new(2);
        for _ in 0..300 {
            map.grow_older(1, false);
        }
        assert_eq!((map.age(0), map.age(1)), (0, u8::MAX));
        map.grow_older(1, true);
        assert_eq!(map.age(1), 0);
        map.grow_older(1, false);
        map.put(1, Place::Frame);
        assert_eq!(map.age(1), 0);
    }

    #[test]
    fn what_is_written_grows_older_until_it_is_used() {
        let slots = Volume::new(16).take(&[0]).unwrap();
        let mut map = PageMap::new(2);
        map.grow_older(0, false);
        map.note_written(0, Some(slots[0]));
        map.note_written(1, None);
        map.grow_older(0, false);
        assert_eq!((map.age(0), map.place(0)), (2, Place::Kept(slots[0])));
        assert!(map.is_written(0) && map.is_written(1));
        map.grow_older(0, true);
        assert!(!map.is_written(0));
        assert_eq!(map.place(0), Place::Kept(slots[0]));
        map.note_written(0, Some(slots[0]));
        assert_eq!(map.give_up_kept(), slots);
        assert!(!map.is_written(0));
    }

    #[test]
    fn rounds_go_on_where_they_ended() {
        let mut map = PageMap::new(4);
        map.end_round(1);
        assert_eq!(map.round().collect::<Vec<_>>(), [2, 3, 0, 1]);
        map.end_round(3);
        assert_eq!(map.round().collect::<Vec<_>>(), [0, 1, 2, 3]);
    }
}
