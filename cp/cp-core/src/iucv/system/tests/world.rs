// SPDX-License-Identifier: GPL-2.0

//! Any calls by three users, against a model of what messages are there.

use std::collections::{BTreeMap, BTreeSet};

use super::super::message::{Data, Phase};
use super::super::path::Stage;
use super::*;
use crate::system::{MessageClass, MessageService, NotTaken};

pub const NAMES: [&str; 3] = ["LINUX01", "LINUX02", "LINUX03"];
/// Few, so that limits are met.
pub const MAX_CONNECTIONS: u16 = 4;
pub const MAX_LIMIT: u16 = 3;
/// Above the classes of *MSG.
pub const FIRST_TAG: u32 = 1000;

/// What users may do: mostly who does it, and to which of their paths or messages.
#[derive(Clone, Debug)]
pub enum Step {
    Connect(usize, usize, u16, u8),
    ConnectToService(usize),
    Accept(usize, Choice, u16, u8),
    Send(usize, Choice, u8, u32),
    Receive(usize, Choice, u32),
    ReceiveAny(usize, u32),
    Describe(usize),
    Reply(usize, Choice, u32),
    Reject(usize, Choice),
    Purge(usize, Choice),
    TestCompletion(usize),
    Quiesce(usize, Choice),
    Resume(usize, Choice),
    Sever(usize, Choice),
    SeverAll(usize),
    Take(usize),
    Smsg(usize, usize),
    Retrieve(usize),
    Declare(usize),
    Relog(usize),
    Hostile(usize, u8, [[u8; 8]; 5]),
}

/// One of some; which, if there are fewer than the number, is counted round.
#[derive(Clone, Copy, Debug)]
pub struct Choice(pub usize);

impl Choice {
    fn of<T>(self, some: &[T]) -> Option<&T> {
        some.get(self.0.checked_rem(some.len())?)
    }
}

/// A message as the model knows it. Messages are told apart by their tag, which is also both of their classes.
#[derive(Clone, Debug)]
struct Known {
    sender: UserId,
    path: u16,
    receiver: UserId,
    receiver_path: u16,
    flags: Flags,
    /// Where the data is in the sender's storage, piece by piece.
    data: Vec<(u32, u32)>,
    in_list: [u8; 8],
    received: usize,
}

/// What the users know.
#[derive(Default)]
struct Model {
    last_tag: u32,
    /// The messages whose life has not ended.
    alive: BTreeMap<u32, Known>,
    /// Messages whose sender is gone, but whose data is in an interrupt.
    stranded: BTreeSet<u32>,
    /// Messages that each user was told of: path, id and class.
    inbox: BTreeMap<UserId, Vec<PendingMessage>>,
    /// Messages that each user has sent: path, id and tag.
    outbox: BTreeMap<UserId, Vec<(u16, u32, u32)>>,
}

/// Three users, and what they know of each other's messages.
struct World {
    m: Machines,
    users: Vec<UserId>,
    model: Model,
}

impl World {
    fn new() -> Self {
        let mut m = Machines::default();
        let users: Vec<_> = NAMES
            .iter()
            .map(|name| m.log_on(name, MAX_CONNECTIONS))
            .collect();
        users.iter().for_each(|user| m.declare(user));
        m.connect_with(&users[0], &users[1], MAX_LIMIT);
        m.connect_with(&users[2], &users[1], MAX_LIMIT);
        Self {
            m,
            users,
            model: Model {
                last_tag: FIRST_TAG,
                ..Model::default()
            },
        }
    }

    fn control(
        &mut self,
        user: usize,
        function: Function,
        plist: Control,
    ) -> Option<(u8, Control)> {
        let mut raw = plist.encode();
        let cc = self.call(user, function, &mut raw)?;
        Some((cc, Control::decode(&raw)))
    }

    /// Executes a function and checks that whatever did not work has changed nothing but the return code.
    fn call(&mut self, user: usize, function: Function, raw: &mut Raw) -> Option<u8> {
        let before = *raw;
        let result = self.m.call(&self.users[user], function, raw);
        let rc = match result {
            Err(_) => {
                assert_eq!(*raw, before);
                return None;
            }
            Ok(Completion { cc: 1, .. }) => raw[RCODE_OFFSET],
            Ok(Completion { cc: 2, .. }) => {
                assert_eq!(*raw, before);
                2
            }
            Ok(_) => 0,
        };
        if rc != 0 && ![5, 7].contains(&rc) {
            let mut expected = before;
            expected[RCODE_OFFSET] = raw[RCODE_OFFSET];
            assert_eq!(*raw, expected);
        }
        Some(rc)
    }

