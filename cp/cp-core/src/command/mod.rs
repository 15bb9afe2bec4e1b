// SPDX-License-Identifier: GPL-2.0

//! CP commands: from the text to a [`Command`], or to the message that says what is wrong with it.
//!
//! As in CP, a command and its operands are separated by blanks and may be in either case; both may be abbreviated
//! down to a minimum of their own (`Query`, `INDicate`: capitals are the minimum). Only the text of a message is kept
//! as it is. All operands are checked before a command does anything.

mod error;
mod keyword;
mod parse;

use crate::user_id::UserId;

pub use error::CommandError;
pub use parse::parse;

/// A command that is right in itself; whether it can be carried out is another matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `Query`
    Query(Query),
    /// `SET`
    Set(Set),
    /// `SMsg`, `Message` and `MSGNoh`
    Send {
        /// Which of them.
        kind: MessageKind,
        /// To whom.
        to: Target,
        /// What, without the blank after the user ID.
        text: String,
    },
    /// `INDicate`
    Indicate(Indicate),
    /// `TERMinal`
    Terminal(Terminal),
    /// `FORCE`
    Force(UserId),
    /// `LOGoff`
    Logoff,
}

/// A user ID as an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// `*`, or nothing where nothing means that
    Myself,
    /// A user ID.
    User(UserId),
}

impl Target {
    /// The user ID that is meant if `myself` issues the command.
    #[must_use]
    pub fn resolve(self, myself: UserId) -> UserId {
        match self {
            Self::Myself => myself,
            Self::User(id) => id,
        }
    }
}

/// The operands of `Query`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query {
    /// `USERID`
    UserId,
    /// `Names`
    Names,
    /// `Users`
    Users,
    /// A user ID
    User(UserId),
    /// `CPLEVEL`
    CpLevel,
    /// `SET`
    Set,
    /// `CONsole`, also as `Virtual CONsole`
    Console,
    /// `TERMinal`
    Terminal,
    /// `Virtual STORage`
    VirtualStorage,
    /// `Virtual CPUs`
    VirtualCpus,
    /// `STORage`
    Storage,
    /// `FRames`
    Frames,
    /// `AGELIST`
    AgeList,
    /// `ALLOC PAGE`
    AllocPage,
    /// `MEMAssist [FOR] [* | [USER] userid]`: of whom; without an operand, all that the caller may see
    MemAssist(Option<Target>),
    /// `Time`
    Time,
}

/// What a virtual machine does with messages of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reception {
    /// They are shown on the console (of special messages: received through VMCF).
    On,
    /// They are refused.
    #[default]
    Off,
    /// They are received through IUCV, by who is connected to `*MSG`.
    Iucv,
}

impl Reception {
    /// The keyword of [`Set`] and of `QUERY SET`.
    #[must_use]
    pub const fn keyword(self) -> &'static str {
        match self {
            Self::On => "ON",
            Self::Off => "OFF",
            Self::Iucv => "IUCV",
        }
    }
}

/// The operands of `SET`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    /// `SMsg ON|OFF|IUCV`
    Smsg(Reception),
    /// `MSG ON|OFF|IUCV`
    Msg(Reception),
    /// `MEMAssist ON|OFF [FOR] [* | [USER] userid | ALL]`: whether ESSA exists
    MemAssist {
        /// `ON`
        on: bool,
        /// For whom; `None` is `ALL`.
        whose: Option<Target>,
    },
    /// `AGELIST [EARLYWrites YES|NO] [KEEPSLOT YES|NO]`, one of them at least; `None` is left as it is
    AgeList {
        /// `EARLYWrites`
        early_writes: Option<bool>,
        /// `KEEPSLOT`
        keep_slot: Option<bool>,
    },
}

/// The commands that send a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// `SMsg`: to the program in the virtual machine
    Special,
    /// `Message`, `MSG`: to the user, with a header that says from whom and when
    Message,
    /// `MSGNoh`: to the user, without a header
    NoHeader,
}

/// The operands of `INDicate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Indicate {
    /// `LOAD`, or nothing
    Load,
    /// `USER [*|userid]`
    User(Target),
    /// `SPaces [USER *|userid]`
    Spaces(Target),
}

/// The operands of `TERMinal`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terminal {
    /// `CONMODE 3215|3270`
    ConMode(ConMode),
    /// `AUTOCR ON|OFF`
    AutoCr(bool),
    /// `HOLD ON|OFF`
    Hold(bool),
    /// `MORE nnn nnn`: seconds until the alarm, and from there until the screen is cleared
    More(u8, u8),
    /// `LINESize nnn|OFF`: characters in a line; 0 is `OFF`
    LineSize(u8),
}

/// How the virtual machine's console works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConMode {
    /// As a typewriter.
    #[default]
    Mode3215,
    /// As a display.
    Mode3270,
}

/// The commands in one buffer, which X'15' separates; empty ones are left out.
pub fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n')
        .map(|line| line.trim_matches(' '))
        .filter(|line| !line.is_empty())
}
