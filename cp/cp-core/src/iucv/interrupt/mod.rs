// SPDX-License-Identifier: GPL-2.0

//! The IUCV interrupts that are pending for one virtual machine, and which of its CPUs may take them.
//!
//! Interrupts float: any CPU that has declared a buffer and whose masks are open for the kind may take them. The
//! buffer is stored when the interrupt is taken, since each CPU has only one.

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod world;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::plist::{
    ADDRESS_LIMIT, InterruptKind, Message, PLIST_LENGTH, RCODE_OFFSET, Raw, ReturnCode, path_of,
};
use super::{Completion, InterruptId, PathId, ProgramInterruption};

/// SETMASK: nonpriority message pending.
const MASK_PENDING: u8 = 0x80;
/// SETMASK: priority message pending.
const MASK_PRIORITY_PENDING: u8 = 0x40;
/// SETMASK: nonpriority message complete.
const MASK_COMPLETE: u8 = 0x20;
/// SETMASK: priority message complete.
const MASK_PRIORITY_COMPLETE: u8 = 0x10;
/// SETMASK: control interrupts, if their own mask is open, too.
const MASK_CONTROL: u8 = 0x08;
/// All masks open: the state after DCLBFR.
const MASK_ALL: u8 = 0xf8;

/// An interrupt that a CPU has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Which.
    pub id: InterruptId,
    /// The real address of the CPU's interrupt buffer, where `raw` must be stored.
    pub buffer: u32,
    /// What to store there.
    pub raw: Raw,
}

/// What DCLBFR and RTRVBFR mean for the virtual machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declaration {
    /// The first buffer: [`super::system::System::declare`] must be told.
    First,
    /// The last buffer is gone: [`super::system::System::retrieve`] must be told; all paths end.
    Last,
    /// One of several: nothing changes for the rest of the system.
    Further,
}

/// The pending interrupts of one virtual machine. Shared by its CPUs and the thread that receives CP's events.
#[derive(Debug)]
pub struct Interrupts {
    state: Mutex<State>,
    /// A bit for each kind that is pending: `1 << kind`.
    pending: AtomicU32,
    /// For each CPU, a bit for each kind it may take; 0 without a buffer.
    enabled: Box<[AtomicU32]>,
    oldest: AtomicU64,
}

#[derive(Debug)]
struct State {
    cpus: Box<[Option<Cpu>]>,
    /// By [`class`], each in the order of arrival, which is that of the ids.
    queues: [VecDeque<Pending>; CLASSES],
    /// The id after the last one that arrived.
    next: InterruptId,
}

/// A CPU that has declared its buffer.
#[derive(Clone, Copy, Debug)]
struct Cpu {
    buffer: u32,
    mask: u8,
    control_mask: u8,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    id: InterruptId,
    kind: InterruptKind,
    raw: Raw,
}

const CLASSES: usize = 5;

/// The order in which interrupts are taken: control, then priority, then the rest; completions, which free the
/// sender's buffers, before new messages.
const fn class(kind: InterruptKind) -> usize {
    match kind {
        InterruptKind::PendingConnection
        | InterruptKind::ConnectionComplete
        | InterruptKind::Severed
        | InterruptKind::Quiesced
        | InterruptKind::Resumed => 0,
        InterruptKind::PriorityComplete => 1,
        InterruptKind::PriorityPending => 2,
        InterruptKind::Complete => 3,
        InterruptKind::Pending => 4,
    }
}

const fn bit(kind: InterruptKind) -> u32 {
    1 << kind as u32
}

impl Cpu {
    fn enabled(self) -> u32 {
        let messages = [
            (MASK_PENDING, InterruptKind::Pending),
            (MASK_PRIORITY_PENDING, InterruptKind::PriorityPending),
            (MASK_COMPLETE, InterruptKind::Complete),
            (MASK_PRIORITY_COMPLETE, InterruptKind::PriorityComplete),
        ];
        let control = [
            (0x80, InterruptKind::PendingConnection),
            (0x40, InterruptKind::ConnectionComplete),
            (0x20, InterruptKind::Severed),
            (0x10, InterruptKind::Quiesced),
            (0x08, InterruptKind::Resumed),
        ];
        let open = |mask: u8, kinds: &[(u8, InterruptKind)]| {
            kinds
                .iter()
                .filter(|(open, _)| mask & open != 0)
                .map(|&(_, kind)| bit(kind))
                .sum::<u32>()
        };
        open(self.mask, &messages)
            | if self.mask & MASK_CONTROL != 0 {
                open(self.control_mask, &control)
            } else {
                0
            }
    }
}

