// SPDX-License-Identifier: GPL-2.0

//! CONNECT, ACCEPT, QUIESCE, RESUME and SEVER.

use zerocopy::byteorder::big_endian::U16;

use super::delivery::complete;
use super::message::Phase;
use super::path::{End, Link, LinkId, Owner, Side, Stage};
use super::service::MESSAGE_SERVICE;
use super::signal::{MessageKey, Signals};
use super::{DEFAULT_MESSAGE_LIMIT, DONE, MAX_MESSAGE_LIMIT, Outcome, System};
use crate::UserId;
use crate::iucv::plist::{Audit, Control, Flags, InterruptKind, PathInterrupt, Raw, ReturnCode};
use crate::iucv::{InterruptId, PathId};

/// EBCDIC `*`: the first character of the names of CP's services.
const SERVICE_MARK: u8 = 0x5c;

/// What a program gets for the limit it asks for: it is told, and not refused, since Linux asks for 65535.
fn granted(message_limit: U16) -> u16 {
    match message_limit.get() {
        0 => DEFAULT_MESSAGE_LIMIT,
        limit => limit.min(MAX_MESSAGE_LIMIT),
    }
}

/// What an end tells the other one about itself.
fn offered(end: &End) -> Flags {
    Flags::IN_LIST.when(end.in_list)
        | Flags::QUIESCED.when(end.quiesced)
        | Flags::PRIORITY.when(end.priority)
}

fn new_end(owner: Owner, path: PathId, stage: Stage, message_limit: u16, flags: Flags) -> End {
    End {
        in_list: flags.has(Flags::IN_LIST),
        priority: flags.has(Flags::PRIORITY),
        quiesced: flags.has(Flags::QUIESCED),
        ..End::new(owner, path, stage, message_limit)
    }
}

/// Tells the owner of an end about it.
fn notify(
    signals: &mut Signals,
    end: &End,
    kind: InterruptKind,
    user_data: [u8; 16],
    fill: impl FnOnce(&mut PathInterrupt),
) -> Option<InterruptId> {
    let mut interrupt = PathInterrupt {
        path: end.path.0.into(),
        kind: kind as u8,
        user_data,
        ..PathInterrupt::zeroed()
    };
    fill(&mut interrupt);
    end.user()
        .map(|user| signals.raise(user, kind, interrupt.encode(), None))
}

impl System {
    fn new_link_id(&mut self) -> LinkId {
        self.last_link += 1;
        LinkId(self.last_link)
    }

    pub(super) fn connect(&mut self, user: &UserId, raw: &mut Raw) -> Outcome {
        let mut plist = Control::decode(raw);
        let limit = granted(plist.message_limit);
        let path = if plist.user_id[0] == SERVICE_MARK {
            self.connect_service(user, &plist, limit)?
        } else {
            self.connect_user(user, &plist, limit)?
        };
        plist.path = path.0.into();
        plist.message_limit = limit.into();
        plist.rcode = 0;
        *raw = plist.encode();
        Ok(DONE)
    }

    fn connect_user(
        &mut self,
        user: &UserId,
        plist: &Control,
        limit: u16,
    ) -> Result<PathId, ReturnCode> {
        let target = UserId::from_ebcdic(plist.user_id).map_err(|_| ReturnCode::NotLoggedOn)?;
        let link_id = self.new_link_id();
        let partner = self.users.get(&target).ok_or(ReturnCode::NotLoggedOn)?;
        if !partner.declared {
            return Err(ReturnCode::NotDeclared);
        }
        let partner_has_room = partner.free_path().is_some();
        let originator = self.users.get_mut(user).ok_or(ReturnCode::InvalidPath)?;
        let path = originator
            .free_path()
            .ok_or(ReturnCode::TooManyConnections)?;
        if !partner_has_room {
            return Err(ReturnCode::TargetTooManyConnections);
        }
        let next_path = originator.next_path;
        originator.add_path(path, link_id, Side::Originator);
        // The target may be the originator itself, which then needs a second one.
        let partner_path = self.users.get(&target).and_then(|user| user.free_path());
        let (Some(partner_path), Some(partner)) = (partner_path, self.users.get_mut(&target))
        else {
            if let Some(originator) = self.users.get_mut(user) {
                originator.paths.remove(&path);
                originator.next_path = next_path;
            }
            return Err(ReturnCode::TargetTooManyConnections);
        };
        partner.add_path(partner_path, link_id, Side::Target);

        let connecting = Stage::Connecting;
        let mine = new_end(Owner::User(*user), path, connecting, limit, plist.flags);
        // What the target wants is known when it accepts.
        let mut theirs = End::new(Owner::User(target), partner_path, Stage::Offered, 0);
        let kind = InterruptKind::PendingConnection;
        let told = notify(&mut self.signals, &theirs, kind, plist.user_data, |it| {
            it.flags = offered(&mine);
            it.message_limit = limit.into();
            it.user_id = user.as_ebcdic();
        });
        theirs.raised.extend(told);
        self.links.insert(link_id, Link::new(mine, theirs));
        Ok(path)
    }

