// SPDX-License-Identifier: GPL-2.0

//! Any calls by CPUs and by CP, against a model of what is pending: each interrupt leaves once and as it came, and only
//! to a CPU that has a buffer for it.

use std::collections::BTreeMap;

use super::*;

pub const CPUS: usize = 3;
pub const STORAGE: u64 = 1 << 20;

/// What CPUs, of which there may also be no such, and CP do.
#[derive(Clone, Debug)]
pub enum Step {
    /// So many ids later than the last one.
    Raise(u8, Raw),
    /// With that id, if there has been a later one.
    RaiseAgain(u64, Raw),
    Retract(u64),
    Take(usize),
    Declare(usize, Raw),
    Retrieve(usize),
    SetMask(usize, u8),
    SetControlMask(usize, u8),
    Reset,
}

#[derive(Debug)]
struct World {
    interrupts: Interrupts,
    pending: BTreeMap<u64, Raw>,
    buffers: [Option<u32>; CPUS],
    next: u64,
}

/// Takes the steps, and looks after each whether all is as it must be.
pub fn run(steps: impl IntoIterator<Item = Step>) {
    let mut world = World {
        interrupts: Interrupts::new(CPUS),
        pending: BTreeMap::new(),
        buffers: [None; CPUS],
        next: 0,
    };
    for step in steps {
        world.step(step);
        world.check();
    }
}

impl World {
    fn buffer(&self, cpu: usize) -> Option<u32> {
        self.buffers.get(cpu).copied().flatten()
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Raise(gap, raw) => {
                let id = self.next + u64::from(gap);
                let raised = self.interrupts.raise(InterruptId(id), raw);
                assert_eq!(raised, InterruptKind::of(&raw).is_some());
                if raised {
                    self.pending.insert(id, raw);
                    self.next = id + 1;
                }
            }
            Step::RaiseAgain(id, raw) if id < self.next => {
                assert!(!self.interrupts.raise(InterruptId(id), raw));
            }
            Step::RaiseAgain(..) => {}
            Step::Retract(id) => {
                let was_pending = self.pending.remove(&id).is_some();
                assert_eq!(self.interrupts.retract(InterruptId(id)), was_pending);
            }
            Step::Take(cpu) => self.take(cpu),
            Step::Declare(cpu, plist) => self.declare(cpu, plist),
            Step::Retrieve(cpu) => self.retrieve(cpu),
            Step::SetMask(cpu, mask) => {
                let done = self.interrupts.set_mask(cpu, mask);
                assert_eq!(done.is_ok(), self.buffer(cpu).is_some());
            }
            Step::SetControlMask(cpu, mask) => {
                let done = self.interrupts.set_control_mask(cpu, mask);
                assert_eq!(done.is_ok(), self.buffer(cpu).is_some());
            }
            Step::Reset => {
                self.interrupts.reset();
                self.buffers = [None; CPUS];
                self.pending.clear();
            }
        }
    }

    fn take(&mut self, cpu: usize) {
        let deliverable = self.interrupts.deliverable(cpu);
        let taken = self.interrupts.take(cpu);
        assert_eq!(taken.is_some(), deliverable);
        if let Some(taken) = taken {
            assert_eq!(Some(taken.buffer), self.buffer(cpu));
            assert_eq!(Some(taken.raw), self.pending.remove(&taken.id.0));
        }
    }

    fn declare(&mut self, cpu: usize, mut plist: Raw) {
        let address = Message::decode(&plist).address.get();
        let fits = u64::from(address) + PLIST_LENGTH as u64 <= STORAGE;
        let is_first = self.buffers == [None; CPUS];
        match self.interrupts.declare(cpu, &mut plist, STORAGE) {
            Ok((done, declaration)) => {
                assert!(fits && address.is_multiple_of(8));
                assert_eq!(done.cc == 0, self.buffer(cpu).is_none());
                assert_eq!(declaration == Declaration::First, is_first);
                if done.cc == 0 {
                    self.buffers[cpu] = Some(address);
                }
            }
            Err(_) => assert!(!fits || !address.is_multiple_of(8) || cpu >= CPUS),
        }
    }

    fn retrieve(&mut self, cpu: usize) {
        let had = self.buffer(cpu).is_some();
        let retrieved = self.interrupts.retrieve(cpu);
        assert_eq!(retrieved.is_ok(), had);
        if let Ok((_, declaration)) = retrieved {
            self.buffers[cpu] = None;
            let is_last = self.buffers == [None; CPUS];
            assert_eq!(declaration == Declaration::Last, is_last);
            if is_last {
                self.pending.clear();
            }
        }
    }

    fn check(&self) {
        assert_eq!(self.interrupts.pending(), self.pending.len());
        let oldest = self.pending.keys().next().copied().unwrap_or(self.next);
        assert_eq!(self.interrupts.oldest_pending(), InterruptId(oldest));
        let declared = self.buffers.iter().any(Option::is_some);
        assert_eq!(self.interrupts.is_declared(), declared);
        for cpu in 0..=CPUS {
            let may = self.buffer(cpu).is_some() && !self.pending.is_empty();
            assert!(may || !self.interrupts.deliverable(cpu));
        }
    }
}
