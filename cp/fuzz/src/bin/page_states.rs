// SPDX-License-Identifier: GPL-2.0

//! ESSA, while the host takes pages and pages them out and in: what the guest did not give up is there, and it is told of
//! what is not.

#![no_main]

use arbitrary::{Result, Unstructured};
use cp_core::page_state::{Operation, PAGE_SIZE, PageStates, Usage};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut world = World::new();
    for event in cp_fuzz::steps(&mut Unstructured::new(input), event) {
        world.happens(event);
    }
});

#[derive(Clone, Copy, Debug)]
enum Event {
    Essa(Operation),
    /// The guest stores to the page, as it may if it is stable.
    Store,
    HostTakes(Usage),
    Leave,
    HasLeft,
    ComesBack,
    Reset,
}

fn event(input: &mut Unstructured<'_>) -> Result<Event> {
    Ok(match input.int_in_range(0..=9)? {
        0 => Event::Store,
        1 => Event::HostTakes(*input.choose(&Usage::ALL)?),
        2 => Event::Leave,
        3 => Event::HasLeft,
        4 => Event::ComesBack,
        5 if input.ratio(1, 16)? => Event::Reset,
        _ => Event::Essa(*input.choose(&Operation::ALL)?),
    })
}

/// A guest with one page. Contents are numbers, and 0 is the page of zeroes.
struct World {
    states: PageStates,
    /// What is in the page's frame.
    frame: u32,
    /// What is on the paging volume.
    volume: Option<u32>,
    /// What the guest stored last, and whether it must be there.
    stored: u32,
    promised: bool,
    /// What was there when the page became volatile.
    volatile: u32,
}

impl World {
    fn new() -> Self {
        Self {
            states: PageStates::new(PAGE_SIZE),
            frame: 0,
            volume: None,
            stored: 0,
            promised: true,
            volatile: 0,
        }
    }

    fn is_preserved(&self) -> bool {
        self.states.get(0).expect("a page").is_preserved()
    }

    fn comes_back(&mut self) {
        if self.is_preserved() {
            self.frame = self.volume.take().expect("what is preserved");
        }
        self.states.stays(0);
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Store if self.states.get(0).expect("a page").usage() == Usage::Stable => {
                self.comes_back();
                self.stored += 1;
                (self.frame, self.promised) = (self.stored, true);
            }
            Event::Store => {}
            Event::HostTakes(usage) => {
                if self.states.take(0, usage) {
                    assert!(!self.promised, "{usage:?}");
                    self.frame = 0;
                }
            }
            Event::Leave => drop(self.states.leave(0)),
            Event::HasLeft => {
                if self.states.has_left(0) {
                    self.volume = Some(std::mem::take(&mut self.frame));
                }
            }
            Event::ComesBack => self.comes_back(),
            Event::Essa(operation) => self.essa(operation),
            Event::Reset => self.states.reset(),
        }
        if !self.is_preserved() {
            // Nobody wants it any more.
            self.volume = None;
        }
        let there = self.volume.unwrap_or(self.frame);
        assert!(!self.promised || there == self.stored, "after {event:?}");
    }

    fn essa(&mut self, operation: Operation) {
        let before = self.states.execute(0, operation).expect("a page");
        let after = self.states.get(0).expect("a page");
        let volatile = before.usage() == Usage::Volatile;
        let intact = volatile && !before.is_discarded();
        if intact {
            assert_eq!(self.frame, self.volatile, "before {operation:?}");
        }
        match operation {
            Operation::SetUnused => self.promised = false,
            Operation::SetVolatile => {
                self.promised = false;
                if !volatile {
                    self.volatile = self.frame;
                }
            }
            Operation::SetStableIfNotDiscarded => {
                assert_eq!(after.usage() == Usage::Stable, !before.is_discarded());
                self.promised |= intact && self.frame == self.stored;
            }
            Operation::Get
            | Operation::SetStable
            | Operation::SetPotentiallyVolatile
            | Operation::SetStableResident
            | Operation::SetStableNoDat => {}
        }
        let leaving = 1;
        assert!(
            operation == Operation::Get || after.byte() & 3 != leaving,
            "unnoticed: {operation:?}"
        );
    }
}
