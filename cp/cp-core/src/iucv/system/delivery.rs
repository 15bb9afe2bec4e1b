// SPDX-License-Identifier: GPL-2.0

//! SEND, DESCRIBE, RECEIVE, REPLY, REJECT, PURGE, TESTMSG and TESTCMPL.

use super::message::{Content, Data, Message, Phase, Wanted};
use super::path::{End, LinkId, Side, Stage};
use super::signal::{MessageKey, Signals};
use super::transfer::{Buffer, BufferError, Memory, Segment, copy, store};
use super::{DONE, Outcome, Refusal, System, wanted};
use crate::UserId;
use crate::iucv::plist::{
    self, Audit, Complete, Flags, InterruptKind, PendingMessage, Raw, ReturnCode,
};
use crate::iucv::{Completion, MessageId, PathId, ProgramInterruption};

/// Tells the receiver's end of a new message.
pub(super) fn announce(
    signals: &mut Signals,
    key: MessageKey,
    receiver: &End,
    content: Content,
) -> Message {
    let kind = if content.priority {
        InterruptKind::PriorityPending
    } else {
        InterruptKind::Pending
    };
    let list_data = match content.data {
        Data::InList(data) => data,
        Data::Buffer(_) | Data::Owned(_) => u64::from(content.length()).to_be_bytes(),
    };
    let raw = PendingMessage {
        path: receiver.path.0.into(),
        flags: content.flags(),
        kind: kind as u8,
        message: key.message.0.into(),
        target_class: content.target_class.into(),
        list_data,
        answer_length: content.answer.length.into(),
        ..PendingMessage::zeroed()
    }
    .encode();
    let ends = content.is_in_interrupt().then_some(key);
    // Only users receive: the service's end is quiesced.
    let interrupt = receiver
        .user()
        .map(|user| signals.raise(user, kind, raw, ends))
        .unwrap_or_default();
    let phase = Phase::Pending {
        interrupt,
        received: 0,
    };
    Message { content, phase }
}

/// Completes a message: its sender is told; CP's own messages are just gone. `fill` adds to a record without reply.
pub(super) fn complete(
    signals: &mut Signals,
    key: MessageKey,
    sender: &mut End,
    fill: impl FnOnce(&mut Complete),
) {
    let Some(user) = sender.user() else {
        sender.sent.remove(&key.message);
        return;
    };
    let path = sender.path;
    let Some(message) = sender.sent.get_mut(&key.message) else {
        return;
    };
    let mut record = Complete {
        path: path.0.into(),
        flags: Flags::PRIORITY.when(message.content.priority)
            | Flags::ONE_WAY.when(message.content.one_way),
        message: key.message.0.into(),
        source_class: message.content.source_class.into(),
        tag: message.content.tag.into(),
        ..Complete::zeroed()
    };
    fill(&mut record);
    let kind = if record.flags.has(Flags::PRIORITY) {
        InterruptKind::PriorityComplete
    } else {
        InterruptKind::Complete
    };
    record.rcode = kind as u8;
    let interrupt = signals.raise(user, kind, record.encode(), Some(key));
    message.phase = Phase::Complete {
        interrupt,
        record: Box::new(record),
    };
}

/// Which messages a function looks at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Search {
    /// Those to this user that are not received.
    Unreceived,
    /// Also those that are received and wait for the reply.
    Unanswered,
    /// Those from this user that are complete.
    Complete,
    /// Those from this user that are not complete.
    Sent,
}

impl Search {
    fn is_from_me(self) -> bool {
        matches!(self, Self::Complete | Self::Sent)
    }

    fn sees(self, message: &Message, by_id: bool) -> bool {
        match (self, &message.phase) {
            // The one who began to receive is told; the one who purged knows.
            (Self::Unreceived | Self::Unanswered, Phase::Purged) => by_id,
            (Self::Unreceived | Self::Unanswered | Self::Sent, Phase::Pending { .. })
            | (Self::Unanswered | Self::Sent, Phase::Received)
            | (Self::Complete, Phase::Complete { .. }) => true,
            _ => false,
        }
    }

    fn class(self, content: &Content) -> u32 {
        if self.is_from_me() {
            content.source_class
        } else {
            content.target_class
        }
    }
}

