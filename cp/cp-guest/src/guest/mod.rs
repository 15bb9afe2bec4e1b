// SPDX-License-Identifier: GPL-2.0

//! The virtual machine.

pub mod diag;
mod iucv;
mod page_faults;
mod pages;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cp_core::UserId;
use cp_core::diag::ProgramInterruption;
use cp_core::iucv::InterruptId;
use cp_core::iucv::interrupt::Interrupts;
use cp_core::page_faults::PageFaults;
use cp_core::tmem::SaveId;
use cp_proto::counters::Counter;
use cp_proto::{Event, ProtoError, Report};

use crate::counters::Counters;
use crate::host::{Cpu, Host, OutsideStorage};
use crate::link::{Receiver, System};
use crate::page_states::Pages;

/// The state that virtual CPUs and the receiver of events share.
#[derive(Debug)]
pub struct Shared<H> {
    host: H,
    user_id: UserId,
    counters: Counters,
    pages: Pages,
    interrupts: Interrupts,
    page_faults: PageFaults,
    /// Pages may have left their frames without that the CPUs, which know where they were, have been told.
    swept: AtomicBool,
    /// The save that has its pools as they are: with it, the guest outlives `cpd`.
    saved: Mutex<Option<SaveId>>,
    stopped: AtomicBool,
}

impl<H: Host> Shared<H> {
    /// For a guest with that many CPUs.
    pub fn new(host: H, user_id: UserId, cpus: u32, counters: Counters, pages: Pages) -> Self {
        Self {
            host,
            user_id,
            counters,
            pages,
            interrupts: Interrupts::new(cpus as usize),
            page_faults: PageFaults::new(cpus as usize),
            swept: AtomicBool::new(false),
            saved: Mutex::default(),
            stopped: AtomicBool::new(false),
        }
    }

    /// The counters.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The states of its pages.
    #[must_use]
    pub fn pages(&self) -> &Pages {
        &self.pages
    }

    fn set_saved(&self, save: Option<SaveId>) {
        *self.saved.lock().unwrap_or_else(PoisonError::into_inner) = save;
    }

    /// Ends the guest because of an error in this library.
    fn fail(&self) {
        self.stop("the guest is stopped: internal error of the Control Program's library");
    }

    /// Ends the guest, once; the first reason is the one that counts.
    pub fn stop(&self, reason: &str) {
        if !self.stopped.swap(true, Ordering::AcqRel) {
            self.host.stop(reason);
        }
    }

    /// Lets `cpd` know which interrupts are gone, after one was taken or taken back.
    fn publish_oldest(&self) {
        let oldest = self.interrupts.oldest_pending();
        self.counters.raise(Counter::IucvOldestPending, oldest.0);
    }

    fn lost_cpd(&self, error: &ProtoError) -> Exception {
        self.stop(&format!(
            "the guest is stopped, since it lost its Control Program: {error}"
        ));
        Exception::Stopped
    }
}

impl<H: Host> Receiver for Shared<H> {
    fn event(&self, event: Event) {
        match event {
            Event::Interrupt { id, buffer } => {
                if self.interrupts.raise(InterruptId(id), buffer.0) {
                    self.counters.add(Counter::IucvInterruptsQueued, 1);
                    self.host.inject();
                } else {
                    self.stop(&format!(
                        "the Control Program sent a malformed interrupt: {buffer:?}"
                    ));
                }
            }
            Event::Retract { id } => {
                if self.interrupts.retract(InterruptId(id)) {
                    self.publish_oldest();
                    self.counters.add(Counter::IucvInterruptsRetracted, 1);
                }
            }
            Event::MemAssist { on } => self.pages.set_assist(on),
            Event::Take { id, selection } => {
                self.pages.want(id, &selection);
                self.host.exclusive();
            }
            // The link has seen to it, which knows where the storage is. Who does not wait for pages must ask for them.
            Event::Sweep => {
                if self.page_faults.is_on() {
                    self.swept.store(true, Ordering::Release);
                    self.host.exclusive();
                }
            }
            Event::Hold => self.host.hold(),
            Event::Saved { save } => self.set_saved(Some(save)),
            Event::Release => {
                self.set_saved(None);
                self.host.release();
            }
            Event::Console { text } => self.host.console(&text),
            Event::Logoff { reason } => self.stop(&format!("logged off: {reason}")),
        }
    }