impl State {
    fn cpu(&mut self, cpu: usize) -> Result<&mut Cpu, ProgramInterruption> {
        self.cpus
            .get_mut(cpu)
            .and_then(Option::as_mut)
            .ok_or(ProgramInterruption::Operation)
    }

    /// The next interrupt for a CPU that may take the kinds in `enabled`.
    fn next(&mut self, enabled: u32) -> Option<Pending> {
        for class in 0..CLASSES {
            let position = self.queues[class]
                .iter()
                .position(|pending| enabled & bit(pending.kind) != 0);
            let Some(position) = position else { continue };
            let found = self.queues[class][position];
            if found.kind == InterruptKind::Severed
                && let Some(message) = self.next_message(enabled, path_of(&found.raw))
            {
                return Some(message);
            }
            return self.queues[class].remove(position);
        }
        None
    }

    /// A message that is in its interrupt outlives the sender's end of the path. The guest forgets the path at the
    /// severed interrupt, so what still holds on that path goes first.
    fn next_message(&mut self, enabled: u32, path: PathId) -> Option<Pending> {
        self.queues[1..].iter_mut().find_map(|queue| {
            let position = queue.iter().position(|pending| {
                enabled & bit(pending.kind) != 0 && path_of(&pending.raw) == path
            })?;
            queue.remove(position)
        })
    }

    fn oldest(&self) -> InterruptId {
        self.queues
            .iter()
            .filter_map(VecDeque::front)
            .map(|pending| pending.id)
            .min()
            .unwrap_or(self.next)
    }
}

impl Interrupts {
    /// For a virtual machine with that many CPUs, none of which has declared a buffer.
    #[must_use]
    pub fn new(cpus: usize) -> Self {
        Self {
            state: Mutex::new(State {
                cpus: vec![None; cpus].into(),
                queues: std::array::from_fn(|_| VecDeque::new()),
                next: InterruptId(0),
            }),
            pending: AtomicU32::new(0),
            enabled: (0..cpus).map(|_| AtomicU32::new(0)).collect(),
            oldest: AtomicU64::new(0),
        }
    }

    /// A panic while the lock was held leaves queues that are still queues.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes what [`Self::deliverable`] and [`Self::oldest_pending`] read without the lock.
    fn publish(&self, state: &State) {
        for (enabled, cpu) in self.enabled.iter().zip(&state.cpus) {
            enabled.store(cpu.map_or(0, Cpu::enabled), Ordering::Release);
        }
        let pending = state
            .queues
            .iter()
            .flatten()
            .fold(0, |bits, pending| bits | bit(pending.kind));
        self.pending.store(pending, Ordering::Release);
        self.oldest.store(state.oldest().0, Ordering::Release);
    }

    /// Whether this CPU may take an interrupt. Takes no lock; [`Self::take`] decides.
    #[must_use]
    pub fn deliverable(&self, cpu: usize) -> bool {
        self.enabled.get(cpu).is_some_and(|enabled| {
            enabled.load(Ordering::Acquire) & self.pending.load(Ordering::Acquire) != 0
        })
    }

    /// Takes the next interrupt for this CPU. Whoever calls has checked the PSW and control register 0.
    pub fn take(&self, cpu: usize) -> Option<Taken> {
        let mut state = self.lock();
        let Cpu { buffer, .. } = *state.cpu(cpu).ok()?;
        let enabled = state.cpu(cpu).ok()?.enabled();
        let taken = state.next(enabled)?;
        self.publish(&state);
        Some(Taken {
            id: taken.id,
            buffer,
            raw: taken.raw,
        })
    }

    /// An interrupt becomes pending. `false` if it cannot be: unknown type, or an id that is not newer than all before.
    pub fn raise(&self, id: InterruptId, raw: Raw) -> bool {
        let mut state = self.lock();
        let Some(kind) = InterruptKind::of(&raw) else {
            return false;
        };
        if id < state.next {
            return false;
        }
        state.next = InterruptId(id.0.saturating_add(1));
        state.queues[class(kind)].push_back(Pending { id, kind, raw });
        self.publish(&state);
        true
    }

