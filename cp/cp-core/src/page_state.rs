// SPDX-License-Identifier: GPL-2.0

//! The states of pages that ESSA (EXTRACT AND SET STORAGE ATTRIBUTES) reads and sets.
//!
//! A guest says of each page what its content is worth: it must be kept (stable), it is worth nothing (unused), it can
//! be had again (volatile), or so unless the page has been changed (potentially volatile). The host may take unused
//! and volatile pages at any time, without asking.
//!
//! A state is a byte, the one that ESSA returns: no-DAT in X'20', the usage in X'0C', the content in X'03'. Only what
//! the guest said and the host did is kept in it, so that the content of a stable or unused page that is not
//! preserved reads as resident: whether it is, or zero, the host knows, since the first touch of a page does not trap.
//!
//! All functions may be called by any number of threads at once, but for [`PageStates::release`]; none blocks or locks.
//!
//! Two more bits, which the guest never sees and no ESSA changes, say that somebody is at the content of a page:
//!
//! - the host brings it back ([`PageStates::comes_back`]): it arrives after all, whatever the guest says meanwhile. Who
//!   takes the page's memory away must wait until it has arrived, or let the page be.
//! - the guest releases it ([`PageStates::release`]): the host does not begin to page it out.
//!
//! So no content that was given up appears again: what has left or begun to is not preserved any longer, what is on its
//! way back is waited for, and nothing of it leaves once more before its memory is gone.

use std::fmt;
use std::ops::{Deref, Index, Range};
use std::sync::atomic::{AtomicU8, Ordering};

use serde::{Deserialize, Serialize};

use crate::diag::ProgramInterruption;

/// The size of a page, in bytes.
pub const PAGE_SIZE: u64 = 4096;

/// What the guest says of a page. The discriminants are those of ESSA, in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum Usage {
    /// The content must be kept.
    Stable = 0x0,
    /// The content is worth nothing.
    Unused = 0x4,
    /// The content can be had again unless the page has been changed.
    PotentiallyVolatile = 0x8,
    /// The content can be had again.
    Volatile = 0xc,
}

const USAGE: u8 = 0xc;

impl Usage {
    /// All of them, in the order in which tables show them.
    pub const ALL: [Self; 4] = [
        Self::Stable,
        Self::Unused,
        Self::PotentiallyVolatile,
        Self::Volatile,
    ];

    /// The letter that tables show it by.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Self::Stable => 'S',
            Self::Unused => 'U',
            Self::PotentiallyVolatile => 'P',
            Self::Volatile => 'V',
        }
    }

    const fn row(self) -> usize {
        self as usize >> 2
    }
}

/// Where the content of a page is. The discriminants are those of ESSA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Content {
    /// In a frame of the host.
    Resident = 0,
    /// Not in a frame, but kept: the host has paged it out.
    Preserved = 2,
    /// Nowhere; it reads as zero. A volatile page with this content was discarded.
    Zero = 3,
}

const CONTENT: u8 = 3;

/// The content of a resident page that is on its way out. The guest never sees it: for it the page is resident, and
/// each ESSA that sets something takes it away, so that the host notices.
const LEAVING: u8 = 1;

impl Content {
    /// All of them, in the order in which tables show them.
    pub const ALL: [Self; 3] = [Self::Resident, Self::Preserved, Self::Zero];

    const fn column(self) -> usize {
        match self {
            Self::Resident => 0,
            Self::Preserved => 1,
            Self::Zero => 2,
        }
    }
}

const NO_DAT: u8 = 0x20;

/// The host brings the content back.
const COMING: u8 = 0x40;

/// The guest gives the content up.
const RELEASING: u8 = 0x80;

/// The state of a page.
///
/// Any byte has a meaning, since others can write to the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State(u8);

impl State {
    /// Reads a byte of a table.
    #[must_use]
    pub const fn new(byte: u8) -> Self {
        Self(byte)
    }

    /// The byte; of a state that [`PageStates::execute`] gives it is also what ESSA returns.
    #[must_use]
    pub const fn byte(self) -> u8 {
        self.0
    }

