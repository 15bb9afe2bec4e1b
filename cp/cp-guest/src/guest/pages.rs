// SPDX-License-Identifier: GPL-2.0

//! ESSA, and pages that the host takes.

use std::sync::atomic::Ordering;

use cp_core::diag::ProgramInterruption;
use cp_core::page_state::Usage;
use cp_proto::Report;
use cp_proto::counters::Counter;

use super::{Exception, Guest, Shared};
use crate::host::{Host, NotDiscarded};
use crate::link::{Receiver, System};
use crate::page_states::Access;

impl<H: Host, S: System> Guest<H, S> {
    /// ESSA with that operation request code on the page at an absolute address: what it returns. The hottest of all
    /// calls: no lock, no system call.
    pub fn essa(&self, address: u64, code: u32) -> Result<u64, Exception> {
        let Shared {
            counters, pages, ..
        } = &*self.shared;
        counters.add(Counter::EssaCalls, 1);
        match pages.essa(&self.shared.host, address, code) {
            Ok((operation, state)) => {
                counters.add(operation.into(), 1);
                Ok(state)
            }
            Err(interruption) => {
                counters.add(Counter::EssaErrors, 1);
                Err(interruption.into())
            }
        }
    }

    /// Whether a CPU may access the page at an absolute address. No lock, no system call.
    pub fn access(&self, address: u64) -> Result<Access, ProgramInterruption> {
        self.shared.pages.access(address)
    }

    /// A CPU touched a discarded page.
    pub fn count_block_volatility(&self) {
        self.shared.counters.add(Counter::BlockVolatility, 1);
    }

    /// A device, a balloon say, gives the memory of pages back.
    pub fn discard(&self, address: u64, bytes: u64) -> Result<(), NotDiscarded> {
        let Shared { host, pages, .. } = &*self.shared;
        pages.release(host, address, bytes)
    }

    /// The oracle: a device gets or gives up storage. If the guest does not need what is in it, it will lose data one
    /// day, so it ends here and now.
    pub fn device(&self, name: &str, address: u64, length: u64, write: bool) {
        if let Some((page, state)) = self.shared.pages.forbidden(address, length) {
            let does = if write { "writes" } else { "reads" };
            let usage = match state.usage() {
                Usage::Unused => "unused",
                _ if state.is_discarded() => "volatile, discarded",
                _ => "volatile",
            };
            self.shared.stop(&format!(
                "oracle: device {name} {does} page {page:#x}: {usage}"
            ));
        }
    }

