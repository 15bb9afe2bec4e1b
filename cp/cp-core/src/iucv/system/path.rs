// SPDX-License-Identifier: GPL-2.0

//! Paths: two ends, each with a number of its own, and the messages that each end has sent.

use std::collections::BTreeMap;

use super::message::Message;
use crate::UserId;
use crate::iucv::{InterruptId, MessageId, PathId};

/// Names a pair of path ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LinkId(pub u64);

/// One of the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Of who issued CONNECT.
    Originator,
    /// Of who was connected to.
    Target,
}

impl Side {
    pub const fn other(self) -> Self {
        match self {
            Self::Originator => Self::Target,
            Self::Target => Self::Originator,
        }
    }
}

/// Who has an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    User(UserId),
    /// `*MSG`.
    MessageService,
}

/// Where an end is in its life. An end that its owner has severed is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The originator waits for the target to accept.
    Connecting,
    /// The target may accept.
    Offered,
    Established,
    /// The other end is gone; `offered` if that was before this one accepted.
    Severed {
        offered: bool,
    },
}

#[derive(Debug)]
pub(super) struct End {
    pub owner: Owner,
    pub path: PathId,
    pub stage: Stage,
    /// How many messages this end may have outstanding.
    pub message_limit: u16,
    /// Takes data in the parameter list.
    pub in_list: bool,
    /// May send priority messages.
    pub priority: bool,
    /// Wants no messages.
    pub quiesced: bool,
    /// The last quiesced or resumed interrupt. There is at most one: the next replaces it.
    pub flow: Option<InterruptId>,
    /// The other interrupts about this end, and those with a message whose sender is gone.
    pub raised: Vec<InterruptId>,
    /// What this end has sent and is not complete, or whose completion has not been taken.
    pub sent: BTreeMap<MessageId, Message>,
}

impl End {
    pub fn new(owner: Owner, path: PathId, stage: Stage, message_limit: u16) -> Self {
        Self {
            owner,
            path,
            stage,
            message_limit,
            in_list: false,
            priority: false,
            quiesced: false,
            flow: None,
            raised: Vec::new(),
            sent: BTreeMap::new(),
        }
    }

    pub fn user(&self) -> Option<UserId> {
        match self.owner {
            Owner::User(user) => Some(user),
            Owner::MessageService => None,
        }
    }

    pub fn is_full(&self) -> bool {
        self.sent.len() >= usize::from(self.message_limit)
    }
}

#[derive(Debug)]
pub(super) struct Link {
    ends: [Option<End>; 2],
}

impl Link {
    pub fn new(originator: End, target: End) -> Self {
        Self {
            ends: [Some(originator), Some(target)],
        }
    }

    pub fn end(&self, side: Side) -> Option<&End> {
        self.ends[side as usize].as_ref()
    }

    pub fn end_mut(&mut self, side: Side) -> Option<&mut End> {
        self.ends[side as usize].as_mut()
    }

    /// The end of `side`, then the other one.
    pub fn pair_mut(&mut self, side: Side) -> (&mut Option<End>, &mut Option<End>) {
        let [originator, target] = &mut self.ends;
        match side {
            Side::Originator => (originator, target),
            Side::Target => (target, originator),
        }
    }

    pub fn is_gone(&self) -> bool {
        self.ends.iter().all(Option::is_none)
    }
}