    /// What the guest said.
    #[must_use]
    pub const fn usage(self) -> Usage {
        match self.0 & USAGE {
            0x0 => Usage::Stable,
            0x4 => Usage::Unused,
            0x8 => Usage::PotentiallyVolatile,
            _ => Usage::Volatile,
        }
    }

    /// Where the content is, as far as the state tells.
    #[must_use]
    pub const fn content(self) -> Content {
        match self.0 & CONTENT {
            0 | LEAVING => Content::Resident,
            2 => Content::Preserved,
            _ => Content::Zero,
        }
    }

    /// Whether the page holds no translation table, says the guest.
    #[must_use]
    pub const fn is_no_dat(self) -> bool {
        self.0 & NO_DAT != 0
    }

    /// Whether the host took the page while it was volatile.
    #[must_use]
    pub fn is_discarded(self) -> bool {
        (self.usage(), self.content()) == (Usage::Volatile, Content::Zero)
    }

    /// Whether only the host knows if the page is resident or zero.
    #[must_use]
    pub fn asks_host(self) -> bool {
        matches!(self.usage(), Usage::Stable | Usage::Unused) && self.content() == Content::Resident
    }

    /// The state with what the host knows.
    #[must_use]
    pub fn with_host(self, resident: impl FnOnce() -> bool) -> Self {
        if self.asks_host() && !resident() {
            self.with_content(Content::Zero)
        } else {
            self
        }
    }

    /// The state after an operation of ESSA, without what the host knows.
    #[must_use]
    pub fn after(self, operation: Operation) -> Self {
        let (usage, content) = (self.usage(), self.content());
        let preserved = content == Content::Preserved;
        match operation {
            Operation::Get => self,
            Operation::SetStableIfNotDiscarded if self.is_discarded() => self,
            Operation::SetStable => Self(self.0 & !NO_DAT).into_stable(),
            Operation::SetStableNoDat => Self(self.0 | NO_DAT).into_stable(),
            Operation::SetStableResident | Operation::SetStableIfNotDiscarded => self.into_stable(),
            // The host need not keep any longer what it has paged out.
            Operation::SetUnused => self.with(Usage::Unused, Content::Resident),
            // What is on its way back will be resident.
            Operation::SetVolatile if preserved && !self.is_coming() => {
                self.with(Usage::Volatile, Content::Zero)
            }
            Operation::SetVolatile if usage == Usage::Volatile => self,
            Operation::SetVolatile => self.with(Usage::Volatile, Content::Resident),
            // Whether a page was changed before it was paged out is not known, so it is kept as it is. A discarded
            // one has nothing that could have been changed.
            Operation::SetPotentiallyVolatile if preserved || self.is_discarded() => self,
            Operation::SetPotentiallyVolatile => {
                self.with(Usage::PotentiallyVolatile, Content::Resident)
            }
        }
    }

    /// The state after the host has taken the page: an unused one stays as it is and a volatile one is discarded.
    /// `None` if the host must not take it, or has done so; nor if its content would arrive after that.
    #[must_use]
    pub fn taken(self) -> Option<Self> {
        match (self.usage(), self.content()) {
            _ if self.is_coming() => None,
            (Usage::Unused, _) => Some(self),
            (Usage::Volatile, Content::Resident) => Some(self.with_content(Content::Zero)),
            _ => None,
        }
    }

    /// Whether the content must be had from where the host has put it.
    #[must_use]
    pub const fn is_preserved(self) -> bool {
        matches!(self.content(), Content::Preserved)
    }

    const fn is_leaving(self) -> bool {
        self.0 & CONTENT == LEAVING
    }

    const fn is_coming(self) -> bool {
        self.0 & COMING != 0
    }

    /// The state as the guest may see it.
    const fn settled(self) -> Self {
        let seen = Self(self.0 & (NO_DAT | USAGE | CONTENT));
        if self.is_leaving() {
            seen.with_content(Content::Resident)
        } else {
            seen
        }
    }

    const fn with(self, usage: Usage, content: Content) -> Self {
        Self(self.0 & !(USAGE | CONTENT) | usage as u8 | content as u8)
    }

    const fn with_content(self, content: Content) -> Self {
        Self(self.0 & !CONTENT | content as u8)
    }