impl System {
    /// An id that no message of this end has.
    pub(super) fn new_message_id(&mut self) -> MessageId {
        self.last_message = self.last_message.checked_add(1).unwrap_or(1);
        MessageId(self.last_message)
    }

    /// Finds the message that a function is about.
    fn find(
        &self,
        user: &UserId,
        search: Search,
        path: Option<PathId>,
        by: Wanted,
    ) -> Result<MessageKey, Refusal> {
        let ends: Vec<(LinkId, Side)> = match path {
            Some(path) => vec![self.path(user, path)?],
            None => self
                .users
                .get(user)
                .map(|user| user.paths.values().copied().collect())
                .unwrap_or_default(),
        };
        if path.is_some() {
            let stage = ends
                .first()
                .and_then(|(link, side)| self.links.get(link)?.end(*side))
                .map(|end| end.stage);
            if !matches!(stage, Some(Stage::Established | Stage::Severed { .. })) {
                return Err(ReturnCode::InvalidPath.into());
            }
        }
        let mut first = None;
        for (link, side) in ends {
            let side = if search.is_from_me() {
                side
            } else {
                side.other()
            };
            let Some(sender) = self.links.get(&link).and_then(|link| link.end(side)) else {
                continue;
            };
            if let Some(message) = by.message {
                let content = sender
                    .sent
                    .get(&message)
                    .filter(|message| search.sees(message, true))
                    .map(|message| &message.content)
                    .ok_or(Refusal::NotFound)?;
                if by.class.is_some_and(|class| class != search.class(content)) {
                    return Err(ReturnCode::InvalidClass.into());
                }
                return Ok(MessageKey {
                    link,
                    side,
                    message,
                });
            }
            // Priority messages first, then in the order in which they were sent.
            for (&message, candidate) in &sender.sent {
                let content = &candidate.content;
                let order = (!content.priority, message);
                if search.sees(candidate, false)
                    && by.class.is_none_or(|class| class == search.class(content))
                    && first.is_none_or(|(before, _)| order < before)
                {
                    let key = MessageKey {
                        link,
                        side,
                        message,
                    };
                    first = Some((order, key));
                }
            }
        }
        first.map(|(_, key)| key).ok_or(Refusal::NotFound)
    }

    /// The message, and what is needed to change it: who sent it and who gets it.
    fn message_mut(
        &mut self,
        key: MessageKey,
    ) -> Result<(&mut Signals, &mut End, Option<&mut End>), Refusal> {
        let link = self.links.get_mut(&key.link).ok_or(Refusal::NotFound)?;
        match link.pair_mut(key.side) {
            (Some(sender), receiver) => Ok((&mut self.signals, sender, receiver.as_mut())),
            _ => Err(Refusal::NotFound),
        }
    }

    pub(super) fn send(&mut self, user: &UserId, raw: &mut Raw) -> Outcome {
        let mut plist = plist::Message::decode(raw);
        let flags = plist.flags;
        let (link_id, side) = self.path(user, plist.path_id())?;
        let mut id = self.new_message_id();
        let link = self
            .links
            .get_mut(&link_id)
            .ok_or(ReturnCode::InvalidPath)?;
        let (Some(mine), Some(other)) = link.pair_mut(side) else {
            return Err(ReturnCode::InvalidPath.into());
        };
        if mine.stage != Stage::Established {
            return Err(ReturnCode::InvalidPath.into());
        }
        if other.quiesced {
            return Err(ReturnCode::Quiesced.into());
        }
        if mine.is_full() {
            return Err(ReturnCode::MessageLimit.into());
        }
        let priority = flags.has(Flags::PRIORITY);
        if priority && !mine.priority {
            return Err(ReturnCode::NoPriority.into());
        }
        let one_way = flags.has(Flags::ONE_WAY);
        let buffer_list = flags.has(Flags::BUFFER_LIST);
        let data = if flags.has(Flags::IN_LIST) {
            if !other.in_list {
                return Err(ReturnCode::NoListData.into());
            }
            if buffer_list {
                return Err(ReturnCode::ListWithListData.into());
            }
            Data::InList(plist.list_data())
        } else {
            let (address, length) = (plist.address.get(), plist.length.get());
            Data::Buffer(Buffer::new(address, length, buffer_list)?)
        };
        let answer = if one_way {
            Buffer::default()
        } else {
            let (address, length) = (plist.answer_address.get(), plist.answer_length.get());
            Buffer::new(address, length, flags.has(Flags::ANSWER_LIST))?
        };
        // After four thousand million messages an id may still be in use; there are fewer than the limit of those.
        while mine.sent.contains_key(&id) {
            id = MessageId(id.0.checked_add(1).unwrap_or(1));
        }
        let content = Content {
            target_class: plist.target_class.get(),
            source_class: plist.source_class.get(),
            tag: plist.tag.get(),
            priority,
            one_way,
            data,
            answer,
        };
        let key = MessageKey {
            link: link_id,
            side,
            message: id,
        };
        let message = announce(&mut self.signals, key, other, content);
        mine.sent.insert(id, message);
        plist.message = id.0.into();
        plist.rcode = 0;
        *raw = plist.encode();
        Ok(DONE)
    }

