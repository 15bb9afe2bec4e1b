// SPDX-License-Identifier: GPL-2.0

//! Page faults for which CPUs do not wait: somebody else touches the page in their place.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use cp_core::page_faults::{Coming, Token};
use cp_proto::counters::Counter;

use super::{Guest, Shared};
use crate::host::{Cpu, Host};
use crate::link::System;

/// Enough to touch a page, in bytes.
const STACK: usize = 64 << 10;

impl<H: Host, S: System> Guest<H, S> {
    /// A CPU with that PSW mask touches a page that is paged out, and could take an external interruption. If it shall
    /// take one instead of waiting, its token.
    ///
    /// A thread of its own waits for the page, since whoever touches it sleeps: there are never more than
    /// [`cp_core::page_faults::MAX_COMING`].
    pub fn page_fault(&self, cpu: &Cpu, address: u64, psw_mask: u64) -> Option<Token> {
        let shared = &self.shared;
        let agreed = shared.page_faults.agreed(cpu.index(), psw_mask)?;
        let mut token = [0; size_of::<Token>()];
        // May wait itself, and so without a lock.
        shared.host.read(cpu, agreed.token(), &mut token).ok()?;
        let coming = shared.page_faults.begin(Token(u64::from_be_bytes(token)))?;
        let bring_in = {
            let shared = Arc::clone(shared);
            move || shared.bring_in(address, coming)
        };
        let thread = thread::Builder::new()
            .name("cp-page-in".into())
            .stack_size(STACK);
        if thread.spawn(bring_in).is_err() {
            shared.page_faults.give_up(coming);
            return None;
        }
        shared.counters.add(Counter::PfaultInits, 1);
        Some(coming.token())
    }

    /// Takes the completion of a page fault; and whether there are more.
    #[must_use]
    pub fn take_page(&self) -> (Option<Token>, bool) {
        let (taken, more) = self.shared.page_faults.take();
        if taken.is_some() {
            self.shared.counters.add(Counter::PfaultCompletions, 1);
        }
        (taken, more)
    }

    /// A CPU was reset, alone or with the virtual machine.
    pub fn reset_cpu(&self, cpu: u32) {
        self.shared.page_faults.reset_cpu(cpu as usize);
    }
}