    /// Takes an interrupt back; `false` if a CPU has taken it already.
    pub fn retract(&self, id: InterruptId) -> bool {
        let mut state = self.lock();
        let removed = state.queues.iter_mut().any(|queue| {
            queue
                .binary_search_by_key(&id, |pending| pending.id)
                .is_ok_and(|position| queue.remove(position).is_some())
        });
        if removed {
            self.publish(&state);
        }
        removed
    }

    /// All interrupts with lower ids have been taken or retracted: for [`super::system::System::taken_before`].
    /// Takes no lock.
    #[must_use]
    pub fn oldest_pending(&self) -> InterruptId {
        InterruptId(self.oldest.load(Ordering::Acquire))
    }

    /// The number of interrupts that are pending.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.lock().queues.iter().map(VecDeque::len).sum()
    }

    /// DCLBFR on a CPU: checks the buffer's address and declares it. All masks are open then.
    ///
    /// With condition code 1, `plist` has the return code and nothing else has changed.
    pub fn declare(
        &self,
        cpu: usize,
        plist: &mut Raw,
        storage_bytes: u64,
    ) -> Result<(Completion, Declaration), ProgramInterruption> {
        let buffer = Message::decode(plist).address.get();
        if !buffer.is_multiple_of(8) {
            return Err(ProgramInterruption::Specification);
        }
        if u64::from(buffer) + PLIST_LENGTH as u64 > storage_bytes.min(ADDRESS_LIMIT) {
            return Err(ProgramInterruption::Addressing);
        }
        let mut state = self.lock();
        let first = state.cpus.iter().all(Option::is_none);
        let slot = state
            .cpus
            .get_mut(cpu)
            .ok_or(ProgramInterruption::Operation)?;
        if slot.is_some() {
            plist[RCODE_OFFSET] = ReturnCode::AlreadyDeclared as u8;
            return Ok((Completion::with_cc(1), Declaration::Further));
        }
        *slot = Some(Cpu {
            buffer,
            mask: MASK_ALL,
            control_mask: MASK_ALL,
        });
        self.publish(&state);
        let declaration = if first {
            Declaration::First
        } else {
            Declaration::Further
        };
        Ok((Completion::with_cc(0), declaration))
    }

    /// RTRVBFR on a CPU. With the last buffer, all pending interrupts go.
    pub fn retrieve(&self, cpu: usize) -> Result<(Completion, Declaration), ProgramInterruption> {
        let mut state = self.lock();
        state.cpu(cpu)?;
        state.cpus[cpu] = None;
        let last = state.cpus.iter().all(Option::is_none);
        if last {
            state.queues.iter_mut().for_each(VecDeque::clear);
        }
        self.publish(&state);
        let declaration = if last {
            Declaration::Last
        } else {
            Declaration::Further
        };
        Ok((Completion::with_cc(0), declaration))
    }

    /// SETMASK on a CPU.
    pub fn set_mask(&self, cpu: usize, mask: u8) -> Result<Completion, ProgramInterruption> {
        self.set(cpu, |cpu| cpu.mask = mask)
    }

    /// SETCMASK on a CPU.
    pub fn set_control_mask(
        &self,
        cpu: usize,
        mask: u8,
    ) -> Result<Completion, ProgramInterruption> {
        self.set(cpu, |cpu| cpu.control_mask = mask)
    }

    fn set(
        &self,
        cpu: usize,
        change: impl FnOnce(&mut Cpu),
    ) -> Result<Completion, ProgramInterruption> {
        let mut state = self.lock();
        change(state.cpu(cpu)?);
        self.publish(&state);
        Ok(Completion::with_cc(0))
    }

    /// Whether any CPU has declared a buffer: without, all functions but QUERY and DCLBFR are operation exceptions.
    #[must_use]
    pub fn is_declared(&self) -> bool {
        self.lock().cpus.iter().any(Option::is_some)
    }

    /// The virtual machine was reset: no buffers, nothing pending.
    pub fn reset(&self) {
        let mut state = self.lock();
        state.cpus.fill(None);
        state.queues.iter_mut().for_each(VecDeque::clear);
        self.publish(&state);
    }
}

#[cfg(test)]
mod tests {
    use super::world::{self, CPUS, STORAGE, Step};
    use super::*;
    use proptest::prelude::*;