    /// DESCRIBE: the next message; its interrupt is no longer needed.
    pub(super) fn describe(&mut self, user: &UserId, raw: &mut Raw) -> Outcome {
        let any = Wanted {
            message: None,
            class: None,
        };
        let key = self.find(user, Search::Unreceived, None, any)?;
        let (signals, sender, Some(receiver)) = self.message_mut(key)? else {
            return Err(Refusal::NotFound);
        };
        let Some(message) = sender.sent.get_mut(&key.message) else {
            return Err(Refusal::NotFound);
        };
        let content = &message.content;
        let mut plist = plist::Message::zeroed();
        plist.path = receiver.path.0.into();
        plist.flags = content.flags() | Flags::BY_MESSAGE | Flags::BY_PATH | Flags::BY_CLASS;
        plist.message = key.message.0.into();
        plist.target_class = content.target_class.into();
        match content.data {
            Data::InList(data) => plist.set_list_data(data),
            Data::Buffer(_) | Data::Owned(_) => plist.length = content.length().into(),
        }
        plist.answer_length = content.answer.length.into();
        if let Phase::Pending { interrupt, .. } = message.phase {
            // Data in the list is received with this.
            signals.retract(*user, interrupt);
            if message.content.is_in_interrupt() {
                sender.sent.remove(&key.message);
            }
        }
        *raw = plist.encode();
        Ok(DONE)
    }

    pub(super) fn receive(
        &mut self,
        user: &UserId,
        raw: &mut Raw,
        memory: &mut impl Memory,
    ) -> Outcome {
        let mut plist = plist::Message::decode(raw);
        let (path, by) = wanted(
            plist.flags,
            plist.path_id(),
            plist.message_id(),
            plist.target_class.get(),
        )?;
        let key = self.find(user, Search::Unreceived, path, by)?;
        let (signals, sender, Some(receiver)) = self.message_mut(key)? else {
            return Err(Refusal::NotFound);
        };
        let sender_id = sender.user();
        let Some(message) = sender.sent.get_mut(&key.message) else {
            return Err(Refusal::NotFound);
        };
        let Phase::Pending {
            interrupt,
            received,
        } = message.phase
        else {
            // The tombstone has told what it was for.
            sender.sent.remove(&key.message);
            return Err(ReturnCode::Purged.into());
        };
        let content = &message.content;
        let left = content.length() - received;
        let mut short = None;
        let moved = if let Data::InList(data) = content.data {
            plist.set_list_data(data);
            left
        } else {
            let list = plist.flags.has(Flags::BUFFER_LIST);
            let area = Buffer::new(plist.address.get(), plist.length.get(), list)?;
            let length = left.min(area.length);
            let to = area.segments(memory, user, 0, length).map_err(own_buffer)?;
            let sent = match (&content.data, sender_id) {
                (Data::Owned(text), _) => {
                    let (start, end) = (received as usize, (received + length) as usize);
                    store(memory, &text[start..end], user, &to)?;
                    Ok(())
                }
                (Data::Buffer(buffer), Some(sender)) => buffer
                    .segments(memory, &sender, received, length)
                    .and_then(|from| Ok(copy(memory, &sender, &from, user, &to)?)),
                _ => return Err(Refusal::NotFound),
            };
            if let Err(error) = sent {
                signals.retract(*user, interrupt);
                complete(signals, key, sender, |record| {
                    record.audit = Audit::SEND_ADDRESSING.to_bytes();
                });
                return Err(partner_buffer(error).into());
            }
            let residual = if length < left {
                short = Some(ReturnCode::TooShort);
                left - length
            } else {
                area.length - length
            };
            if !list {
                plist.address = plist.address.get().wrapping_add(length).into();
            }
            plist.length = residual.into();
            length
        };
        let content = &message.content;
        plist.path = receiver.path.0.into();
        plist.message = key.message.0.into();
        plist.target_class = content.target_class.into();
        plist.answer_length = content.answer.length.into();
        plist.flags = content.flags();
        plist.rcode = 0;
        signals.retract(*user, interrupt);
        if let Some(code) = short {
            message.phase = Phase::Pending {
                interrupt,
                received: received + moved,
            };
            // Ready for the next RECEIVE of the same message.
            plist.flags |= Flags::BY_MESSAGE | Flags::BY_PATH | Flags::BY_CLASS;
            *raw = plist.encode();
            return Err(code.into());
        }
        if content.is_in_interrupt() {
            sender.sent.remove(&key.message);
        } else if content.one_way {
            complete(signals, key, sender, |_| {});
        } else {
            message.phase = Phase::Received;
        }
        *raw = plist.encode();
        Ok(DONE)
    }

