// SPDX-License-Identifier: GPL-2.0

//! One system: who is logged on, what they have set, and the commands that change it.

mod commands;
mod messages;

use std::collections::{BTreeMap, VecDeque};

use thiserror::Error;
use time::OffsetDateTime;

use crate::command::{CommandError, ConMode, Reception};
use crate::paging::AgeList;
use crate::respond::{HostView, PAGE_BYTES, SystemView, Usage, UserView};
use crate::user_id::{UserId, UserIdError};

pub use commands::Outcome;
pub use messages::{MessageClass, MessageService, NotTaken};

/// The most virtual CPUs of a virtual machine, as many as QEMU's machine has.
pub const MAX_CPUS: u32 = 248;

/// What only the host knows.
pub trait Host {
    /// The time of day, in UTC.
    fn now(&self) -> OffsetDateTime;
    /// When the Control Program was built.
    fn build_time(&self) -> OffsetDateTime;
    /// What a user who is logged on uses.
    fn usage(&self, user: UserId) -> Usage;
    /// The machine itself.
    fn machine(&self) -> HostView;
    /// Whether there is transcendent memory.
    fn tmem(&self) -> bool;
    /// The aging list, if real memory is limited.
    fn age_list(&self) -> Option<&AgeList>;
}

/// Who issues a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// In whose name.
    pub user: UserId,
    /// What they may do.
    pub authority: Authority,
}

/// CP's privilege classes, as far as they differ here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authority {
    /// Class G: a virtual machine, which may see and change its own affairs.
    General,
    /// All classes: the operator.
    Operator,
}

/// What a virtual machine has set by `SET` and `TERMINAL`, and what it was asked for. Gone at logoff and at reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `SET MSG`
    pub msg: Reception,
    /// `SET SMSG`
    pub smsg: Reception,
    /// `TERMINAL CONMODE`
    pub con_mode: ConMode,
    /// `TERMINAL AUTOCR`
    pub auto_cr: bool,
    /// `TERMINAL HOLD`
    pub hold: bool,
    /// `TERMINAL MORE`
    pub more: (u8, u8),
    /// `TERMINAL LINESIZE`; 0 is `OFF`.
    pub line_size: u8,
    /// The pages of the last `CMM SHRINK` that it took, whoever sent it: the balloon as others want it to be. CP
    /// does not know what the guest made of it.
    pub asked: Option<u64>,
}

impl Default for Settings {
    /// As after logon.
    fn default() -> Self {
        Self {
            msg: Reception::On,
            smsg: Reception::Off,
            con_mode: ConMode::Mode3215,
            auto_cr: true,
            hold: true,
            more: (50, 10),
            line_size: 80,
            asked: None,
        }
    }
}

/// A virtual machine that is logged on.
#[derive(Clone, Debug)]
struct User {
    storage_bytes: u64,
    cpus: u32,
    log_on_time: OffsetDateTime,
    settings: Settings,
    mem_assist: MemAssist,
}

/// Whether a virtual machine has ESSA. Unlike [`Settings`] it outlives a reset.
#[derive(Clone, Copy, Debug)]
struct MemAssist {
    /// `SET MEMASSIST` for this user.
    set: bool,
    /// What the virtual machine finds: what was set to `OFF` stays as it is until a reset, since nobody could take
    /// back what an operating system has found at its start.
    in_effect: bool,
    /// ESSA instructions before the last reset.
    essa_calls: u64,
}

/// Why a virtual machine cannot log on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LogOnError {
    /// There is no such user ID.
    #[error(transparent)]
    UserId(#[from] UserIdError),
    /// Each user ID is logged on once at most.
    #[error("user ID {0} is already logged on")]
    AlreadyLoggedOn(UserId),
    /// Not whole pages, or none.
    #[error(
        "a storage size of {0} bytes is invalid: it must be a multiple of {PAGE_BYTES}, and not 0"
    )]
    Storage(u64),
    /// None, or too many.
    #[error("{0} virtual CPUs are invalid: 1 to {MAX_CPUS} are allowed")]
    Cpus(u32),
}

/// What a command does to others than its issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A line appears on a user's console.
    Console {
        /// Whose.
        user: UserId,
        /// The line.
        text: String,
    },
    /// A user is to be logged off.
    LogOff {
        /// Who; still logged on until [`System::log_off`].
        user: UserId,
        /// Why.
        reason: String,
    },
    /// A user has ESSA from now on, or has it no longer.
    MemAssist {
        /// Who.
        user: UserId,
        /// Whether it has.
        on: bool,
    },
}

/// A system: the virtual machines that are logged on.
#[derive(Debug)]
pub struct System {
    name: String,
    ipl_time: OffsetDateTime,
    users: BTreeMap<UserId, User>,
    /// `SET MEMASSIST` for all.
    mem_assist: bool,
    effects: VecDeque<Effect>,
}

