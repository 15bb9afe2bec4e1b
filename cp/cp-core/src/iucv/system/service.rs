// SPDX-License-Identifier: GPL-2.0

//! The message system service, `*MSG`: messages of CP commands as IUCV messages.

use super::System;
use super::delivery::announce;
use super::message::{Content, Data};
use super::path::{Side, Stage};
use super::signal::MessageKey;
use super::transfer::Buffer;
use crate::UserId;
use crate::ebcdic;
use crate::system::{MessageClass, MessageService, NotTaken};

/// The name by which programs connect to it, EBCDIC.
pub(super) const MESSAGE_SERVICE: [u8; 8] = *b"\x5c\xd4\xe2\xc7\x40\x40\x40\x40";

impl MessageService for System {
    /// The program receives the sender's user ID in 8 characters and the text, in EBCDIC. As many as
    /// [`super::MAX_MESSAGE_LIMIT`] may wait for it; a path that it has quiesced counts as none.
    fn deliver(
        &mut self,
        class: MessageClass,
        from: UserId,
        to: UserId,
        text: &str,
    ) -> Result<(), NotTaken> {
        let user = self.users.get(&to).ok_or(NotTaken::NotConnected)?;
        let link = user.message_path.ok_or(NotTaken::NotConnected)?;
        let message = self.new_message_id();
        let (Some(guest), Some(service)) = self
            .links
            .get_mut(&link)
            .ok_or(NotTaken::NotConnected)?
            .pair_mut(Side::Originator)
        else {
            return Err(NotTaken::NotConnected);
        };
        if guest.stage != Stage::Established || guest.quiesced {
            return Err(NotTaken::NotConnected);
        }
        if service.is_full() {
            return Err(NotTaken::LimitReached);
        }
        let data = [&from.as_ebcdic()[..], &ebcdic::from_str(text)].concat();
        let content = Content {
            target_class: class as u32,
            source_class: 0,
            tag: 0,
            priority: false,
            one_way: true,
            data: Data::Owned(data.into()),
            answer: Buffer::default(),
        };
        let key = MessageKey {
            link,
            side: Side::Target,
            message,
        };
        let message = announce(&mut self.signals, key, guest, content);
        service.sent.insert(key.message, message);
        Ok(())
    }
}