    fn raw(kind: u8, path: u16) -> Raw {
        let mut raw = [0; PLIST_LENGTH];
        raw[..2].copy_from_slice(&path.to_be_bytes());
        raw[3] = kind;
        raw
    }

    fn buffer(address: u32) -> Raw {
        let mut plist = Message::zeroed();
        plist.address = address.into();
        plist.encode()
    }

    fn declare(
        interrupts: &Interrupts,
        cpu: usize,
        address: u32,
    ) -> Result<(Completion, Declaration), ProgramInterruption> {
        interrupts.declare(cpu, &mut buffer(address), STORAGE)
    }

    #[test]
    fn a_buffer_is_checked_and_declared_once() {
        let interrupts = Interrupts::new(2);
        assert!(!interrupts.is_declared());
        let specification = Err(ProgramInterruption::Specification);
        assert_eq!(declare(&interrupts, 0, 0x1004), specification);
        let addressing = Err(ProgramInterruption::Addressing);
        assert_eq!(declare(&interrupts, 0, 0x10_0000), addressing);
        assert_eq!(declare(&interrupts, 0, 0xffff_fff8), addressing);
        assert_eq!(
            declare(&interrupts, 2, 0x1000),
            Err(ProgramInterruption::Operation)
        );
        assert!(!interrupts.is_declared());

        let done = Completion::with_cc(0);
        assert_eq!(
            declare(&interrupts, 0, 0x1000),
            Ok((done, Declaration::First))
        );
        assert_eq!(
            declare(&interrupts, 1, 0x2000),
            Ok((done, Declaration::Further))
        );
        let mut again = buffer(0x3000);
        assert_eq!(
            interrupts.declare(0, &mut again, STORAGE),
            Ok((Completion::with_cc(1), Declaration::Further))
        );
        assert_eq!(again[RCODE_OFFSET], 19);

        assert!(interrupts.raise(InterruptId(7), raw(9, 3)));
        assert_eq!(interrupts.take(0).map(|taken| taken.buffer), Some(0x1000));
        assert_eq!(interrupts.retrieve(0), Ok((done, Declaration::Further)));
        assert_eq!(interrupts.retrieve(0), Err(ProgramInterruption::Operation));
        assert_eq!(interrupts.retrieve(1), Ok((done, Declaration::Last)));
    }

    #[test]
    fn masks_are_those_of_each_cpu() {
        let interrupts = Interrupts::new(2);
        declare(&interrupts, 0, 0x1000).unwrap();
        declare(&interrupts, 1, 0x2000).unwrap();
        // As for handlers that are not SMP-safe: the first CPU takes all, the others nothing.
        interrupts.set_mask(0, 0xf8).unwrap();
        interrupts.set_control_mask(0, 0xf8).unwrap();
        interrupts.set_mask(1, 0).unwrap();
        for (id, kind) in (1..=9).enumerate() {
            assert!(interrupts.raise(InterruptId(id as u64), raw(kind, 1)));
            assert!(interrupts.deliverable(0));
            assert!(!interrupts.deliverable(1));
            assert_eq!(interrupts.take(1), None);
            assert_eq!(interrupts.take(0).map(|taken| taken.raw[3]), Some(kind));
            assert!(!interrupts.deliverable(0));
        }
        // The control mask closes one kind, the mask closes all of them.
        interrupts.set_control_mask(0, 0xf8 & !0x20).unwrap();
        assert!(interrupts.raise(InterruptId(20), raw(3, 1)));
        assert!(!interrupts.deliverable(0));
        interrupts.set_control_mask(0, 0x20).unwrap();
        assert!(interrupts.deliverable(0));
        interrupts.set_mask(0, 0xf0).unwrap();
        assert!(!interrupts.deliverable(0));
        interrupts.set_mask(1, 0x08).unwrap();
        assert_eq!(interrupts.take(1).map(|taken| taken.buffer), Some(0x2000));
    }

    #[test]
    fn control_goes_before_priority_before_the_rest() {
        let interrupts = Interrupts::new(1);
        declare(&interrupts, 0, 0x1000).unwrap();
        for (id, kind) in [9, 7, 8, 6, 5, 1, 9].into_iter().enumerate() {
            assert!(interrupts.raise(InterruptId(id as u64), raw(kind, id as u16)));
        }
        let order: Vec<_> = std::iter::from_fn(|| interrupts.take(0))
            .map(|taken| (taken.raw[3], taken.id.0))
            .collect();
        assert_eq!(
            order,
            [(5, 4), (1, 5), (6, 3), (8, 2), (7, 1), (9, 0), (9, 6)]
        );
    }