    /// Only a stable page can be preserved, and it stays so.
    fn into_stable(self) -> Self {
        if self.content() == Content::Preserved {
            self.with(Usage::Stable, Content::Preserved)
        } else {
            self.with(Usage::Stable, Content::Resident)
        }
    }
}

/// An operation of ESSA. The discriminants are the operation request codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Operation {
    /// Only return the state.
    Get = 0,
    /// Set stable, and maybe a translation table.
    SetStable = 1,
    /// Set unused.
    SetUnused = 2,
    /// Set volatile.
    SetVolatile = 3,
    /// Set potentially volatile.
    SetPotentiallyVolatile = 4,
    /// Set stable and make it resident.
    SetStableResident = 5,
    /// Set stable if the content was not discarded.
    SetStableIfNotDiscarded = 6,
    /// Set stable and no translation table.
    SetStableNoDat = 7,
}

impl Operation {
    /// All of them, in the order of their codes.
    pub const ALL: [Self; 8] = [
        Self::Get,
        Self::SetStable,
        Self::SetUnused,
        Self::SetVolatile,
        Self::SetPotentiallyVolatile,
        Self::SetStableResident,
        Self::SetStableIfNotDiscarded,
        Self::SetStableNoDat,
    ];

    /// Decodes the operation request code. Code 7 needs facility 147; it, if that is not installed, and those above
    /// are specification exceptions.
    pub fn decode(code: u32, no_dat: bool) -> Result<Self, ProgramInterruption> {
        Self::ALL
            .get(code as usize)
            .copied()
            .filter(|&operation| no_dat || operation != Self::SetStableNoDat)
            .ok_or(ProgramInterruption::Specification)
    }
}

/// The states of all pages of a guest, a byte a page: in a box, or in memory that is shared with others.
#[derive(Debug)]
pub struct PageStates<T = Box<[AtomicU8]>>(T);

impl PageStates {
    /// All pages of `storage` bytes, stable.
    #[must_use]
    pub fn new(storage: u64) -> Self {
        let pages = usize::try_from(storage / PAGE_SIZE).unwrap_or(usize::MAX);
        Self((0..pages).map(|_| AtomicU8::new(0)).collect())
    }
}

impl<T: Deref<Target = [AtomicU8]>> PageStates<T> {
    /// The states in a table.
    pub const fn with_table(table: T) -> Self {
        Self(table)
    }

    /// The table.
    pub const fn table(&self) -> &T {
        &self.0
    }

    fn byte(&self, address: u64) -> Option<&AtomicU8> {
        self.0.get(usize::try_from(address / PAGE_SIZE).ok()?)
    }

    /// The state of the page at an absolute address; `None` if there is no such page.
    #[must_use]
    pub fn get(&self, address: u64) -> Option<State> {
        self.byte(address)
            .map(|byte| State(byte.load(Ordering::Acquire)))
    }

    /// Changes the state of a page unless `change` says no; gives the state of before.
    fn update(byte: &AtomicU8, change: impl Fn(State) -> Option<State>) -> Option<State> {
        byte.fetch_update(Ordering::AcqRel, Ordering::Acquire, |before| {
            change(State(before)).map(State::byte)
        })
        .ok()
        .map(State)
    }

    /// Executes ESSA on the page at an absolute address: the state of before, without what the host knows.
    ///
    /// An addressing exception if there is no such page.
    pub fn execute(
        &self,
        address: u64,
        operation: Operation,
    ) -> Result<State, ProgramInterruption> {
        let byte = self.byte(address).ok_or(ProgramInterruption::Addressing)?;
        // `after` gives a state for each.
        Ok(Self::update(byte, |state| Some(state.after(operation)))
            .unwrap_or_default()
            .settled())
    }

    /// Takes the page at an absolute address, if it is of that usage and may still be taken.
    ///
    /// No CPU may use the page from before this call until the host has taken its memory: the state tells who touches
    /// it next that it is gone, not who is at it.
    #[must_use]
    pub fn take(&self, address: u64, usage: Usage) -> bool {
        self.change(address, |state| {
            state.taken().filter(|_| state.usage() == usage)
        })
    }