impl System {
    /// A system nobody is logged on to.
    #[must_use]
    pub fn new(name: UserId, ipl_time: OffsetDateTime) -> Self {
        Self {
            name: name.to_string(),
            ipl_time,
            users: BTreeMap::new(),
            mem_assist: true,
            effects: VecDeque::new(),
        }
    }

    /// The name of the system.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Logs a virtual machine on.
    pub fn log_on(
        &mut self,
        user_id: &str,
        storage_bytes: u64,
        cpus: u32,
        now: OffsetDateTime,
    ) -> Result<UserId, LogOnError> {
        let id = UserId::new(user_id)?;
        if self.users.contains_key(&id) {
            return Err(LogOnError::AlreadyLoggedOn(id));
        }
        if storage_bytes == 0 || !storage_bytes.is_multiple_of(PAGE_BYTES) {
            return Err(LogOnError::Storage(storage_bytes));
        }
        if !(1..=MAX_CPUS).contains(&cpus) {
            return Err(LogOnError::Cpus(cpus));
        }
        self.users.insert(
            id,
            User {
                storage_bytes,
                cpus,
                log_on_time: now,
                settings: Settings::default(),
                mem_assist: MemAssist {
                    set: true,
                    in_effect: true,
                    essa_calls: 0,
                },
            },
        );
        Ok(id)
    }

    /// Logs a virtual machine off; nothing happens if it is not logged on.
    pub fn log_off(&mut self, user: UserId) {
        self.users.remove(&user);
    }

    /// The virtual machine was reset, having issued that many ESSA instructions: its settings are those after logon,
    /// and it has ESSA if that is set.
    pub fn reset(&mut self, id: UserId, essa_calls: u64) {
        if let Some(user) = self.users.get_mut(&id) {
            user.settings = Settings::default();
            user.mem_assist.essa_calls = essa_calls;
            if user.mem_assist.in_effect && !(user.mem_assist.set && self.mem_assist) {
                user.mem_assist.in_effect = false;
                self.effects.push_back(Effect::MemAssist {
                    user: id,
                    on: false,
                });
            }
        }
    }

    /// Sets it for one user or for all. On is in effect at once.
    fn set_mem_assist(&mut self, on: bool, user: Option<UserId>) -> Result<(), CommandError> {
        match user {
            None => self.mem_assist = on,
            Some(user) => self.user(user, "CFS")?.mem_assist.set = on,
        }
        for (&user, User { mem_assist, .. }) in &mut self.users {
            if self.mem_assist && mem_assist.set && !mem_assist.in_effect {
                mem_assist.in_effect = true;
                self.effects.push_back(Effect::MemAssist { user, on: true });
            }
        }
        Ok(())
    }

    /// Whether a user is logged on.
    #[must_use]
    pub fn is_logged_on(&self, user: UserId) -> bool {
        self.users.contains_key(&user)
    }

    /// The number of virtual CPUs of a user; 0 if it is not logged on.
    #[must_use]
    pub fn cpus(&self, user: UserId) -> u32 {
        self.users.get(&user).map_or(0, |user| user.cpus)
    }

    /// Takes what the commands so far do to others, oldest first.
    pub fn take_effects(&mut self) -> impl Iterator<Item = Effect> {
        std::mem::take(&mut self.effects).into_iter()
    }

    /// Everything that responses are made from.
    #[must_use]
    pub fn view<'a>(&'a self, host: &'a dyn Host) -> impl SystemView + 'a {
        View { system: self, host }
    }
}

struct View<'a> {
    system: &'a System,
    host: &'a dyn Host,
}

impl SystemView for View<'_> {
    fn system_name(&self) -> &str {
        &self.system.name
    }

    fn now(&self) -> OffsetDateTime {
        self.host.now()
    }

    fn ipl_time(&self) -> OffsetDateTime {
        self.system.ipl_time
    }

    fn build_time(&self) -> OffsetDateTime {
        self.host.build_time()
    }

    fn users(&self) -> Vec<UserId> {
        self.system.users.keys().copied().collect()
    }

    fn user(&self, id: UserId) -> Option<UserView> {
        let user = self.system.users.get(&id)?;
        let usage = self.host.usage(id);
        Some(UserView {
            storage_bytes: user.storage_bytes,
            cpus: user.cpus,
            log_on_time: user.log_on_time,
            settings: user.settings,
            mem_assist: crate::respond::MemAssist {
                set: user.mem_assist.set,
                in_effect: user.mem_assist.in_effect,
                active: usage.essa_calls > user.mem_assist.essa_calls,
            },
            usage,
        })
    }

    fn mem_assist(&self) -> bool {
        self.system.mem_assist
    }

    fn host(&self) -> HostView {
        self.host.machine()
    }

    fn tmem(&self) -> bool {
        self.host.tmem()
    }

    fn age_list(&self) -> Option<&AgeList> {
        self.host.age_list()
    }
}