    fn connect_service(
        &mut self,
        user: &UserId,
        plist: &Control,
        limit: u16,
    ) -> Result<PathId, ReturnCode> {
        if plist.user_id != MESSAGE_SERVICE {
            return Err(ReturnCode::InvalidService);
        }
        let link_id = self.new_link_id();
        let originator = self.users.get_mut(user).ok_or(ReturnCode::InvalidPath)?;
        // One path to the service for each user.
        let path = match originator.message_path {
            None => originator.free_path(),
            Some(_) => None,
        }
        .ok_or(ReturnCode::TooManyConnections)?;
        originator.add_path(path, link_id, Side::Originator);
        originator.message_path = Some(link_id);

        let established = Stage::Established;
        let flags = plist.flags;
        let mut mine = new_end(Owner::User(*user), path, established, limit, flags);
        // The service takes no messages.
        let theirs = End {
            quiesced: true,
            ..End::new(
                Owner::MessageService,
                PathId(0),
                established,
                MAX_MESSAGE_LIMIT,
            )
        };
        let kind = InterruptKind::ConnectionComplete;
        let told = notify(&mut self.signals, &mine, kind, [0; 16], |it| {
            it.message_limit = limit.into();
        });
        mine.raised.extend(told);
        self.links.insert(link_id, Link::new(mine, theirs));
        Ok(path)
    }

    pub(super) fn accept(&mut self, user: &UserId, raw: &mut Raw) -> Outcome {
        let mut plist = Control::decode(raw);
        let (link_id, side) = self.path(user, plist.path_id())?;
        let link = self
            .links
            .get_mut(&link_id)
            .ok_or(ReturnCode::InvalidPath)?;
        let (Some(mine), other) = link.pair_mut(side) else {
            return Err(ReturnCode::InvalidPath.into());
        };
        let other = match (mine.stage, other) {
            (Stage::Offered, Some(other)) => other,
            (Stage::Severed { offered: true }, _) => {
                return Err(ReturnCode::OriginatorSevered.into());
            }
            _ => return Err(ReturnCode::InvalidPath.into()),
        };
        let limit = granted(plist.message_limit);
        let accepted = new_end(
            mine.owner,
            mine.path,
            Stage::Established,
            limit,
            plist.flags,
        );
        *mine = End {
            raised: std::mem::take(&mut mine.raised),
            ..accepted
        };
        other.stage = Stage::Established;
        let kind = InterruptKind::ConnectionComplete;
        let told = notify(&mut self.signals, other, kind, plist.user_data, |it| {
            it.flags = offered(mine);
            it.message_limit = other.message_limit.into();
        });
        other.raised.extend(told);
        plist.flags = offered(other);
        plist.message_limit = limit.into();
        plist.rcode = 0;
        *raw = plist.encode();
        Ok(DONE)
    }

    /// QUIESCE and RESUME.
    pub(super) fn set_flow(&mut self, user: &UserId, raw: &mut Raw, quiesced: bool) -> Outcome {
        let mut plist = Control::decode(raw);
        let (link_id, side) = self.path(user, plist.path_id())?;
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
        if mine.quiesced != quiesced {
            mine.quiesced = quiesced;
            let kind = if quiesced {
                InterruptKind::Quiesced
            } else {
                InterruptKind::Resumed
            };
            // Only the last state counts: a guest that quiesces and resumes forever fills nobody's queue.
            if let (Some(user), Some(last)) = (other.user(), other.flow) {
                self.signals.retract(user, last);
            }
            other.flow = notify(&mut self.signals, other, kind, plist.user_data, |_| {});
        }
        plist.rcode = 0;
        *raw = plist.encode();
        Ok(DONE)
    }