    /// REPLY. The reply's buffer is `ipbfadr2`, as CP documents it.
    pub(super) fn reply(
        &mut self,
        user: &UserId,
        raw: &mut Raw,
        memory: &mut impl Memory,
    ) -> Outcome {
        let mut plist = plist::Message::decode(raw);
        let flags = plist.flags;
        let by = Wanted {
            message: Some(plist.message_id()),
            class: Some(plist.target_class.get()),
        };
        let path = Some(plist.path_id());
        let key = self.find(user, Search::Unanswered, path, by)?;
        let (signals, sender, Some(receiver)) = self.message_mut(key)? else {
            return Err(Refusal::NotFound);
        };
        let Some(message) = sender.sent.get(&key.message) else {
            return Err(Refusal::NotFound);
        };
        if message.phase == Phase::Purged {
            sender.sent.remove(&key.message);
            return Err(ReturnCode::Purged.into());
        }
        if message.content.one_way {
            return Err(Refusal::NotFound);
        }
        let Some(sender_id) = sender.user() else {
            return Err(Refusal::NotFound);
        };
        let priority = flags.has(Flags::PRIORITY);
        if priority && !receiver.priority {
            return Err(ReturnCode::NoPriority.into());
        }
        let answer = message.content.answer;
        let in_list = flags.has(Flags::IN_LIST);
        let mut audit = Audit::CLEAN;
        let mut code = None;
        let mut residual = 0;
        if in_list {
            if !sender.in_list {
                return Err(ReturnCode::NoListData.into());
            }
        } else {
            let list = flags.has(Flags::ANSWER_LIST);
            let (address, length) = (plist.answer_address.get(), plist.answer_length.get());
            let area = Buffer::new(address, length, list)?;
            let length = area.length.min(answer.length);
            let from = area.segments(memory, user, 0, length).map_err(own_buffer)?;
            let stored = answer
                .segments(memory, &sender_id, 0, length)
                .and_then(|to: Vec<Segment>| Ok(copy(memory, user, &from, &sender_id, &to)?));
            residual = area.length.abs_diff(answer.length);
            if let Err(error) = stored {
                audit = Audit::ANSWER_ADDRESSING;
                code = Some(partner_buffer(error));
                residual = answer.length;
            } else if area.length > answer.length {
                audit = Audit::REPLY_TOO_LONG;
                code = Some(ReturnCode::TooShort);
            }
            if !list {
                plist.answer_address = address.wrapping_add(length).into();
            }
            plist.answer_length = residual.into();
        }
        if let Phase::Pending { interrupt, .. } = message.phase {
            signals.retract(*user, interrupt);
        }
        complete(signals, key, sender, |record| {
            record.audit = audit.to_bytes();
            record.answer_length = residual.into();
            record.flags = Flags::PRIORITY.when(priority);
            if in_list {
                record.flags |= Flags::IN_LIST;
                record.list_data = plist.list_data();
            }
        });
        plist.rcode = 0;
        *raw = plist.encode();
        code.map_or(Ok(DONE), |code| Err(code.into()))
    }