    fn on(path: u16) -> Control {
        Control {
            path: path.into(),
            ..Control::zeroed()
        }
    }

    /// A path of the user; a number that is none if it has none.
    fn path(&self, user: usize, index: Choice) -> u16 {
        let paths = self.m.system.users[&self.users[user]].paths.keys();
        let paths: Vec<_> = paths.map(|path| path.0).collect();
        index.of(&paths).copied().unwrap_or(0)
    }

    fn send(&mut self, user: usize, path: u16, flags: Flags, length: u32) {
        let me = self.users[user];
        let tag = self.model.last_tag + 1;
        self.model.last_tag = tag;
        // Data at a place of its own for the last 64 messages.
        let at = 0x1000 + (tag % 64) * 0x100;
        let bytes: Vec<u8> = (0..length).map(|i| (tag * 31 + i) as u8).collect();
        let in_list = u64::from(tag).to_be_bytes();
        let mut plist = Message {
            flags,
            target_class: tag.into(),
            source_class: tag.into(),
            answer_address: 0x8000.into(),
            answer_length: 24.into(),
            ..send_plist(path, at, length, tag)
        };
        let mut data = vec![(at, length)];
        if flags.has(Flags::IN_LIST) {
            plist.set_list_data(in_list);
        } else if flags.has(Flags::BUFFER_LIST) {
            let cut = length / 3;
            data = vec![(at, cut), (at + cut + 7, length - cut)];
            let list = at + 0xe0;
            for (i, (address, length)) in data.iter().enumerate() {
                let entry = (u64::from(*address) << 32 | u64::from(*length)).to_be_bytes();
                self.m.store(&me, list + 8 * i as u32, &entry);
            }
            plist.address = list.into();
        }
        if self.m.storages.0.contains_key(&me) && !flags.has(Flags::IN_LIST) {
            let mut rest = &bytes[..];
            for (address, length) in &data {
                let (now, later) = rest.split_at(*length as usize);
                self.m.store(&me, *address, now);
                rest = later;
            }
        }
        let receiver = self.partner(me, path);
        let mut raw = plist.encode();
        if self.call(user, Function::Send, &mut raw) == Some(0) {
            let id = Message::decode(&raw).message.get();
            assert_ne!(id, 0);
            let (receiver, receiver_path) = receiver.expect("a partner");
            self.model
                .outbox
                .entry(me)
                .or_default()
                .push((path, id, tag));
            let known = Known {
                sender: me,
                path,
                receiver,
                receiver_path,
                flags,
                data,
                in_list,
                received: 0,
            };
            self.model.alive.insert(tag, known);
        }
    }

    /// Who has the other end of a path, and its number there.
    fn partner(&self, user: UserId, path: u16) -> Option<(UserId, u16)> {
        let (link, side) = self.m.system.users[&user].paths.get(&PathId(path))?;
        let end = self.m.system.links[link].end(side.other())?;
        Some((end.user()?, end.path.0))
    }

    /// The bytes of a message that its sender's storage has now.
    fn content(&self, known: &Known) -> Vec<u8> {
        known
            .data
            .iter()
            .flat_map(|&(address, length)| self.m.load(&known.sender, address, length as usize))
            .collect()
    }

    fn receive(&mut self, user: usize, plist: Message, length: u32) {
        let me = self.users[user];
        let mut raw = plist.encode();
        let rc = self.call(user, Function::Receive, &mut raw);
        let got = Message::decode(&raw);
        let tag = got.target_class.get();
        if !matches!(rc, Some(0 | 5)) {
            return;
        }
        if tag == MessageClass::Special as u32 {
            return; // From *MSG.
        }
        let mut known = self.model.alive[&tag].clone();
        assert_eq!(known.receiver, me);
        if known.flags.has(Flags::IN_LIST) {
            assert_eq!((rc, got.list_data()), (Some(0), known.in_list));
        } else {
            let content = self.content(&known);
            let left = &content[known.received..];
            let moved = left.len().min(length as usize);
            assert_eq!(self.m.load(&me, 0xa000, moved), &left[..moved]);
            let residual = (left.len() as u32).abs_diff(length);
            assert_eq!(got.length.get(), residual);
            assert_eq!(rc == Some(5), left.len() > length as usize);
            known.received += moved;
        }
        let ends = known.flags.has(Flags::IN_LIST | Flags::ONE_WAY);
        self.model.alive.insert(tag, known);
        if ends {
            self.model.alive.remove(&tag);
        }
    }