    #[test]
    fn severing_does_not_overtake_messages_that_still_hold() {
        let interrupts = Interrupts::new(1);
        declare(&interrupts, 0, 0x1000).unwrap();
        for (id, (kind, path)) in [(9, 1), (9, 2), (3, 1), (9, 1)].into_iter().enumerate() {
            assert!(interrupts.raise(InterruptId(id as u64), raw(kind, path)));
        }
        let order: Vec<_> = std::iter::from_fn(|| interrupts.take(0))
            .map(|taken| taken.id.0)
            .collect();
        assert_eq!(order, [0, 3, 2, 1]);
    }

    #[test]
    fn what_is_retracted_is_not_taken() {
        let interrupts = Interrupts::new(1);
        declare(&interrupts, 0, 0x1000).unwrap();
        assert_eq!(interrupts.oldest_pending(), InterruptId(0));
        assert!(interrupts.raise(InterruptId(1), raw(9, 1)));
        assert!(interrupts.raise(InterruptId(4), raw(1, 2)));
        assert!(!interrupts.raise(InterruptId(4), raw(1, 2)));
        assert!(!interrupts.raise(InterruptId(5), raw(0, 2)));
        assert!(!interrupts.raise(InterruptId(5), raw(10, 2)));
        assert_eq!(interrupts.oldest_pending(), InterruptId(1));
        assert!(interrupts.retract(InterruptId(1)));
        assert!(!interrupts.retract(InterruptId(1)));
        assert_eq!(interrupts.oldest_pending(), InterruptId(4));
        assert_eq!(
            interrupts.take(0).map(|taken| taken.id),
            Some(InterruptId(4))
        );
        assert_eq!(interrupts.oldest_pending(), InterruptId(5));
        assert!(!interrupts.deliverable(0));
    }

    #[test]
    fn a_cpu_that_goes_offline_leaves_the_rest_to_the_others() {
        let interrupts = Interrupts::new(2);
        declare(&interrupts, 0, 0x1000).unwrap();
        declare(&interrupts, 1, 0x2000).unwrap();
        interrupts.set_mask(1, 0).unwrap();
        assert!(interrupts.raise(InterruptId(0), raw(9, 1)));
        interrupts.retrieve(0).unwrap();
        assert!(!interrupts.deliverable(0) && !interrupts.deliverable(1));
        interrupts.set_mask(1, 0xf8).unwrap();
        assert!(interrupts.take(1).is_some());

        assert!(interrupts.raise(InterruptId(1), raw(9, 1)));
        interrupts.reset();
        assert_eq!(interrupts.pending(), 0);
        declare(&interrupts, 1, 0x2000).unwrap();
        assert!(!interrupts.deliverable(1));
        assert!(interrupts.raise(InterruptId(2), raw(9, 1)));
        assert!(interrupts.take(1).is_some());
    }

    fn cpu() -> impl Strategy<Value = usize> {
        0..=CPUS
    }

    fn step() -> impl Strategy<Value = Step> {
        let addresses = vec![0, 8, 12, 0xf_ffd8, 0xf_ffe0, u32::MAX];
        prop_oneof![
            4 => (0..2_u8, 0..12_u8, 0..4_u16).prop_map(|(gap, kind, path)| Step::Raise(gap, raw(kind, path))),
            1 => (0..40_u64, 0..12_u8).prop_map(|(id, kind)| Step::RaiseAgain(id, raw(kind, 1))),
            2 => (0..40_u64).prop_map(Step::Retract),
            4 => cpu().prop_map(Step::Take),
            2 => (cpu(), prop::sample::select(addresses)).prop_map(|(cpu, address)| Step::Declare(cpu, buffer(address))),
            1 => cpu().prop_map(Step::Retrieve),
            1 => (cpu(), any::<u8>()).prop_map(|(cpu, mask)| Step::SetMask(cpu, mask)),
            1 => (cpu(), any::<u8>()).prop_map(|(cpu, mask)| Step::SetControlMask(cpu, mask)),
            1 => Just(Step::Reset),
        ]
    }

    proptest! {
        #[test]
        fn interrupts_leave_once(steps in prop::collection::vec(step(), 0..80)) {
            world::run(steps);
        }
    }
}