    /// What [`Host::exclusive`] asked for: lets CPUs forget pages that may be paged out, and takes a batch of pages. No
    /// CPU executes instructions.
    pub fn exclusive(&self) {
        let Shared {
            host,
            counters,
            pages,
            swept,
            ..
        } = &*self.shared;
        if swept.swap(false, Ordering::AcqRel) {
            host.flush();
        }
        let done = pages.take(host);
        if pages.is_wanted() {
            host.exclusive();
        }
        if let Some((id, taken)) = done {
            counters.add(Counter::UnusedTaken, taken.unused);
            counters.add(Counter::VolatileTaken, taken.volatile);
            if let Some(system) = &self.system
                && let Err(error) = system.report(&Report::Taken { id, taken })
            {
                self.shared.lost(&error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Machine, STORAGE};
    use super::*;
    use crate::page_states::Options;
    use cp_core::page_state::{Operation, PAGE_SIZE};
    use cp_proto::{Event, Selection, Taken};
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    const SELECTION: Selection = Selection {
        pages: u64::MAX,
        only: None,
        volatile_share: Selection::ALL,
        random: None,
    };

    impl Machine {
        fn essa(&self, address: u64, operation: Operation) -> u64 {
            self.guest.essa(address, operation as u32).unwrap()
        }

        /// The host wants pages; none is taken yet.
        fn want(&self, selection: Selection) {
            self.shared.event(Event::Take { id: 7, selection });
        }

        /// QEMU runs the exclusive sections that it is asked for; how many.
        fn run_exclusive(&self) -> usize {
            (0..)
                .take_while(|_| self.host.exclusive.swap(false, Ordering::Relaxed))
                .inspect(|_| self.guest.exclusive())
                .count()
        }

        fn taken(&self) -> Vec<Taken> {
            self.reports()
                .iter()
                .map(|report| match *report {
                    Report::Taken { id: 7, taken } => taken,
                    ref other => panic!("{other:?}"),
                })
                .collect()
        }
    }

    /// Page 16 is unused and page 32 volatile; both, and their neighbours, have content.
    fn machine() -> Machine {
        let machine = Machine::zvm();
        machine.store(0, &[1; STORAGE as usize]);
        machine.essa(16 * PAGE_SIZE, Operation::SetUnused);
        machine.essa(32 * PAGE_SIZE, Operation::SetVolatile);
        machine
    }

    fn content(machine: &Machine, page: u64) -> u8 {
        let bytes = machine.load(page * PAGE_SIZE, PAGE_SIZE as usize);
        assert!(bytes.iter().all(|&byte| byte == bytes[0]));
        bytes[0]
    }

    #[test]
    fn essa_has_its_exceptions_and_is_counted() {
        let machine = Machine::zvm();
        assert_eq!(machine.guest.essa(0x5000, 3), Ok(0));
        assert_eq!(machine.guest.essa(0x5000, 0), Ok(0xc));
        assert_eq!(machine.guest.essa(0x5000, 5), Ok(0xc));
        assert_eq!(*machine.host.populated.lock().unwrap(), [0x5000]);
        assert_eq!(machine.guest.essa(0x5000, 7), Err(Exception::Program(6)));
        assert_eq!(machine.guest.essa(0x5000, 8), Err(Exception::Program(6)));
        assert_eq!(machine.guest.essa(STORAGE, 1), Err(Exception::Program(5)));
        for (counter, expected) in [
            (Counter::EssaCalls, 6),
            (Counter::EssaErrors, 3),
            (Counter::EssaGet, 1),
            (Counter::EssaVolatile, 1),
            (Counter::EssaStableResident, 1),
        ] {
            assert_eq!(machine.counter(counter), expected, "{}", counter.name());
        }
    }

    #[test]
    fn unused_and_volatile_pages_are_taken() {
        let machine = machine();
        machine.want(SELECTION);
        assert_eq!((content(&machine, 16), content(&machine, 32)), (1, 1));
        assert_eq!(machine.run_exclusive(), 1);
        let taken = Taken {
            unused: 1,
            volatile: 1,
        };
        assert_eq!(machine.taken(), [taken]);
        assert_eq!(machine.counter(Counter::UnusedTaken), 1);
        assert_eq!(machine.counter(Counter::VolatileTaken), 1);
        for page in 0..STORAGE / PAGE_SIZE {
            let kept = u8::from(![16, 32].contains(&page));
            assert_eq!(content(&machine, page), kept, "page {page}");
        }
        let refused = Err(ProgramInterruption::BlockVolatility);
        assert_eq!(machine.guest.access(32 * PAGE_SIZE), refused);
        assert_eq!(machine.guest.access(16 * PAGE_SIZE), Ok(Access::Now));
        let discarded = machine.essa(32 * PAGE_SIZE, Operation::SetStableIfNotDiscarded);
        assert_eq!(discarded, 0xf);
        // A page is discarded once.
        machine.want(SELECTION);
        machine.run_exclusive();
        assert_eq!(machine.taken()[1].volatile, 0);
    }

    #[test]
    fn a_page_that_becomes_stable_before_it_is_taken_is_not() {
        for operation in [
            Operation::SetStable,
            Operation::SetStableResident,
            Operation::SetStableIfNotDiscarded,
        ] {
            let machine = machine();
            machine.want(SELECTION);
            // Between the look and the exclusive section.
            for page in [16, 32] {
                machine.essa(page * PAGE_SIZE, operation);
                machine.store(page * PAGE_SIZE, &[2; PAGE_SIZE as usize]);
            }
            machine.run_exclusive();
            assert_eq!(machine.taken(), [Taken::default()]);
            assert_eq!((content(&machine, 16), content(&machine, 32)), (2, 2));
            assert_eq!(machine.guest.access(32 * PAGE_SIZE), Ok(Access::Now));
        }
    }

    #[test]
    fn a_page_of_another_usage_than_when_it_was_looked_at_is_not_taken() {
        let machine = machine();
        machine.want(Selection {
            only: Some(Usage::Unused),
            ..SELECTION
        });
        machine.essa(16 * PAGE_SIZE, Operation::SetVolatile);
        machine.run_exclusive();
        assert_eq!(machine.taken(), [Taken::default()]);
        assert_eq!((content(&machine, 16), content(&machine, 32)), (1, 1));
    }

    #[test]
    fn between_batches_the_guest_goes_on() {
        let machine = Machine::with_storage(16 << 20);
        let pages = (16 << 20) / PAGE_SIZE;
        for page in 0..pages {
            machine.essa(page * PAGE_SIZE, Operation::SetVolatile);
        }
        machine.want(SELECTION);
        machine.host.exclusive.store(false, Ordering::Relaxed);
        machine.guest.exclusive();
        assert!(
            machine.host.exclusive.load(Ordering::Relaxed),
            "asks for another section"
        );
        assert!(machine.taken().is_empty());
        // The last page has not been taken yet.
        let last = (pages - 1) * PAGE_SIZE;
        assert_eq!(machine.essa(last, Operation::SetStableIfNotDiscarded), 0xc);
        machine.store(last, &[2; PAGE_SIZE as usize]);
        assert!(machine.run_exclusive() > 2);
        assert_eq!(machine.taken()[0].volatile, pages - 1);
        assert_eq!(content(&machine, pages - 1), 2);
    }

    /// The state says that the page is gone before the CPUs forget it, and its content goes after that.
    #[test]
    fn the_steps_are_in_order() {
        let machine = machine();
        let (host, shared) = (machine.host.clone(), Arc::clone(&machine.shared));
        let seen = Arc::new(std::sync::Mutex::new(None));
        let flushed = Arc::clone(&seen);
        *machine.host.on_flush.lock().unwrap() = Some(Box::new(move || {
            let access = shared.pages().access(32 * PAGE_SIZE);
            let discarded = host.discarded.lock().unwrap().clone();
            *flushed.lock().unwrap() = Some((access, discarded));
        }));
        machine.want(SELECTION);
        assert_eq!(*seen.lock().unwrap(), None);
        machine.run_exclusive();
        let refused = Err(ProgramInterruption::BlockVolatility);
        assert_eq!(*seen.lock().unwrap(), Some((refused, vec![])));
        assert_eq!(machine.host.discarded.lock().unwrap().len(), 2);
    }

    #[test]
    fn the_oracle_ends_a_guest_whose_devices_use_what_it_gave_up() {
        let oracle = Options {
            oracle: true,
            ..Options::default()
        };
        for (operation, taken, usage) in [
            (Operation::SetUnused, false, "unused"),
            (Operation::SetVolatile, false, "volatile"),
            (Operation::SetVolatile, true, "volatile, discarded"),
        ] {
            for (options, write) in [(oracle, true), (oracle, false), (Options::default(), true)] {
                let machine = Machine::with_options(options);
                machine.essa(0x5000, operation);
                if taken {
                    machine.want(SELECTION);
                    machine.run_exclusive();
                }
                machine.guest.device("virtio-blk", 0x3ff0, 0x1010, write);
                machine.guest.device("virtio-blk", 0x6000, u64::MAX, write);
                assert!(machine.host.stopped.lock().unwrap().is_empty());
                machine.guest.device("virtio-blk", 0x3ff0, 0x1011, write);
                let does = if write { "writes" } else { "reads" };
                let line = format!("oracle: device virtio-blk {does} page 0x5000: {usage}");
                let stopped = machine.host.stopped.lock().unwrap().clone();
                assert_eq!(stopped, if options.oracle { vec![line] } else { vec![] });
            }
        }
    }

    #[test]
    fn touching_an_unused_page_may_be_an_exception() {
        let exception = Options {
            unused_exception: true,
            ..Options::default()
        };
        for (options, access) in [
            (Options::default(), Ok(Access::Now)),
            (exception, Err(ProgramInterruption::Addressing)),
        ] {
            let machine = Machine::with_options(options);
            machine.essa(0x5000, Operation::SetUnused);
            assert_eq!(machine.guest.access(0x5000), access);
            machine.essa(0x5000, Operation::SetStable);
            assert_eq!(machine.guest.access(0x5000), Ok(Access::Now));
            assert_eq!(machine.guest.access(u64::MAX), Ok(Access::Now));
            // CPUs do not go by what was so long ago.
            let flushed = Arc::new(AtomicU64::new(0));
            let count = Arc::clone(&flushed);
            *machine.host.on_flush.lock().unwrap() = Some(Box::new(move || {
                count.fetch_add(1, Ordering::Relaxed);
            }));
            for _ in 0..256 {
                machine.essa(0x5000, Operation::SetUnused);
            }
            assert_eq!(flushed.load(Ordering::Relaxed) > 0, access.is_err());
        }
    }

    #[test]
    fn without_the_assist_there_is_no_essa() {
        let machine = Machine::zvm();
        machine.shared.event(Event::MemAssist { on: false });
        for code in [0, 7, 15] {
            assert_eq!(machine.guest.essa(0x5000, code), Err(Exception::Program(1)));
        }
        machine.shared.event(Event::MemAssist { on: true });
        assert_eq!(machine.guest.essa(0x5000, 0), Ok(0));
    }

    #[test]
    fn no_dat_needs_its_facility() {
        let no_dat = Options {
            no_dat: true,
            ..Options::default()
        };
        let machine = Machine::with_options(no_dat);
        assert_eq!(machine.guest.essa(0x5000, 7), Ok(0));
        assert_eq!(machine.guest.essa(0x5000, 0), Ok(0x20));
        assert_eq!(machine.guest.essa(0x5000, 8), Err(Exception::Program(6)));
    }

    #[test]
    fn pages_of_the_machine_are_left_alone() {
        let machine = machine();
        *machine.host.pinned.lock().unwrap() = vec![32 * PAGE_SIZE];
        machine.want(SELECTION);
        machine.run_exclusive();
        assert_eq!(machine.taken()[0].volatile, 0);
        assert_eq!(machine.guest.access(32 * PAGE_SIZE), Ok(Access::Now));
        assert_eq!(content(&machine, 32), 1);
    }

    #[test]
    fn what_is_asked_for_is_what_is_taken() {
        let machine = Machine::zvm();
        let pages: Vec<_> = (0..100).map(|page| page * PAGE_SIZE).collect();
        let set = |operation| {
            for &address in &pages {
                machine.essa(address, operation);
            }
        };
        let taken = |selection| {
            machine.want(selection);
            machine.run_exclusive();
            let taken = *machine.taken().last().unwrap();
            (taken.unused, taken.volatile)
        };
        set(Operation::SetVolatile);
        machine.essa(99 * PAGE_SIZE, Operation::SetUnused);
        let three = Selection {
            pages: 3,
            ..SELECTION
        };
        assert_eq!(taken(three), (1, 2));
        assert!(machine.guest.access(PAGE_SIZE).is_err());
        assert!(machine.guest.access(2 * PAGE_SIZE).is_ok());
        let volatile = Selection {
            only: Some(Usage::Volatile),
            ..three
        };
        assert_eq!(taken(volatile), (0, 3));
        let half = Selection {
            volatile_share: 500,
            random: Some(1),
            ..SELECTION
        };
        set(Operation::SetVolatile);
        set(Operation::SetStable);
        set(Operation::SetVolatile);
        assert_eq!(taken(half), (0, 50));
        let first: Vec<_> = pages
            .iter()
            .filter(|&&page| machine.guest.access(page).is_err())
            .collect();
        assert!(
            first.iter().any(|&&page| page >= 50 * PAGE_SIZE),
            "at random"
        );
        assert_eq!(
            taken(Selection {
                pages: 0,
                ..SELECTION
            }),
            (0, 0)
        );
        // Stable and potentially volatile pages are never taken.
        set(Operation::SetStable);
        set(Operation::SetPotentiallyVolatile);
        assert_eq!(taken(SELECTION), (0, 0));
    }

    #[test]
    fn a_host_that_keeps_its_frames_is_not_asked_again() {
        let machine = machine();
        *machine.host.refuse_discard.lock().unwrap() = Some(crate::host::NotDiscarded);
        machine.want(SELECTION);
        machine.run_exclusive();
        assert_eq!(machine.taken(), [Taken::default()]);
    }

    #[test]
    fn what_a_device_discards_is_worth_nothing_wherever_it_is() {
        let machine = machine();
        let page = 8 * PAGE_SIZE;
        machine.shared.pages().page_out(page);
        assert_eq!(machine.guest.discard(page, 2 * PAGE_SIZE), Ok(()));
        assert_eq!(machine.guest.access(page), Ok(Access::Now));
        assert_eq!(
            *machine.host.discarded.lock().unwrap(),
            [(page, 2 * PAGE_SIZE)]
        );
        *machine.host.refuse_discard.lock().unwrap() = Some(NotDiscarded);
        assert_eq!(machine.guest.discard(page, PAGE_SIZE), Err(NotDiscarded));
    }

    #[test]
    fn a_reset_makes_all_pages_stable() {
        let machine = machine();
        machine.want(SELECTION);
        machine.run_exclusive();
        machine.want(SELECTION);
        machine.guest.reset();
        machine.store(16 * PAGE_SIZE, &[2; PAGE_SIZE as usize]);
        machine.run_exclusive();
        for page in [16, 32] {
            assert_eq!(machine.essa(page * PAGE_SIZE, Operation::Get), 0);
        }
        assert_eq!(content(&machine, 16), 2);
        assert_eq!(machine.guest.access(32 * PAGE_SIZE), Ok(Access::Now));
    }
}