    fn told_of(&self, user: usize, index: Choice) -> Option<PendingMessage> {
        index.of(self.model.inbox.get(&self.users[user])?).copied()
    }

    fn take(&mut self, user: usize) {
        let me = self.users[user];
        let Some(raw) = self.m.take(&me) else { return };
        match InterruptKind::of(&raw).expect("a known kind") {
            InterruptKind::Pending | InterruptKind::PriorityPending => {
                let pending = PendingMessage::decode(&raw);
                let tag = pending.target_class.get();
                if pending.flags.has(Flags::IN_LIST | Flags::ONE_WAY) {
                    assert_eq!(pending.list_data, u64::from(tag).to_be_bytes());
                    let ended = self.model.alive.remove(&tag).is_some();
                    assert!(ended || self.model.stranded.remove(&tag));
                }
                self.model.inbox.entry(me).or_default().push(pending);
            }
            InterruptKind::Complete | InterruptKind::PriorityComplete => {
                let tag = Complete::decode(&raw).tag.get();
                let known = self.model.alive.remove(&tag).expect("a living message");
                assert_eq!(known.sender, me);
            }
            InterruptKind::PendingConnection
            | InterruptKind::ConnectionComplete
            | InterruptKind::Severed
            | InterruptKind::Quiesced
            | InterruptKind::Resumed => {}
        }
    }