impl<H: Host> Shared<H> {
    /// Waits until a page is there, and says so.
    fn bring_in(&self, address: u64, coming: Coming) {
        let run = AssertUnwindSafe(|| {
            self.host.populate(address);
            if self.page_faults.finish(coming) {
                self.host.page_in();
            }
        });
        if catch_unwind(run).is_err() {
            self.fail();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::time::{Duration, Instant};

    use cp_core::page_faults::MAX_COMING;
    use cp_core::page_state::PAGE_SIZE;
    use cp_proto::Event;

    use super::super::Exception;
    use super::super::testing::{Machine, STORAGE};
    use super::*;
    use crate::link::Receiver;
    use crate::page_states::Access;

    const PROBLEM_STATE: u64 = 1 << 48;
    /// Where the token is, and the parameter block.
    const TOKEN: u64 = 0x360;
    const BLOCK: u64 = 0x6000;
    const PAGE: u64 = 16 * PAGE_SIZE;

    impl Machine {
        /// DIAGNOSE X'258' as Linux issues it; gives the return code.
        fn pfault(&mut self, function: u16) -> Result<u64, Exception> {
            let (token, mask, architecture) = match function {
                0 => (TOKEN, PROBLEM_STATE, 1 << 63),
                _ => (0, 0, 0),
            };
            let head = [0x258, function, 5, 2].map(u16::to_be_bytes);
            let tail = [token, mask, mask, architecture].map(u64::to_be_bytes);
            let block = [head.as_flattened(), tail.as_flattened()].concat();
            self.store(BLOCK, &block);
            self.registers[3] = 77;
            self.diagnose(0x258, &[(2, BLOCK)])?;
            Ok(self.registers[3])
        }

        /// A process touches a page.
        fn touch(&self, process: u64) -> Option<Token> {
            self.store(TOKEN, &process.to_be_bytes());
            self.guest.page_fault(&Self::cpu(), PAGE, PROBLEM_STATE)
        }

        /// Waits until as many pages have come in.
        fn come(&self, pages: u32) {
            let deadline = Instant::now() + Duration::from_secs(30);
            while *self.host.paged_in.lock().unwrap() < pages {
                assert!(Instant::now() < deadline, "a page does not come");
                thread::sleep(Duration::from_millis(1));
            }
        }
    }

    #[test]
    fn a_cpu_agrees_and_cancels() {
        let mut machine = Machine::zvm();
        assert_eq!(machine.pfault(1), Ok(4));
        assert_eq!(machine.touch(7), None);
        assert_eq!(machine.pfault(0), Ok(0));
        assert_eq!(machine.pfault(0), Ok(8));
        assert_eq!(machine.pfault(1), Ok(0));
        assert_eq!(machine.touch(7), None);
        assert_eq!(machine.pfault(2), Err(Exception::Program(6)));
        for (address, code) in [(BLOCK + 4, 6), (STORAGE, 5), (u64::MAX - 7, 5)] {
            let refused = machine.diagnose(0x258, &[(2, address)]);
            assert_eq!(refused, Err(Exception::Program(code)), "{address:#x}");
        }
        assert_eq!(machine.counter(Counter::Diag258Calls), 8);
        assert_eq!(machine.counter(Counter::PfaultInits), 0);
    }

    #[test]
    fn a_page_that_is_paged_out_is_absent() {
        let machine = Machine::zvm();
        assert_eq!(machine.guest.access(PAGE), Ok(Access::Now));
        machine.shared.pages().page_out(PAGE);
        assert_eq!(machine.guest.access(PAGE), Ok(Access::Later));
        machine.shared.pages().begin_page_in(PAGE);
        assert_eq!(machine.guest.access(PAGE), Ok(Access::Later));
        machine.shared.pages().end_page_in(PAGE);
        assert_eq!(machine.guest.access(PAGE), Ok(Access::Now));
    }

    #[test]
    fn who_has_agreed_is_told_and_told_again() {
        let mut machine = Machine::zvm();
        machine.pfault(0).unwrap();
        let paging = machine.host.paging.lock().unwrap();
        assert_eq!(machine.touch(7), Some(Token(7)));
        // The same again waits, another does not; nor does anybody in the kernel get an interruption.
        assert_eq!(machine.touch(7), None);
        assert_eq!(machine.touch(8), Some(Token(8)));
        assert_eq!(machine.guest.page_fault(&Machine::cpu(), PAGE, 0), None);
        assert_eq!(machine.guest.take_page(), (None, false));
        drop(paging);
        machine.come(2);
        let (first, more) = machine.guest.take_page();
        let (second, none) = machine.guest.take_page();
        let mut taken = [first.unwrap().0, second.unwrap().0];
        taken.sort_unstable();
        assert_eq!((taken, more, none), ([7, 8], true, false));
        assert_eq!(*machine.host.populated.lock().unwrap(), [PAGE; 2]);
        assert_eq!(machine.counter(Counter::PfaultInits), 2);
        assert_eq!(machine.counter(Counter::PfaultCompletions), 2);
        assert_eq!(machine.touch(7), Some(Token(7)));
    }

    #[test]
    fn no_more_than_so_many_pages_come_at_once() {
        let mut machine = Machine::zvm();
        machine.pfault(0).unwrap();
        let paging = machine.host.paging.lock().unwrap();
        let begun = (0..100)
            .filter(|&process| machine.touch(process).is_some())
            .count();
        assert_eq!(begun, MAX_COMING);
        drop(paging);
        machine.come(MAX_COMING as u32);
        assert_eq!(machine.touch(100), None, "nobody has taken notice yet");
        let _ = machine.guest.take_page();
        assert_eq!(machine.touch(100), Some(Token(100)));
    }

    #[test]
    fn a_reset_forgets_who_waits() {
        let mut machine = Machine::zvm();
        machine.pfault(0).unwrap();
        machine.touch(7);
        machine.come(1);
        let host = machine.host.clone();
        let paging = host.paging.lock().unwrap();
        machine.touch(8);
        machine.guest.reset();
        assert_eq!(machine.counter(Counter::PfaultsForgotten), 2);
        assert_eq!(machine.touch(7), None);
        assert_eq!(machine.pfault(0), Ok(0));
        assert_eq!(machine.touch(8), Some(Token(8)));
        drop(paging);
        machine.come(2);
        assert_eq!(machine.guest.take_page(), (Some(Token(8)), false));
        let balance = [
            Counter::PfaultInits,
            Counter::PfaultCompletions,
            Counter::PfaultsForgotten,
        ]
        .map(|counter| machine.counter(counter));
        assert_eq!(balance, [3, 1, 2]);
        // Alone, as by SIGP.
        machine.guest.reset_cpu(0);
        assert_eq!(machine.touch(9), None);
        machine.guest.reset_cpu(99);
    }

    #[test]
    fn cpus_forget_where_pages_were_if_they_do_not_wait() {
        let mut machine = Machine::zvm();
        let flushed = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let count = Arc::clone(&flushed);
        *machine.host.on_flush.lock().unwrap() = Some(Box::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        }));
        let sweep = |machine: &Machine| {
            machine.shared.event(Event::Sweep);
            let asked = machine.host.exclusive.swap(false, Ordering::Relaxed);
            if asked {
                machine.guest.exclusive();
            }
            (asked, flushed.load(Ordering::Relaxed))
        };
        assert_eq!(sweep(&machine), (false, 0));
        machine.pfault(0).unwrap();
        assert_eq!(sweep(&machine), (true, 1));
        // Other sections have nothing to do with it.
        machine.guest.exclusive();
        assert_eq!(flushed.load(Ordering::Relaxed), 1);
        machine.pfault(1).unwrap();
        assert_eq!(sweep(&machine), (false, 1));
    }
}
