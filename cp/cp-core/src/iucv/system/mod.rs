// SPDX-License-Identifier: GPL-2.0

//! The IUCV of the whole system: who uses it, paths, messages, and the message system service `*MSG`.
//!
//! A path is a pair of ends. What one end has sent stays with that end, and its data in the sender's storage, until
//! it is received; then the sender gets a completion. Each message counts against the limit of the sender's end until
//! its life ends:
//!
//! ```text
//! SEND -> pending -> RECEIVE -> (two-way: received -> REPLY) -> complete -> completion interrupt taken
//!                 -> REJECT, or the path is severed ----------> complete
//!                 -> one-way with its data in the list: pending interrupt taken
//!                 -> PURGE (a tombstone stays if the receiver has begun)
//! ```
//!
//! What a guest can hold is so bounded by its number of connections times [`MAX_MESSAGE_LIMIT`].

mod connection;
mod delivery;
mod message;
mod path;
mod service;
mod signal;
mod transfer;

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod tests;

use std::collections::BTreeMap;

use self::message::Wanted;
use self::path::{Link, LinkId, Side};
use self::signal::Signals;
pub use self::signal::{Event, Interrupt};
pub use self::transfer::{Addressing, Memory};
use super::plist::{Flags, Function, PLIST_LENGTH, RCODE_OFFSET, Raw, ReturnCode};
use super::{Completion, InterruptId, MessageId, PathId, ProgramInterruption};
use crate::UserId;

/// The limit of messages on a path if a program asks for none: that of CP.
pub const DEFAULT_MESSAGE_LIMIT: u16 = 10;
/// The highest limit of messages on a path. Linux's sockets ask for 65535 and take what they get.
pub const MAX_MESSAGE_LIMIT: u16 = 255;
/// The number of paths that a user may have, if not set otherwise.
pub const DEFAULT_MAX_CONNECTIONS: u16 = 1024;

/// The IUCV of the whole system.
#[derive(Debug, Default)]
pub struct System {
    users: BTreeMap<UserId, User>,
    links: BTreeMap<LinkId, Link>,
    signals: Signals,
    last_link: u64,
    last_message: u32,
}

#[derive(Debug)]
struct User {
    /// Has declared an interrupt buffer, so that it can use IUCV.
    declared: bool,
    max_connections: u16,
    paths: BTreeMap<PathId, (LinkId, Side)>,
    /// Where the search for a free path ID begins. Ids are reused as late as possible, so that what is still under
    /// way for an old path does not meet a new one.
    next_path: u16,
    /// The path to `*MSG`.
    message_path: Option<LinkId>,
}

/// Why a function did not end with condition code 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// Not executed.
    Program(ProgramInterruption),
    /// Condition code 1 and this in the parameter list.
    Code(ReturnCode),
    /// Condition code 2.
    NotFound,
}

impl From<ProgramInterruption> for Refusal {
    fn from(interruption: ProgramInterruption) -> Self {
        Self::Program(interruption)
    }
}

impl From<ReturnCode> for Refusal {
    fn from(code: ReturnCode) -> Self {
        Self::Code(code)
    }
}

impl From<Addressing> for Refusal {
    fn from(Addressing: Addressing) -> Self {
        Self::Program(ProgramInterruption::Addressing)
    }
}

type Outcome = Result<Completion, Refusal>;

const DONE: Completion = Completion::with_cc(0);

impl System {
    /// A system without users.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Logs a user on; `false` if it is logged on already.
    pub fn log_on(&mut self, user: UserId) -> bool {
        self.log_on_with(user, DEFAULT_MAX_CONNECTIONS)
    }

    /// Logs a user on that may have that many paths; `false` if it is logged on already.
    pub fn log_on_with(&mut self, user: UserId, max_connections: u16) -> bool {
        if self.users.contains_key(&user) {
            return false;
        }
        self.users.insert(user, User::new(max_connections));
        self.signals.log_on(user);
        true
    }

    /// Logs a user off: all its paths end, and there are no more events for it.
    pub fn log_off(&mut self, user: &UserId) {
        self.sever_all(user, [0; 16]);
        self.users.remove(user);
        self.signals.log_off(*user);
    }

    /// The virtual machine was reset: it has no buffer and no paths.
    pub fn reset(&mut self, user: &UserId) {
        self.retrieve(user);
    }

    /// The user has declared its first interrupt buffer.
    pub fn declare(&mut self, user: &UserId) {
        if let Some(user) = self.users.get_mut(user) {
            user.declared = true;
        }
    }

    /// The user has no interrupt buffer any longer: all its paths end.
    pub fn retrieve(&mut self, user: &UserId) {
        self.sever_all(user, [0; 16]);
        if let Some(user) = self.users.get_mut(user) {
            user.declared = false;
        }
    }

    /// Whether a user has an interrupt buffer, so that it can have paths.
    #[must_use]
    pub fn is_declared(&self, user: &UserId) -> bool {
        self.users.get(user).is_some_and(|user| user.declared)
    }

    /// Whether a user is logged on.
    #[must_use]
    pub fn is_logged_on(&self, user: &UserId) -> bool {
        self.users.contains_key(user)
    }