    /// The user's end of a path, or of all, is gone.
    fn severed(&mut self, user: usize, path: Option<u16>) {
        let me = self.users[user];
        let is_mine = |owner: UserId, at: u16| owner == me && path.is_none_or(|path| at == path);
        let stranded = &mut self.model.stranded;
        self.model.alive.retain(|&tag, known| {
            let in_interrupt = known.flags.has(Flags::IN_LIST | Flags::ONE_WAY);
            let from_me = is_mine(known.sender, known.path);
            let to_me = is_mine(known.receiver, known.receiver_path);
            if from_me && in_interrupt {
                stranded.insert(tag);
            }
            // Whose receiver is gone completes, unless the sender would not be told anyway.
            let over = from_me || (to_me && in_interrupt);
            !over
        });
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Connect(user, to, limit, flags) => {
                let plist = Control {
                    flags: Flags(flags),
                    message_limit: limit.into(),
                    user_id: self.users[to].as_ebcdic(),
                    ..Control::zeroed()
                };
                self.control(user, Function::Connect, plist);
            }
            Step::ConnectToService(user) => {
                let plist = Control {
                    user_id: crate::ebcdic::padded("*MSG"),
                    message_limit: MAX_LIMIT.into(),
                    ..Control::zeroed()
                };
                self.control(user, Function::Connect, plist);
            }
            Step::Accept(user, path, limit, flags) => {
                let path = self.path(user, path);
                let plist = Control {
                    flags: Flags(flags),
                    message_limit: limit.max(1).into(),
                    ..Self::on(path)
                };
                self.control(user, Function::Accept, plist);
            }
            Step::Send(user, path, flags, length) => {
                let path = self.path(user, path);
                self.send(user, path, Flags(flags), length);
            }
            Step::Receive(user, index, length) => {
                if let Some(pending) = self.told_of(user, index) {
                    self.receive(user, receive_plist(&pending, 0xa000, length), length);
                }
            }
            Step::ReceiveAny(user, length) => {
                let plist = Message {
                    address: 0xa000.into(),
                    length: length.into(),
                    ..Message::zeroed()
                };
                self.receive(user, plist, length);
            }
            Step::Describe(user) => {
                let mut raw = [0; 40];
                if self.call(user, Function::Describe, &mut raw) == Some(0) {
                    let described = Message::decode(&raw);
                    if described.flags.has(Flags::IN_LIST | Flags::ONE_WAY) {
                        self.model.alive.remove(&described.target_class.get());
                    }
                }
            }
            Step::Reply(user, index, length) => {
                if let Some(pending) = self.told_of(user, index) {
                    let plist = Message {
                        flags: Flags::NONE,
                        answer_address: 0xb000.into(),
                        answer_length: length.into(),
                        ..receive_plist(&pending, 0, 0)
                    };
                    let mut raw = plist.encode();
                    if let Some(0 | 5) = self.call(user, Function::Reply, &mut raw) {
                        let known = &self.model.alive[&pending.target_class.get()];
                        let moved = length.min(24) as usize;
                        assert_eq!(
                            self.m.load(&known.sender, 0x8000, moved),
                            self.m.load(&self.users[user], 0xb000, moved)
                        );
                    }
                }
            }
            Step::Reject(user, index) => {
                if let Some(pending) = self.told_of(user, index) {
                    let mut raw = receive_plist(&pending, 0, 0).encode();
                    self.call(user, Function::Reject, &mut raw);
                }
            }
            Step::Purge(user, index) => self.purge(user, index),
            Step::TestCompletion(user) => {
                let mut raw = [0; 40];
                if self.call(user, Function::TestCompletion, &mut raw) == Some(0) {
                    // Its interrupt may have been taken, before an older one.
                    let tag = Complete::decode(&raw).tag.get();
                    self.model.alive.remove(&tag);
                }
            }
            Step::Quiesce(user, path) => {
                let path = self.path(user, path);
                self.control(user, Function::Quiesce, Self::on(path));
            }
            Step::Resume(user, path) => {
                let path = self.path(user, path);
                self.control(user, Function::Resume, Self::on(path));
            }
            Step::Sever(user, path) => {
                let path = self.path(user, path);
                let severed = self.control(user, Function::Sever, Self::on(path));
                if let Some((0, _)) = severed {
                    self.severed(user, Some(path));
                }
            }
            Step::SeverAll(user) => {
                let plist = Control {
                    flags: Flags::ALL,
                    ..Control::zeroed()
                };
                if self.control(user, Function::Sever, plist).is_some() {
                    self.severed(user, None);
                }
            }
            Step::Take(user) => self.take(user),
            Step::Smsg(from, to) => {
                let (from, to) = (self.users[from], self.users[to]);
                let class = MessageClass::Special;
                let result = self.m.system.deliver(class, from, to, "CMM");
                assert!(!matches!(result, Err(NotTaken::LimitReached)));
                self.m.pump();
            }
            Step::Retrieve(user) => {
                let me = self.users[user];
                self.m.retrieve(&me);
                self.severed(user, None);
            }
            Step::Declare(user) => {
                let me = self.users[user];
                self.m.declare(&me);
            }
            Step::Relog(user) => {
                let me = self.users[user];
                self.m.log_off(&me);
                self.severed(user, None);
                self.model.inbox.remove(&me);
                self.m.log_on(NAMES[user], MAX_CONNECTIONS);
            }
            Step::Hostile(user, function, plist) => {
                let mut raw = [0; 40];
                raw.copy_from_slice(plist.as_flattened());
                let function = Function::ALL[usize::from(function)];
                self.call(user, function, &mut raw);
            }
        }
    }

    fn purge(&mut self, user: usize, index: Choice) {
        let me = self.users[user];
        let outbox = self.model.outbox.get(&me);
        let Some(&(path, id, tag)) = outbox.and_then(|outbox| index.of(outbox)) else {
            return;
        };
        let mut raw = Complete {
            path: path.into(),
            flags: Flags::BY_PATH | Flags::BY_MESSAGE | Flags::BY_CLASS,
            message: id.into(),
            source_class: tag.into(),
            ..Complete::zeroed()
        }
        .encode();
        if self.call(user, Function::Purge, &mut raw) == Some(0) {
            assert_eq!(Complete::decode(&raw).tag.get(), tag);
            assert!(self.model.alive.remove(&tag).is_some());
        }
    }

    /// What holds always.
    fn check(&mut self) {
        self.m.acknowledge();
        let system = &self.m.system;
        let mut ends = 0;
        for (id, user) in &system.users {
            assert!(user.paths.len() <= usize::from(user.max_connections));
            assert!(user.declared || user.paths.is_empty());
            for (path, (link, side)) in &user.paths {
                let end = system.links[link].end(*side).expect("an end");
                assert_eq!((end.user(), end.path), (Some(*id), *path));
                ends += 1;
            }
            if let Some(link) = user.message_path {
                assert!(
                    user.paths
                        .values()
                        .any(|&path| path == (link, Side::Originator))
                );
            }
            // No interrupt is about a path that is not there.
            assert!(self.m.interrupts[id].pending() <= self.bound());
        }
        for link in system.links.values() {
            let sides = [Side::Originator, Side::Target].map(|side| link.end(side));
            assert!(!link.is_gone());
            for (mine, other) in [(sides[0], sides[1]), (sides[1], sides[0])] {
                let Some(mine) = mine else { continue };
                if mine.user().is_some() {
                    ends -= 1;
                }
                let severed = matches!(mine.stage, Stage::Severed { .. });
                assert_eq!(severed, other.is_none());
                let limit = usize::from(mine.message_limit);
                assert!(mine.sent.len() <= limit.min(usize::from(MAX_MESSAGE_LIMIT)));
                assert!(mine.raised.len() <= 3 + usize::from(MAX_MESSAGE_LIMIT));
                for message in mine.sent.values() {
                    // Whose receiver is gone is complete.
                    assert!(other.is_some() || matches!(message.phase, Phase::Complete { .. }));
                }
            }
        }
        assert_eq!(ends, 0);
        // What waits for an interrupt is there, and waits for that one.
        for (id, key) in system.signals.awaiting() {
            let sender = system.links[&key.link].end(key.side).expect("an end");
            let (Phase::Pending { interrupt, .. } | Phase::Complete { interrupt, .. }) =
                sender.sent[&key.message].phase
            else {
                panic!("{key:?} waits for no interrupt");
            };
            assert_eq!(interrupt, id);
        }
    }

    fn bound(&self) -> usize {
        // Each end: three about the path, one about its flow, and what either side may have outstanding.
        usize::from(MAX_CONNECTIONS) * (4 + 2 * usize::from(MAX_MESSAGE_LIMIT))
    }

    /// What a machine has pending is about paths that it has.
    fn check_interrupts(&self) {
        for (user, interrupts) in &self.m.interrupts {
            let paths = &self.m.system.users[user].paths;
            while let Some(taken) = interrupts.take(0) {
                let path = plist::path_of(&taken.raw);
                assert!(paths.contains_key(&path), "{user}: {taken:?}");
            }
        }
    }

    /// The messages of the system are those of the model, and those whose end it cannot know yet: an interrupt was
    /// taken while an older one is pending.
    fn check_messages(&self) {
        let links = self.m.system.links.values();
        let pairs = links.flat_map(|link| {
            let (a, b) = (link.end(Side::Originator), link.end(Side::Target));
            [(a, b), (b, a)]
        });
        let mut there = BTreeSet::new();
        for (sender, receiver) in pairs {
            for message in sender.into_iter().flat_map(|end| end.sent.values()) {
                let tag = message.content.tag;
                let told = match message.phase {
                    _ if matches!(message.content.data, Data::Owned(_)) => continue,
                    Phase::Purged => continue,
                    Phase::Pending { interrupt, .. } if message.content.is_in_interrupt() => {
                        Some((receiver, interrupt))
                    }
                    Phase::Complete { interrupt, .. } => Some((sender, interrupt)),
                    Phase::Pending { .. } | Phase::Received => None,
                };
                assert!(there.insert(tag));
                if !self.model.alive.contains_key(&tag) {
                    let (end, interrupt) = told.expect("a message that has not ended");
                    let user = end.and_then(|end| end.user()).expect("a user");
                    assert!(interrupt > self.m.interrupts[&user].oldest_pending());
                }
            }
        }
        for tag in self.model.alive.keys() {
            assert!(there.contains(tag), "message {tag} is lost");
        }
    }
}

/// Users who know what they do: they get what was sent.
pub fn run(steps: impl IntoIterator<Item = Step>) {
    let mut world = World::new();
    for step in steps {
        world.step(step);
        world.check();
        world.check_messages();
    }
    world.check_interrupts();
}

/// Users one of whose steps may be [`Step::Hostile`]: the model does not know of such messages, so that it is only looked
/// for harm.
pub fn run_hostile(steps: impl IntoIterator<Item = Step>) {
    let mut world = World::new();
    for step in steps {
        match step {
            Step::Take(user) => {
                let user = world.users[user];
                world.m.take(&user);
            }
            step => world.step(step),
        }
        world.check();
    }
    world.check_interrupts();
}
