// SPDX-License-Identifier: GPL-2.0

//! The message system service, `*MSG`: messages of CP commands as IUCV messages.

use thiserror::Error;

use super::delivery::announce;
use super::message::{Content, Data};
use super::path::{Side, Stage};
use super::signal::MessageKey;
use super::transfer::Buffer;
use super::{System, User};
use crate::UserId;

/// The name by which programs connect to it, EBCDIC.
pub(super) const MESSAGE_SERVICE: [u8; 8] = *b"\x5c\xd4\xe2\xc7\x40\x40\x40\x40";

/// The longest text of one message, in characters: what a command line holds.
pub const MAX_TEXT: usize = 240;

/// What CP does with messages to a user (`SET SMSG`, `SET MSG`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receiving {
    /// They are refused.
    Off,
    /// Messages are shown on the console. Special messages would go by VMCF, which is not there, and are refused.
    On,
    /// They go to `*MSG`.
    Iucv,
}

/// Where a message comes from; the message class of *MSG.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum MessageClass {
    /// MESSAGE, MSGNOH.
    Message = 1,
    /// SMSG.
    Special = 4,
}

/// Where a message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// To `*MSG`.
    Iucv,
    /// The caller must show it on the user's console.
    Console,
}

/// Why a message was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SmsgError {
    /// HCP045E.
    #[error("{0} not logged on")]
    NotLoggedOn(UserId),
    /// HCP057E: refused by `SET`, no path to `*MSG`, path quiesced, or as many messages outstanding as it may have.
    #[error("{0} not receiving; {1} off")]
    NotReceiving(UserId, &'static str),
    /// More than a command line holds.
    #[error("text of {0} characters: at most {MAX_TEXT} are allowed")]
    TooLong(usize),
}

impl SmsgError {
    /// CP's return code: the number of its error message.
    #[must_use]
    pub const fn rc(&self) -> u32 {
        match self {
            Self::TooLong(_) => 3,
            Self::NotLoggedOn(_) => 45,
            Self::NotReceiving(..) => 57,
        }
    }
}

impl User {
    fn receiving(&mut self, class: MessageClass) -> &mut Receiving {
        match class {
            MessageClass::Message => &mut self.messages,
            MessageClass::Special => &mut self.special_messages,
        }
    }
}

impl System {
    /// `SET MSG` or `SET SMSG` of a user; `false` if it is not logged on.
    pub fn set_receiving(
        &mut self,
        user: &UserId,
        class: MessageClass,
        receiving: Receiving,
    ) -> bool {
        self.users.get_mut(user).is_some_and(|user| {
            *user.receiving(class) = receiving;
            true
        })
    }

    /// The setting of a user, if it is logged on.
    #[must_use]
    pub fn receiving(&self, user: &UserId, class: MessageClass) -> Option<Receiving> {
        self.users.get(user).map(|user| match class {
            MessageClass::Message => user.messages,
            MessageClass::Special => user.special_messages,
        })
    }

    /// Sends a message from a user, logged on or not, to another one. `text` is EBCDIC.
    pub fn smsg(
        &mut self,
        from: &UserId,
        to: &UserId,
        class: MessageClass,
        text: &[u8],
    ) -> Result<Destination, SmsgError> {
        if text.len() > MAX_TEXT {
            return Err(SmsgError::TooLong(text.len()));
        }
        let user = self.users.get_mut(to).ok_or(SmsgError::NotLoggedOn(*to))?;
        let what = match class {
            MessageClass::Message => "MSG",
            MessageClass::Special => "SMSG",
        };
        let refused = SmsgError::NotReceiving(*to, what);
        match (class, *user.receiving(class)) {
            (_, Receiving::Iucv) => {}
            (MessageClass::Message, Receiving::On) => return Ok(Destination::Console),
            (_, Receiving::Off) | (MessageClass::Special, Receiving::On) => return Err(refused),
        }
        let Some(link_id) = user.message_path else {
            // Nobody listens: as if set to ON.
            return match class {
                MessageClass::Message => Ok(Destination::Console),
                MessageClass::Special => Err(refused),
            };
        };
        let id = self.new_message_id();
        let link = self.links.get_mut(&link_id).ok_or(refused)?;
        let (Some(guest), Some(service)) = link.pair_mut(Side::Originator) else {
            return Err(refused);
        };
        if guest.stage != Stage::Established || guest.quiesced || service.is_full() {
            return Err(refused);
        }
        let data = [&from.as_ebcdic()[..], text].concat().into();
        let content = Content {
            target_class: class as u32,
            source_class: 0,
            tag: 0,
            priority: false,
            one_way: true,
            data: Data::Owned(data),
            answer: Buffer::default(),
        };
        let key = MessageKey {
            link: link_id,
            side: Side::Target,
            message: id,
        };
        let message = announce(&mut self.signals, key, guest, content);
        service.sent.insert(id, message);
        Ok(Destination::Iucv)
    }
}