    /// The paths of a user and who is at the other end (`None`: nobody any longer); `*MSG` for the service.
    pub fn paths(&self, user: &UserId) -> impl Iterator<Item = (PathId, Option<String>)> + '_ {
        self.users
            .get(user)
            .into_iter()
            .flat_map(|user| &user.paths)
            .map(|(&path, (link, side))| {
                let partner = self
                    .links
                    .get(link)
                    .and_then(|link| link.end(side.other()))
                    .map(|end| {
                        end.user()
                            .map_or_else(|| "*MSG".into(), |user| user.to_string())
                    });
                (path, partner)
            })
    }

    /// All events since the last call, in their order.
    pub fn events(&mut self) -> impl Iterator<Item = (UserId, Event)> + '_ {
        self.signals.drain()
    }

    /// The user has no interrupt any longer whose id is below `id`: they were taken or retracted. Ends the messages
    /// that lived on only in those interrupts.
    ///
    /// To be called with [`super::interrupt::Interrupts::oldest_pending`] of both ends' users before SEND, so that
    /// the message limit is that of the moment. An interrupt that was taken before an older one counts as pending
    /// until that is gone, too. What a guest says here can hurt only itself.
    pub fn taken_before(&mut self, user: &UserId, id: InterruptId) {
        for key in self.signals.taken_before(*user, id) {
            if let Some(sender) = self
                .links
                .get_mut(&key.link)
                .and_then(|link| link.end_mut(key.side))
            {
                sender.sent.remove(&key.message);
            }
        }
    }

    /// The users at the other ends of a user's path: whose interrupts bear on the limit of its messages.
    #[must_use]
    pub fn partner(&self, user: &UserId, path: PathId) -> Option<UserId> {
        let (link, side) = self.users.get(user)?.paths.get(&path)?;
        self.links.get(link)?.end(side.other())?.user()
    }

    /// Executes the IUCV instruction for a user.
    ///
    /// `plist` is the parameter list, which is changed as the function defines it: always if the condition code is 1
    /// (its return code), never with a program interruption. DCLBFR and RTRVBFR are those of the first and of the
    /// last CPU; the CPUs' own buffers and masks are in [`super::interrupt::Interrupts`].
    pub fn call(
        &mut self,
        user: &UserId,
        function: Function,
        plist: &mut Raw,
        memory: &mut impl Memory,
    ) -> Result<Completion, ProgramInterruption> {
        let state = self.users.get(user).ok_or(ProgramInterruption::Operation)?;
        match function {
            Function::Query => {
                return Ok(Completion {
                    cc: 0,
                    r0: Some(PLIST_LENGTH as u32),
                    r1: Some(state.max_connections.into()),
                });
            }
            Function::DeclareBuffer => {
                self.declare(user);
                return Ok(DONE);
            }
            _ if !state.declared => return Err(ProgramInterruption::Operation),
            _ => {}
        }
        let outcome = match function {
            Function::Query
            | Function::DeclareBuffer
            | Function::SetMask
            | Function::SetControlMask => Ok(DONE),
            Function::RetrieveBuffer => {
                self.retrieve(user);
                return Ok(DONE);
            }
            Function::TestMessage => return Ok(self.test_message(user)),
            Function::Connect => self.connect(user, plist),
            Function::Accept => self.accept(user, plist),
            Function::Quiesce => self.set_flow(user, plist, true),
            Function::Resume => self.set_flow(user, plist, false),
            Function::Sever => self.sever(user, plist),
            Function::Send => self.send(user, plist),
            Function::Describe => self.describe(user, plist),
            Function::Receive => self.receive(user, plist, memory),
            Function::Reply => self.reply(user, plist, memory),
            Function::Reject => self.reject(user, plist),
            Function::Purge => self.purge(user, plist),
            Function::TestCompletion => self.test_completion(user, plist),
        };
        match outcome {
            Ok(completion) => Ok(completion),
            Err(Refusal::Program(interruption)) => Err(interruption),
            Err(Refusal::Code(code)) => {
                plist[RCODE_OFFSET] = code as u8;
                Ok(Completion::with_cc(1))
            }
            Err(Refusal::NotFound) => Ok(Completion::with_cc(2)),
        }
    }

    /// The link and side of a path, whatever its stage.
    fn path(&self, user: &UserId, path: PathId) -> Result<(LinkId, Side), ReturnCode> {
        self.users
            .get(user)
            .and_then(|user| user.paths.get(&path))
            .copied()
            .ok_or(ReturnCode::InvalidPath)
    }
}

impl User {
    fn new(max_connections: u16) -> Self {
        Self {
            declared: false,
            max_connections,
            paths: BTreeMap::new(),
            next_path: 0,
            message_path: None,
        }
    }

    /// A path ID that is not in use; `None` if all are.
    fn free_path(&self) -> Option<PathId> {
        let ids = 0..self.max_connections;
        let first = self.next_path.min(self.max_connections);
        ids.clone()
            .skip(first.into())
            .chain(ids)
            .map(PathId)
            .find(|path| !self.paths.contains_key(path))
    }

    fn add_path(&mut self, path: PathId, link: LinkId, side: Side) {
        self.paths.insert(path, (link, side));
        self.next_path = path.0.saturating_add(1);
    }
}

/// Reads the search flags of a parameter list: a message ID needs a path and a class.
fn wanted(
    flags: Flags,
    path: PathId,
    message: MessageId,
    class: u32,
) -> Result<(Option<PathId>, Wanted), ProgramInterruption> {
    let path = flags.has(Flags::BY_PATH).then_some(path);
    let class = flags.has(Flags::BY_CLASS).then_some(class);
    let message = flags.has(Flags::BY_MESSAGE).then_some(message);
    if message.is_some() && (path.is_none() || class.is_none()) {
        return Err(ProgramInterruption::Specification);
    }
    Ok((path, Wanted { message, class }))
}