    fn lost(&self, error: &ProtoError) -> Option<SaveId> {
        let saved = *self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        if saved.is_none() {
            self.lost_cpd(error);
        }
        saved
    }
}

/// How an instruction ends that is not completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exception {
    /// CP does not know the function; the machine decides.
    Unknown,
    /// The guest has been stopped.
    Stopped,
    /// An access exception that the machine holds.
    Access,
    /// A program interruption with that code.
    Program(u16),
}

impl From<ProgramInterruption> for Exception {
    fn from(interruption: ProgramInterruption) -> Self {
        Self::Program(interruption.code())
    }
}

impl From<cp_core::iucv::ProgramInterruption> for Exception {
    fn from(interruption: cp_core::iucv::ProgramInterruption) -> Self {
        Self::Program(interruption.code())
    }
}

impl From<OutsideStorage> for Exception {
    fn from(_: OutsideStorage) -> Self {
        ProgramInterruption::Addressing.into()
    }
}

impl From<crate::host::AccessException> for Exception {
    fn from(_: crate::host::AccessException) -> Self {
        Self::Access
    }
}

/// How an instruction ends: completed, with the condition code if it sets one.
pub type Outcome = Result<Option<u8>, Exception>;

/// An interrupt, for the CPU that takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupt {
    /// The real address of the CPU's interrupt buffer.
    pub address: u64,
    /// What to store there.
    pub buffer: [u8; 40],
}

/// A virtual machine: one that sees z/VM has a `system`, one that sees KVM has none.
#[derive(Debug)]
pub struct Guest<H: Host, S: System> {
    shared: Arc<Shared<H>>,
    system: Option<S>,
    storage: u64,
}

impl<H: Host, S: System> Guest<H, S> {
    /// With `storage` bytes of storage.
    pub fn new(shared: Arc<Shared<H>>, system: Option<S>, storage: u64) -> Self {
        Self {
            shared,
            system,
            storage,
        }
    }

    /// Whether the CPU may take an interrupt, as far as CP knows. Takes no lock; [`Self::take_interrupt`] decides.
    #[must_use]
    pub fn has_interrupt(&self, cpu: u32) -> bool {
        self.shared.interrupts.deliverable(cpu as usize)
    }

    /// Takes the next interrupt for the CPU.
    #[must_use]
    pub fn take_interrupt(&self, cpu: &Cpu) -> Option<Interrupt> {
        let taken = self.shared.interrupts.take(cpu.index())?;
        self.shared.publish_oldest();
        self.shared.counters.add(Counter::IucvInterrupts, 1);
        Some(Interrupt {
            address: taken.buffer.into(),
            buffer: taken.raw,
        })
    }

    /// Whether interrupts are pending, for whichever CPU.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        self.shared.interrupts.pending() != 0
    }

    /// What [`Host::hold`] asked for: no CPU is running.
    pub fn held(&self) {
        if let Some(system) = &self.system
            && let Err(error) = system.report(&Report::Held)
        {
            self.shared.lost(&error);
        }
    }

    /// The virtual machine was reset: nothing of before reaches what runs next.
    pub fn reset(&self) {
        self.shared.counters.add(Counter::Resets, 1);
        self.shared.set_saved(None);
        if let Some(system) = &self.system
            && let Err(error) = system.reset()
        {
            self.shared.lost_cpd(&error);
        }
        self.shared.pages.reset();
        self.shared.interrupts.reset();
        self.shared.publish_oldest();
        let forgotten = self.shared.page_faults.reset() as u64;
        self.shared
            .counters
            .add(Counter::PfaultsForgotten, forgotten);
    }

    /// Ends the guest because of an error in this library.
    pub fn fail(&self) {
        self.shared.fail();
    }

    /// Reports that `cpd` failed in the middle of an instruction.
    fn lost(&self, error: &ProtoError) -> Exception {
        self.shared.lost_cpd(error)
    }

    /// Checks that an operand lies within storage, before anything is done that could not be undone.
    fn check_storage(&self, address: u64, length: u32) -> Result<(), Exception> {
        match address.checked_add(length.into()) {
            Some(end) if end <= self.storage => Ok(()),
            _ => Err(OutsideStorage.into()),
        }
    }
}

#[cfg(test)]
mod testing;
