// SPDX-License-Identifier: GPL-2.0

//! Interrupts on their way to the virtual machines.

use std::collections::{BTreeMap, VecDeque};

use super::path::{LinkId, Side};
use crate::UserId;
use crate::iucv::plist::{InterruptKind, Raw, path_of};
use crate::iucv::{InterruptId, MessageId, PathId};

/// An interrupt for a virtual machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupt {
    /// Names it until it is taken or retracted.
    pub id: InterruptId,
    /// What happened.
    pub kind: InterruptKind,
    /// To which path.
    pub path: PathId,
    /// What to store in the interrupt buffer of the CPU that takes it.
    pub raw: Raw,
}

/// What a virtual machine must be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// An interrupt is pending.
    Interrupt(Interrupt),
    /// That interrupt is no longer pending, if no CPU has taken it yet.
    Retract(InterruptId),
}

/// A message whose life ends when an interrupt is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MessageKey {
    pub link: LinkId,
    /// The sender's.
    pub side: Side,
    pub message: MessageId,
}

/// All events not yet fetched, and for each user what is known of the interrupts it has taken.
#[derive(Debug, Default)]
pub(super) struct Signals {
    next: InterruptId,
    events: VecDeque<(UserId, Event)>,
    users: BTreeMap<UserId, Inbox>,
}

#[derive(Debug, Default)]
struct Inbox {
    /// All interrupts with lower ids are gone.
    taken_before: InterruptId,
    /// Messages that end when their interrupt is taken.
    awaiting: BTreeMap<InterruptId, MessageKey>,
}

impl Signals {
    pub fn log_on(&mut self, user: UserId) {
        self.users.insert(user, Inbox::default());
    }

    /// Forgets a user: it is told nothing more.
    pub fn log_off(&mut self, user: UserId) {
        self.users.remove(&user);
        self.events.retain(|(to, _)| *to != user);
    }

    /// Raises an interrupt; `ends` is the message that ends when it is taken.
    pub fn raise(
        &mut self,
        user: UserId,
        kind: InterruptKind,
        raw: Raw,
        ends: Option<MessageKey>,
    ) -> InterruptId {
        let id = self.next;
        self.next = InterruptId(id.0 + 1);
        let Some(inbox) = self.users.get_mut(&user) else {
            return id;
        };
        inbox.awaiting.extend(ends.map(|key| (id, key)));
        let path = path_of(&raw);
        let interrupt = Interrupt {
            id,
            kind,
            path,
            raw,
        };
        self.events.push_back((user, Event::Interrupt(interrupt)));
        id
    }

    /// Takes an interrupt back.
    pub fn retract(&mut self, user: UserId, id: InterruptId) {
        let Some(inbox) = self.users.get_mut(&user) else {
            return;
        };
        inbox.awaiting.remove(&id);
        if id >= inbox.taken_before {
            self.events.push_back((user, Event::Retract(id)));
        }
    }

    /// The message is gone, its interrupt stays.
    pub fn detach(&mut self, user: UserId, id: InterruptId) {
        if let Some(inbox) = self.users.get_mut(&user) {
            inbox.awaiting.remove(&id);
        }
    }

    /// The user has taken all interrupts before `id`: the messages that end by that.
    pub fn taken_before(&mut self, user: UserId, id: InterruptId) -> Vec<MessageKey> {
        let next = self.next;
        let Some(inbox) = self.users.get_mut(&user) else {
            return Vec::new();
        };
        // A guest cannot have taken what was not raised.
        inbox.taken_before = inbox.taken_before.max(id.min(next));
        let rest = inbox.awaiting.split_off(&inbox.taken_before);
        std::mem::replace(&mut inbox.awaiting, rest)
            .into_values()
            .collect()
    }

    pub fn drain(&mut self) -> impl Iterator<Item = (UserId, Event)> + '_ {
        self.events.drain(..)
    }

    /// The messages that end when an interrupt is taken.
    #[cfg(any(test, fuzzing))]
    pub fn awaiting(&self) -> impl Iterator<Item = (InterruptId, MessageKey)> + '_ {
        self.users
            .values()
            .flat_map(|inbox| &inbox.awaiting)
            .map(|(&id, &key)| (id, key))
    }
}
