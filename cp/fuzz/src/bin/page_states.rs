// SPDX-License-Identifier: GPL-2.0

//! ESSA and DIAGNOSE X'10', while the host takes pages and pages them out and in: what the guest did not give up is
//! there, what it did is not, and it is told of what is lost.

#![no_main]

use std::cell::RefCell;
use std::rc::Rc;

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
    /// The guest releases the page, and the pager does something before its memory is gone.
    Release(Pager),
    Pager(Pager),
    Reset,
}

#[derive(Clone, Copy, Debug)]
enum Pager {
    Leave,
    HasLeft,
    Stays,
    ComesBack,
    Arrives,
    IsBack,
}

fn event(input: &mut Unstructured<'_>) -> Result<Event> {
    Ok(match input.int_in_range(0..=11)? {
        0 => Event::Store,
        1 => Event::HostTakes(*input.choose(&Usage::ALL)?),
        2 => Event::Release(pager(input)?),
        3..=6 => Event::Pager(pager(input)?),
        7 if input.ratio(1, 16)? => Event::Reset,
        _ => Event::Essa(*input.choose(&Operation::ALL)?),
    })
}

fn pager(input: &mut Unstructured<'_>) -> Result<Pager> {
    use Pager::{Arrives, ComesBack, HasLeft, IsBack, Leave, Stays};
    input
        .choose(&[Leave, HasLeft, Stays, ComesBack, Arrives, IsBack])
        .copied()
}

/// A guest with one page. Contents are numbers, and 0 is the page of zeroes.
struct World {
    states: Rc<PageStates>,
    /// What is in the page's frame.
    frame: u32,
    /// What is on the paging volume.
    volume: Option<u32>,
    /// What has been read from there.
    arriving: Option<u32>,
    /// The pager is at the page, and has not said yet that it is back.
    coming: bool,
    /// How many contents there have been.
    contents: u32,
    /// What the guest stored last, or zeroes, and whether it must be there.
    stored: u32,
    promised: bool,
    /// What was there when the page became volatile.
    volatile: u32,
}

impl World {
    fn new() -> Self {
        Self {
            states: Rc::new(PageStates::new(PAGE_SIZE)),
            frame: 0,
            volume: None,
            arriving: None,
            coming: false,
            contents: 0,
            stored: 0,
            promised: true,
            volatile: 0,
        }
    }

    fn usage(&self) -> Usage {
        self.states.get(0).expect("a page").usage()
    }

    fn is_preserved(&self) -> bool {
        self.states.get(0).expect("a page").is_preserved()
    }

    /// What is in the page for the guest, which waits for it.
    fn there(&self) -> u32 {
        self.arriving.or(self.volume).unwrap_or(self.frame)
    }

    /// Whoever touches the page waits for that.
    fn arrives(&mut self) {
        if let Some(content) = self.arriving.take() {
            self.frame = content;
        }
    }

    fn pager(&mut self, step: Pager) {
        match step {
            // One lock covers each batch and each page that comes back.
            Pager::Leave | Pager::HasLeft | Pager::Stays | Pager::ComesBack if self.coming => {}
            Pager::Leave => drop(self.states.leave(0)),
            Pager::HasLeft => {
                if self.states.has_left(0) {
                    self.volume = Some(std::mem::take(&mut self.frame));
                }
            }
            Pager::Stays => drop(self.states.stays(0)),
            Pager::ComesBack => {
                if self.states.comes_back(0) {
                    self.arriving = Some(self.volume.take().expect("what is preserved"));
                    self.coming = true;
                }
            }
            Pager::Arrives => self.arrives(),
            Pager::IsBack => {
                self.arrives();
                if self.coming {
                    self.states.is_back(0);
                    self.coming = false;
                }
            }
        }
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Store if self.usage() == Usage::Stable => {
                self.pager(Pager::ComesBack);
                self.arrives();
                self.contents += 1;
                self.stored = self.contents;
                (self.frame, self.promised) = (self.stored, true);
            }
            Event::Store => {}
            Event::HostTakes(usage) => {
                if self.states.take(0, usage) {
                    assert!(matches!(usage, Usage::Unused | Usage::Volatile));
                    assert!(!self.promised || self.stored == 0, "{usage:?}");
                    self.frame = 0;
                }
            }
            Event::Release(step) => self.release(step),
            Event::Pager(step) => self.pager(step),
            Event::Essa(operation) => self.essa(operation),
            Event::Reset => self.states.reset(),
        }
        if !self.is_preserved() {
            // Nobody wants it any more.
            self.volume = None;
        }
        assert!(
            !self.promised || self.there() == self.stored,
            "after {event:?}"
        );
    }

    fn release(&mut self, step: Pager) {
        let states = Rc::clone(&self.states);
        let world = RefCell::new(&mut *self);
        let discard = || {
            let mut world = world.borrow_mut();
            world.pager(step);
            world.frame = 0;
            Ok::<_, ()>(())
        };
        let arrives = |_| world.borrow_mut().arrives();
        states
            .release(0..PAGE_SIZE, arrives, discard)
            .expect("the host gives it back");
        (self.stored, self.promised, self.volatile) = (0, true, 0);
    }

    fn essa(&mut self, operation: Operation) {
        let before = self.states.execute(0, operation).expect("a page");
        let after = self.states.get(0).expect("a page");
        let volatile = before.usage() == Usage::Volatile;
        let intact = volatile && !before.is_discarded();
        if intact {
            assert_eq!(self.there(), self.volatile, "before {operation:?}");
        }
        match operation {
            Operation::SetUnused => self.promised = false,
            Operation::SetVolatile => {
                self.promised = false;
                if !volatile {
                    self.volatile = self.there();
                }
            }
            Operation::SetStableIfNotDiscarded => {
                assert_eq!(after.usage() == Usage::Stable, !before.is_discarded());
                self.promised |= intact && self.there() == self.stored;
            }
            Operation::Get
            | Operation::SetStable
            | Operation::SetPotentiallyVolatile
            | Operation::SetStableResident
            | Operation::SetStableNoDat => {}
        }
        if before.is_discarded() && after.usage() == Usage::Stable {
            (self.stored, self.promised) = (0, true);
        }
        let leaving = 1;
        assert!(
            operation == Operation::Get || after.byte() & 3 != leaving,
            "unnoticed: {operation:?}"
        );
    }
}