    pub(super) fn reject(&mut self, user: &UserId, raw: &mut Raw) -> Outcome {
        let mut plist = plist::Message::decode(raw);
        let (path, by) = wanted(
            plist.flags,
            plist.path_id(),
            plist.message_id(),
            plist.target_class.get(),
        )?;
        let key = self.find(user, Search::Unanswered, path, by)?;
        let (signals, sender, Some(receiver)) = self.message_mut(key)? else {
            return Err(Refusal::NotFound);
        };
        let Some(message) = sender.sent.get(&key.message) else {
            return Err(Refusal::NotFound);
        };
        if message.phase == Phase::Purged {
            sender.sent.remove(&key.message);
            return Err(ReturnCode::Purged.into());
        }
        plist.path = receiver.path.0.into();
        plist.message = key.message.0.into();
        plist.target_class = message.content.target_class.into();
        if let Phase::Pending { interrupt, .. } = message.phase {
            signals.retract(*user, interrupt);
        }
        complete(signals, key, sender, |record| {
            record.audit = Audit::REJECTED.to_bytes();
        });
        plist.rcode = 0;
        *raw = plist.encode();
        Ok(DONE)
    }

    pub(super) fn purge(&mut self, user: &UserId, raw: &mut Raw) -> Outcome {
        let mut plist = Complete::decode(raw);
        let (path, by) = wanted(
            plist.flags,
            plist.path_id(),
            plist.message_id(),
            plist.source_class.get(),
        )?;
        if path.is_none() {
            return Err(ProgramInterruption::Specification.into());
        }
        let key = self.find(user, Search::Sent, path, by)?;
        let (signals, sender, receiver) = self.message_mut(key)?;
        let Some(message) = sender.sent.get_mut(&key.message) else {
            return Err(Refusal::NotFound);
        };
        let content = &message.content;
        plist.flags = content.flags() & (Flags::ONE_WAY | Flags::PRIORITY);
        plist.source_class = content.source_class.into();
        plist.tag = content.tag.into();
        let mut begun = true;
        if let Phase::Pending {
            interrupt,
            received,
        } = message.phase
        {
            if let Some(receiver) = receiver.and_then(|end| end.user()) {
                signals.retract(receiver, interrupt);
            }
            begun = received > 0;
        }
        if begun {
            message.phase = Phase::Purged;
        } else {
            sender.sent.remove(&key.message);
        }
        plist.audit = Audit::CLEAN.to_bytes();
        plist.message = key.message.0.into();
        plist.rcode = 0;
        *raw = plist.encode();
        Ok(DONE)
    }

    /// TESTCMPL: takes a completion without its interrupt. Condition code 3 if its audit trail is not clean.
    pub(super) fn test_completion(&mut self, user: &UserId, raw: &mut Raw) -> Outcome {
        let plist = Complete::decode(raw);
        let (path, by) = wanted(
            plist.flags,
            plist.path_id(),
            plist.message_id(),
            plist.source_class.get(),
        )?;
        let key = self.find(user, Search::Complete, path, by)?;
        let (signals, sender, _) = self.message_mut(key)?;
        let Some(Phase::Complete { interrupt, record }) = sender
            .sent
            .remove(&key.message)
            .map(|message| message.phase)
        else {
            return Err(Refusal::NotFound);
        };
        signals.retract(*user, interrupt);
        *raw = Complete {
            rcode: 0,
            ..*record
        }
        .encode();
        let clean = record.audit == Audit::CLEAN.to_bytes();
        Ok(Completion::with_cc(if clean { 0 } else { 3 }))
    }

    /// TESTMSG: 1 messages, 2 completions, 3 both. The machine would wait if there were none; here it is 0.
    pub(super) fn test_message(&self, user: &UserId) -> Completion {
        let any = Wanted {
            message: None,
            class: None,
        };
        let has = |search| u8::from(self.find(user, search, None, any).is_ok());
        Completion::with_cc(has(Search::Unreceived) + 2 * has(Search::Complete))
    }
}

/// A bad buffer of the user that issued the function.
fn own_buffer(error: BufferError) -> Refusal {
    match error {
        BufferError::Addressing => ProgramInterruption::Addressing.into(),
        BufferError::List(code) => code.into(),
    }
}

/// A bad buffer of the other side.
fn partner_buffer(error: BufferError) -> ReturnCode {
    match error {
        BufferError::Addressing => ReturnCode::PartnerAddressing,
        BufferError::List(code) => code,
    }
}