    /// Begins to page the page at an absolute address out, if it is stable and resident. From here on the guest can take
    /// that back, by ESSA or by releasing the page.
    #[must_use]
    pub fn leave(&self, address: u64) -> bool {
        let stable = Usage::Stable as u8 | Content::Resident as u8;
        self.change(address, |state| {
            (state.0 & !NO_DAT == stable).then_some(State(state.0 | LEAVING))
        })
    }

    /// The content of a page that was leaving is preserved. Not if the guest has taken that back.
    #[must_use]
    pub fn has_left(&self, address: u64) -> bool {
        self.change(address, |state| {
            state
                .is_leaving()
                .then(|| state.with_content(Content::Preserved))
        })
    }

    /// A page that was leaving stays, or is no more since it was zero. Not if the guest has seen to that.
    pub fn stays(&self, address: u64) -> bool {
        self.change(address, |state| {
            state
                .is_leaving()
                .then(|| state.with_content(Content::Resident))
        })
    }

    /// Begins to bring the content of a page back, if it is preserved still. From here on it comes, and the guest cannot
    /// give it up without waiting for it.
    #[must_use]
    pub fn comes_back(&self, address: u64) -> bool {
        self.change(address, |state| {
            state.is_preserved().then_some(State(state.0 | COMING))
        })
    }

    /// The content of a page that was coming back is in its frame.
    pub fn is_back(&self, address: u64) {
        self.change(address, |state| {
            let arrived = State(state.0 & !COMING);
            Some(if arrived.is_preserved() {
                arrived.with_content(Content::Resident)
            } else {
                arrived
            })
        });
    }

    /// The content of a page that was coming back does not come.
    pub fn stays_out(&self, address: u64) {
        self.change(address, |state| {
            state.is_coming().then_some(State(state.0 & !COMING))
        });
    }

    /// Gives up what is in the pages of a range of absolute addresses, in frames or wherever the host has put it. They
    /// read as zero afterwards, until something is stored.
    ///
    /// `arrive` is called for each page on its way back: it touches it, which takes until its content is there. `discard`
    /// gives the memory of the range back. Only one thread may be in this function.
    pub fn release<E>(
        &self,
        range: Range<u64>,
        arrive: impl Fn(u64),
        discard: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        let pages = || range.clone().step_by(PAGE_SIZE as usize);
        for page in pages() {
            if self.give_up(page) {
                arrive(page);
            }
        }
        let discarded = discard();
        for page in pages() {
            self.change(page, |state| Some(State(state.0 & !RELEASING)));
        }
        discarded
    }

    /// Begins to release a page: what is preserved, or about to be, is worth nothing. Tells whether it is on its way back.
    fn give_up(&self, address: u64) -> bool {
        let before = self.byte(address).and_then(|byte| {
            Self::update(byte, |state| {
                let releasing = State(state.0 | RELEASING);
                Some(if state.is_preserved() || state.is_leaving() {
                    releasing.with_content(Content::Resident)
                } else {
                    releasing
                })
            })
        });
        before.is_some_and(State::is_coming)
    }

    fn change(&self, address: u64, change: impl Fn(State) -> Option<State>) -> bool {
        self.byte(address)
            .and_then(|byte| Self::update(byte, change))
            .is_some()
    }

    /// The guest was reset: all pages are stable. What is preserved stays so.
    pub fn reset(&self) {
        for byte in self.0.iter() {
            Self::update(byte, |state| Some(state.after(Operation::SetStable)));
        }
    }
}

/// How many pages are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateTable([[u64; Content::ALL.len()]; Usage::ALL.len()]);

impl StateTable {
    /// Counts a page; its state is with what the host knows.
    pub fn count(&mut self, state: State) {
        self.0[state.usage().row()][state.content().column()] += 1;
    }

    /// The number of pages in all states.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.as_flattened().iter().sum()
    }
}

impl Index<(Usage, Content)> for StateTable {
    type Output = u64;

    fn index(&self, (usage, content): (Usage, Content)) -> &u64 {
        &self.0[usage.row()][content.column()]
    }
}

