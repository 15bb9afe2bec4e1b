// SPDX-License-Identifier: GPL-2.0

//! What commands need of IUCV's `*MSG` service.

use crate::user_id::UserId;

/// The classes of the messages that `*MSG` delivers, as far as they are used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum MessageClass {
    /// From `MESSAGE` and `MSGNOH`.
    Message = 1,
    /// From `SMSG`.
    Special = 4,
}

/// Why `*MSG` does not take a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// Nobody in the virtual machine is connected to `*MSG`.
    NotConnected,
    /// So many messages wait to be received that no more may.
    LimitReached,
}

impl NotTaken {
    /// The reason as it stands in message 057.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NotConnected => "not connected to *MSG",
            Self::LimitReached => "message limit reached",
        }
    }
}

/// The `*MSG` service.
pub trait MessageService {
    /// Delivers a message to the program in the virtual machine `to` that is connected to `*MSG`.
    fn deliver(
        &mut self,
        class: MessageClass,
        from: UserId,
        to: UserId,
        text: &str,
    ) -> Result<(), NotTaken>;
}
