// SPDX-License-Identifier: GPL-2.0

//! A message and its life.

use super::transfer::Buffer;
use crate::iucv::plist::{Complete, Flags};
use crate::iucv::{InterruptId, MessageId};

/// Where the data of a message is until it is received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Data {
    /// In the parameter list, and so in the interrupt.
    InList([u8; 8]),
    /// In the sender's storage.
    Buffer(Buffer),
    /// With CP.
    Owned(Box<[u8]>),
}

/// Where a message is in its life. A message whose life has ended is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The receiver has not received all of it.
    Pending {
        /// What tells the receiver.
        interrupt: InterruptId,
        /// How many bytes it has received.
        received: u32,
    },
    /// The receiver has received all of a two-way message and owes the reply.
    Received,
    /// The sender has taken back what the receiver had begun to receive; the receiver does not know yet.
    Purged,
    /// The sender has to be told what `record` says; the message ends when it takes the interrupt.
    Complete {
        interrupt: InterruptId,
        record: Box<Complete>,
    },
}

/// What a message is, all its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub target_class: u32,
    pub source_class: u32,
    pub tag: u32,
    pub priority: bool,
    pub one_way: bool,
    pub data: Data,
    pub answer: Buffer,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub content: Content,
    pub phase: Phase,
}

impl Content {
    /// The whole length.
    pub fn length(&self) -> u32 {
        match &self.data {
            Data::InList(data) => data.len() as u32,
            Data::Buffer(buffer) => buffer.length,
            // A user ID and a command line.
            Data::Owned(text) => text.len() as u32,
        }
    }

    pub fn flags(&self) -> Flags {
        Flags::IN_LIST.when(matches!(self.data, Data::InList(_)))
            | Flags::PRIORITY.when(self.priority)
            | Flags::ONE_WAY.when(self.one_way)
    }

    /// Whether its receiver has it with the interrupt, and its sender is not told.
    pub fn is_in_interrupt(&self) -> bool {
        self.one_way && matches!(self.data, Data::InList(_))
    }
}

/// By what a message is looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub message: Option<MessageId>,
    pub class: Option<u32>,
}