impl fmt::Display for StateTable {
    /// As the guest prints its own: rows S, U, P, V and tot, columns tot, r, p and z.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |name: &str, cells: [&dyn fmt::Display; 4]| {
            let [total, resident, preserved, zero] = cells;
            writeln!(
                f,
                "{name:<3} {total:>10} {resident:>10} {preserved:>10} {zero:>10}"
            )
        };
        line("", [&"tot", &"r", &"p", &"z"])?;
        let mut sums = [0; 3];
        for (usage, [r, p, z]) in Usage::ALL.into_iter().zip(&self.0) {
            line(&usage.letter().to_string(), [&(r + p + z), r, p, z])?;
            sums = [sums[0] + r, sums[1] + p, sums[2] + z];
        }
        line("tot", [&self.total(), &sums[0], &sums[1], &sums[2]])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STORAGE: u64 = 1 << 20;

    /// Each state, and the one after each operation of ESSA.
    const AFTER: [(u8, [u8; 8]); 6] = [
        (0x00, [0x00, 0x00, 0x04, 0x0c, 0x08, 0x00, 0x00, 0x20]),
        (0x02, [0x02, 0x02, 0x04, 0x0f, 0x02, 0x02, 0x02, 0x22]),
        (0x04, [0x04, 0x00, 0x04, 0x0c, 0x08, 0x00, 0x00, 0x20]),
        (0x08, [0x08, 0x00, 0x04, 0x0c, 0x08, 0x00, 0x00, 0x20]),
        (0x0c, [0x0c, 0x00, 0x04, 0x0c, 0x08, 0x00, 0x00, 0x20]),
        (0x0f, [0x0f, 0x00, 0x04, 0x0f, 0x0f, 0x00, 0x0f, 0x20]),
    ];

    #[test]
    fn every_operation_on_every_state() {
        for (before, after) in AFTER {
            for (code, after) in (0..).zip(after) {
                let operation = Operation::decode(code, true).unwrap();
                assert_eq!(operation as u32, code);
                for no_dat in [0, NO_DAT] {
                    // Only codes 1 and 7 decide on it.
                    let after = match code {
                        1 | 7 => after,
                        _ => after | no_dat,
                    };
                    let states = PageStates::new(STORAGE);
                    states.table()[5].store(before | no_dat, Ordering::Relaxed);
                    let returned = states.execute(0x5000, operation).unwrap();
                    assert_eq!(returned.byte(), before | no_dat, "{before:02x} {code}");
                    let stored = states.get(0x5fff).unwrap();
                    assert_eq!(stored.byte(), after, "{before:02x} {code}");
                    assert_eq!(stored.is_no_dat(), after & NO_DAT != 0);
                    assert_eq!(stored.is_discarded(), after & !NO_DAT == 0x0f);
                    // Its neighbours are left alone.
                    assert_eq!(states.get(0x4fff), Some(State::default()));
                    assert_eq!(states.get(0x6000), Some(State::default()));
                    states.reset();
                    let kept = if after & 0xf == 2 { 2 } else { 0 };
                    assert_eq!(states.get(0x5000), Some(State::new(kept)));
                }
            }
        }
    }

    #[test]
    fn the_host_takes_unused_and_volatile_pages_only() {
        for (before, _) in AFTER {
            for usage in Usage::ALL {
                let states = PageStates::new(STORAGE);
                states.table()[1].store(before, Ordering::Relaxed);
                let after = match (before, usage) {
                    (0x04, Usage::Unused) => Some(0x04),
                    (0x0c, Usage::Volatile) => Some(0x0f),
                    _ => None,
                };
                assert_eq!(states.take(0x1000, usage), after.is_some());
                let stored = states.get(0x1000).map(State::byte);
                assert_eq!(stored, Some(after.unwrap_or(before)));
            }
        }
        assert!(!PageStates::new(STORAGE).take(STORAGE, Usage::Unused));
    }

    #[test]
    fn a_page_leaves_unless_the_guest_says_something() {
        let states = PageStates::new(STORAGE);
        let state = || states.get(0x1000).unwrap();
        // It leaves, and comes back.
        assert!(!states.has_left(0x1000) && !states.stays(0x1000));
        assert!(states.leave(0x1000) && !states.leave(0x1000));
        assert_eq!(states.execute(0x1000, Operation::Get).unwrap().byte(), 0);
        assert!(states.has_left(0x1000) && state().is_preserved());
        assert!(!states.stays(0x1000) && states.comes_back(0x1000));
        states.is_back(0x1000);
        assert_eq!(state(), State::default());
        // It stays.
        assert!(states.leave(0x1000) && states.stays(0x1000) && !states.has_left(0x1000));
        // The guest says something of it.
        for operation in Operation::ALL {
            states.table()[1].store(0, Ordering::Relaxed);
            assert!(states.leave(0x1000));
            let before = states.execute(0x1000, operation).unwrap();
            assert_eq!(before, State::default());
            assert_eq!(
                states.has_left(0x1000),
                operation == Operation::Get,
                "{operation:?}"
            );
        }
        for byte in [0x04, 0x08, 0x0c, 0x0f, 0x02, LEAVING, COMING, RELEASING] {
            states.table()[1].store(byte, Ordering::Relaxed);
            assert!(!states.leave(0x1000), "{byte:#x}");
        }
    }

    #[test]
    fn no_operation_sees_or_stops_who_is_at_a_page() {
        for (before, after) in AFTER {
            for (operation, after) in Operation::ALL.into_iter().zip(after) {
                for bits in [COMING, RELEASING, COMING | RELEASING] {
                    let states = PageStates::new(STORAGE);
                    states.table()[1].store(before | bits, Ordering::Relaxed);
                    let returned = states.execute(0x1000, operation).unwrap();
                    assert_eq!(returned.byte(), before, "{operation:?}");
                    // The content arrives: it is not lost yet.
                    let arrives = before == 0x02 && bits & COMING != 0;
                    let after = match operation {
                        Operation::SetVolatile if arrives => 0x0c,
                        _ => after,
                    };
                    let stored = states.get(0x1000).unwrap().byte();
                    assert_eq!(stored, after | bits, "{operation:?}");
                }
            }
        }
    }

    #[test]
    fn what_comes_back_is_not_taken() {
        for operation in [Operation::SetUnused, Operation::SetVolatile] {
            let states = PageStates::new(STORAGE);
            assert!(states.leave(0x1000) && states.has_left(0x1000) && states.comes_back(0x1000));
            states.execute(0x1000, operation).unwrap();
            let usage = states.get(0x1000).unwrap().usage();
            assert!(!states.take(0x1000, usage));
            states.is_back(0x1000);
            assert!(states.take(0x1000, usage));
        }
    }

    #[test]
    fn what_is_released_neither_leaves_nor_comes_back() {
        let states = PageStates::new(STORAGE);
        let release = |discard: &dyn Fn()| {
            let arrived = std::cell::RefCell::new(Vec::new());
            let discard = || {
                discard();
                Err("not now")
            };
            let arrive = |page| arrived.borrow_mut().push(page);
            let refused = states.release(0x1000..0x3000, arrive, discard);
            assert_eq!(refused, Err("not now"));
            assert_eq!(states.get(0x2000), Some(State::default()));
            arrived.into_inner()
        };
        let nothing_moves = || assert!(!states.leave(0x1000) && !states.comes_back(0x1000));
        assert_eq!(release(&nothing_moves), []);
        assert!(states.leave(0x1000));
        assert_eq!(release(&|| assert!(!states.has_left(0x1000))), []);
        assert!(states.leave(0x1000) && states.has_left(0x1000));
        assert_eq!(release(&nothing_moves), []);
        assert_eq!(states.get(0x1000), Some(State::default()));
        // What is on its way already is waited for.
        assert!(states.leave(0x1000) && states.has_left(0x1000) && states.comes_back(0x1000));
        assert_eq!(release(&nothing_moves), [0x1000]);
        assert!(!states.leave(0x1000));
        states.is_back(0x1000);
        assert_eq!(states.get(0x1000), Some(State::default()));
        // It may also turn out that it does not come.
        assert!(states.leave(0x1000) && states.has_left(0x1000) && states.comes_back(0x1000));
        states.stays_out(0x1000);
        assert!(states.get(0x1000).unwrap().is_preserved());
        assert_eq!(release(&nothing_moves), []);
        // Beyond storage there is nothing to release.
        let done: Result<(), ()> = states.release(STORAGE..STORAGE + PAGE_SIZE, |_| (), || Ok(()));
        assert_eq!(done, Ok(()));
    }

    #[test]
    fn the_host_knows_what_is_resident() {
        for (state, zero) in [
            (0x00, 0x03),
            (0x24, 0x27),
            (0x02, 0x02),
            (0x08, 0x08),
            (0x0c, 0x0c),
        ] {
            let state = State::new(state);
            assert_eq!(state.with_host(|| true), state);
            assert_eq!(state.with_host(|| false).byte(), zero);
        }
    }

    #[test]
    fn other_codes_and_pages_are_refused() {
        let refused = Err(ProgramInterruption::Specification);
        for code in [8, 15, u32::MAX] {
            assert_eq!(Operation::decode(code, true), refused);
        }
        assert_eq!(Operation::decode(7, false), refused);
        let states = PageStates::new(STORAGE);
        for address in [STORAGE, u64::MAX] {
            let refused = Err(ProgramInterruption::Addressing);
            assert_eq!(states.execute(address, Operation::Get), refused);
            assert_eq!(states.get(address), None);
        }
    }

    #[test]
    fn the_table_is_the_guests() {
        let mut table = StateTable::default();
        for (state, pages) in [
            (0x00, 3),
            (0x02, 1),
            (0x03, 2),
            (0x04, 5),
            (0x07, 40),
            (0x0c, 6),
            (0x0f, 7),
        ] {
            (0..pages).for_each(|_| table.count(State::new(state)));
        }
        assert_eq!(table[(Usage::Volatile, Content::Zero)], 7);
        let expected = "\
           tot          r          p          z
S            6          3          1          2
U           45          5          0         40
P            0          0          0          0
V           13          6          0          7
tot         64         14          1         49
";
        assert_eq!(table.to_string().trim_start(), expected.trim_start());
        assert_eq!(table.to_string().lines().next().unwrap().len(), 47);
        assert_eq!(table.total(), 64);
    }

    #[derive(Clone, Copy, Debug)]
    enum Event {
        Essa(Operation),
        HostTakes(Usage),
        /// The guest writes to the page, as it may if it is stable.
        Write,
    }

    proptest! {
        /// Nothing is lost that the guest did not give up, and what was lost is said to be.
        #[test]
        fn content_is_kept_or_known_to_be_lost(events in proptest::collection::vec(prop_oneof![
            8 => (0..8_usize).prop_map(|code| Event::Essa(Operation::ALL[code])),
            4 => prop_oneof![Just(Usage::Stable), Just(Usage::Unused), Just(Usage::PotentiallyVolatile),
                             Just(Usage::Volatile)].prop_map(Event::HostTakes),
            3 => Just(Event::Write),
        ], 0..60)) {
            let states = PageStates::new(PAGE_SIZE);
            // Whether the content is what the guest wrote last, and whether it must be.
            let (mut written, mut promised) = (true, true);
            for event in events {
                match event {
                    Event::Write if states.get(0).unwrap().usage() == Usage::Stable => {
                        (written, promised) = (true, true);
                    }
                    Event::Write => {}
                    Event::HostTakes(usage) => {
                        if states.take(0, usage) {
                            prop_assert!(!promised);
                            written = false;
                        }
                    }
                    Event::Essa(operation) => {
                        let before = states.execute(0, operation).unwrap();
                        let after = states.get(0).unwrap();
                        if before.is_discarded() {
                            prop_assert!(!written);
                        }
                        match operation {
                            Operation::SetUnused | Operation::SetVolatile => promised = false,
                            Operation::SetStableIfNotDiscarded => {
                                prop_assert_eq!(after.usage() == Usage::Stable, !before.is_discarded());
                                promised |= written && before.usage() == Usage::Volatile;
                            }
                            _ => {}
                        }
                        prop_assert_eq!(after.is_discarded(), before.is_discarded()
                            && matches!(operation, Operation::Get | Operation::SetVolatile
                                | Operation::SetPotentiallyVolatile | Operation::SetStableIfNotDiscarded));
                    }
                }
                prop_assert!(written || !promised);
            }
        }

        #[test]
        fn any_byte_has_a_meaning(byte: u8, code in 0..8_usize) {
            let state = State::new(byte).after(Operation::ALL[code]);
            let _ = (state.taken(), state.is_discarded(), state.asks_host());
        }
    }
}