    pub(super) fn sever(&mut self, user: &UserId, raw: &mut Raw) -> Outcome {
        let mut plist = Control::decode(raw);
        if plist.flags.has(Flags::ALL) {
            self.sever_all(user, plist.user_data);
        } else {
            let (link_id, side) = self.path(user, plist.path_id())?;
            self.sever_end(link_id, side, plist.user_data);
        }
        plist.rcode = 0;
        *raw = plist.encode();
        Ok(DONE)
    }

    pub(super) fn sever_all(&mut self, user: &UserId, user_data: [u8; 16]) {
        let ends: Vec<_> = self
            .users
            .get(user)
            .map(|user| user.paths.values().copied().collect())
            .unwrap_or_default();
        for (link, side) in ends {
            self.sever_end(link, side, user_data);
        }
    }

    /// Ends one side of a path.
    ///
    /// Nothing about it is pending for its owner then, and its path ID is free. What it had sent is gone, since the
    /// data is in storage that its owner may use again; only what the receiver's interrupt holds remains. What was
    /// sent to it is complete, with that in the audit trail. The other side has to sever its end, too.
    fn sever_end(&mut self, link_id: LinkId, side: Side, user_data: [u8; 16]) {
        let Some(link) = self.links.get_mut(&link_id) else {
            return;
        };
        let signals = &mut self.signals;
        let (mine, other) = link.pair_mut(side);
        let Some(mine) = mine.take() else { return };
        if let Some(owner) = mine.user() {
            for interrupt in mine.raised.iter().chain(&mine.flow) {
                signals.retract(owner, *interrupt);
            }
            if let Some(user) = self.users.get_mut(&owner) {
                user.paths.remove(&mine.path);
                if user.message_path == Some(link_id) {
                    user.message_path = None;
                }
            }
        }
        if let Some(end) = other {
            Self::drop_sent(signals, &mine, end);
            Self::complete_sent(signals, &mine, (link_id, side.other()), end);
            match end.owner {
                Owner::MessageService => *other = None,
                Owner::User(_) => {
                    end.stage = Stage::Severed {
                        offered: end.stage == Stage::Offered,
                    };
                    let kind = InterruptKind::Severed;
                    let told = notify(signals, end, kind, user_data, |_| {});
                    end.raised.extend(told);
                }
            }
        } else if let Some(owner) = mine.user() {
            for message in mine.sent.values() {
                if let Phase::Complete { interrupt, .. } = message.phase {
                    signals.retract(owner, interrupt);
                }
            }
        }
        if link.is_gone() {
            self.links.remove(&link_id);
        }
    }

    /// The messages that the severed end had sent.
    fn drop_sent(signals: &mut Signals, mine: &End, other: &mut End) {
        for message in mine.sent.values() {
            match (&message.phase, mine.user(), other.user()) {
                (Phase::Complete { interrupt, .. }, Some(owner), _) => {
                    signals.retract(owner, *interrupt);
                }
                (Phase::Pending { interrupt, .. }, _, Some(receiver)) => {
                    if message.content.is_in_interrupt() {
                        signals.detach(receiver, *interrupt);
                        other.raised.push(*interrupt);
                    } else {
                        signals.retract(receiver, *interrupt);
                    }
                }
                _ => {}
            }
        }
    }

    /// The messages that the other end had sent to the severed one.
    fn complete_sent(
        signals: &mut Signals,
        mine: &End,
        (link, side): (LinkId, Side),
        sender: &mut End,
    ) {
        let open: Vec<_> = sender
            .sent
            .iter()
            .filter(|(_, message)| !matches!(message.phase, Phase::Complete { .. }))
            .map(|(&id, message)| (id, message.phase.clone(), message.content.is_in_interrupt()))
            .collect();
        for (message, phase, in_interrupt) in open {
            if let (Phase::Pending { interrupt, .. }, Some(owner)) = (&phase, mine.user()) {
                signals.retract(owner, *interrupt);
            }
            if in_interrupt || phase == Phase::Purged {
                sender.sent.remove(&message);
            } else {
                let key = MessageKey {
                    link,
                    side,
                    message,
                };
                complete(signals, key, sender, |record| {
                    record.audit = Audit::SEVERED.to_bytes();
                });
            }
        }
    }
}
