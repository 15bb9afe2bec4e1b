// SPDX-License-Identifier: GPL-2.0

//! The messages.

use std::fmt;
use std::path::PathBuf;

use cp_core::page_state::{StateTable, Usage};
use cp_core::{UserId, tmem};
use serde::{Deserialize, Serialize};

use crate::overview::Overview;

/// Changes with every change of a message. The sides of a connection must be of the same version.
pub const PROTOCOL_VERSION: u32 = 5;

/// The length of the longest command line, in characters: what DIAGNOSE X'08' takes.
pub const MAX_COMMAND: usize = 240;

/// The first message on a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL_VERSION`] of the client. Stays the first field in all versions.
    pub version: u32,
    /// Who is calling.
    pub role: Role,
}

impl Hello {
    /// A hello in this version of the protocol.
    #[must_use]
    pub fn new(role: Role) -> Self {
        Self {
            version: PROTOCOL_VERSION,
            role,
        }
    }
}

/// Who is calling. User IDs are plain text here: `cpd` checks them, and says what is wrong with them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// A virtual machine, which logs on. Comes with three file descriptors: the memfd that holds all of the guest's
    /// storage from address 0 on, the memfd of its [`crate::counters::CountersPage`], and that of its
    /// [`cp_core::page_state::PageStates`].
    Guest {
        /// The user ID to log on.
        user_id: String,
        /// The size of the guest's storage.
        storage_bytes: u64,
        /// The number of its virtual CPUs.
        cpus: u32,
        /// It is stopped since it was saved, and outlived an earlier `cpd`.
        saved: Option<tmem::SaveId>,
    },
    /// A virtual CPU of a guest that has logged on.
    Cpu {
        /// What [`Welcome::Accepted`] gave to the guest.
        session: Session,
        /// The address of the CPU.
        cpu: u32,
    },
    /// The operator's console.
    Operator {
        /// The user ID in whose name commands are issued; it need not be logged on.
        user_id: String,
    },
}

/// Proves that a virtual CPU belongs to a guest. Random, and known to that guest only.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Session(pub [u8; 16]);

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Session(..)")
    }
}

/// `cpd`'s answer to a [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Welcome {
    /// Come in.
    Accepted {
        /// The name of the system (`COOPMEM`).
        system: String,
        /// For the guest's virtual CPUs; means nothing to others.
        session: Session,
        /// Real memory is limited: a guest must report [`Report::Paging`] before it touches its storage.
        paging: bool,
    },
    /// Stay out; the connection is closed.
    Refused {
        /// Why, in one line.
        reason: String,
    },
}

/// What virtual CPUs and operators ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// CP commands: one, or several separated by `'\n'`, at most [`MAX_COMMAND`] characters. Answered by [`Reply::Command`].
    Command {
        /// The text; characters beyond U+00FF have no place in EBCDIC and are refused.
        text: String,
    },
    /// The IUCV instruction; only from a virtual CPU. Answered by [`Reply::Iucv`] or [`Reply::Program`].
    Iucv {
        /// General register 0: the function code.
        function: u64,
        /// The parameter list.
        plist: Plist,
    },
    /// The accounting records of one guest, or of all that the caller may see. Answered by [`Reply::Accounting`].
    Accounting {
        /// Whose; `None` for all.
        user_id: Option<UserId>,
    },
    /// The counters of one guest; only from an operator. Answered by [`Reply::Counters`].
    Counters {
        /// Whose.
        user_id: UserId,
    },
    /// How many pages of a guest are in which state; only from an operator. Answered by [`Reply::States`].
    States {
        /// Whose.
        user_id: UserId,
    },
    /// Take pages of a guest; only from an operator. Answered by [`Reply::Taken`] when they are the host's.
    Take {
        /// Whose.
        user_id: UserId,
        /// Which.
        selection: Selection,
    },
    /// DIAGNOSE X'1F4'; only from a virtual CPU. Answered by [`Reply::Tmem`], or by [`Reply::Program`] if there is no
    /// transcendent memory.
    Tmem {
        /// What the guest asks for.
        function: tmem::Function,
        /// Its block, of [`tmem::BLOCK_LENGTH`] bytes.
        block: Vec<u8>,
    },
    /// What an operator does with transcendent memory. Answered by [`Reply::Pools`], [`Reply::Dropped`] or
    /// [`Reply::Done`].
    Pools(Pools),
    /// The virtual machine was reset: its IUCV paths and settings are gone. Only from a virtual CPU. Answered by [`Reply::Done`].
    Reset,
    /// Stop a guest and write its pools to a file; only from an operator. Answered by [`Reply::Saved`], when it is on disk.
    Save {
        /// Whose.
        user_id: UserId,
        /// The file, which is replaced when all is written; absolute.
        path: PathBuf,
    },
    /// Give a guest that is stopped the pools of a file, and let it go on; only from an operator. Answered by
    /// [`Reply::Restored`].
    Restore {
        /// Whose.
        user_id: UserId,
        /// The file; absolute.
        path: PathBuf,
    },
    /// All of the system at one look; only from an operator. Answered by [`Reply::Overview`].
    Overview,
}

/// The answers to [`Request`]s.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// To [`Request::Command`].
    Command(Response),
    /// To [`Request::Iucv`]: the instruction was executed.
    Iucv(Iucv),
    /// To [`Request::Iucv`] and [`Request::Tmem`]: the instruction ended in this program interruption.
    Program {
        /// The program interruption code.
        code: u16,
    },
    /// To [`Request::Accounting`].
    Accounting(Vec<Accounting>),
    /// To [`Request::Counters`]: name and value of each counter.
    Counters(Vec<(String, u64)>),
    /// To [`Request::States`].
    States(StateTable),
    /// To [`Request::Take`].
    Taken {
        /// What was taken.
        taken: Taken,
        /// The guest's resident pages before.
        before: u64,
        /// The guest's resident pages after.
        after: u64,
    },
    /// To [`Request::Tmem`].
    Tmem(Tmem),
    /// To [`Pools::List`].
    Pools(tmem::Listing),
    /// To [`Pools::Flush`] and [`Pools::Destroy`].
    Dropped {
        /// How many pages are gone.
        pages: u64,
    },
    /// To [`Request::Save`].
    Saved {
        /// How many pages are in the file.
        pages: u64,
    },
    /// To [`Request::Restore`].
    Restored {
        /// How many pages the guest has again.
        pages: u64,
        /// How many ephemeral pages are gone, since the guest is not any more as it was saved.
        dropped: u64,
    },
    /// The request was carried out.
    Done,
    /// The request was not carried out.
    Failed {
        /// Why, in one line.
        reason: String,
    },
    /// To [`Request::Overview`].
    Overview(Box<Overview>),
}

/// What operators do with transcendent memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pools {
    /// Show the pools of all guests, or of one.
    List(Option<UserId>),
    /// Set something for one guest; for all, and those who log on later, if none is named.
    Set(Option<UserId>, tmem::Setting),
    /// Empty pools.
    Flush(tmem::Selection),
    /// Unmake pools.
    Destroy(tmem::Selection),
}

/// The outcome of a DIAGNOSE X'1F4'.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tmem {
    /// The return code.
    pub rc: u16,
    /// The block to store.
    pub block: Vec<u8>,
    /// The frames of the guest that `cpd` has stored to.
    pub stored: Vec<tmem::Frames>,
}

/// Which pages of a guest the host wants: unused ones that are resident, then volatile ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// The most pages to take.
    pub pages: u64,
    /// Only pages of this usage; stable and potentially volatile ones are never taken.
    pub only: Option<Usage>,
    /// The most volatile pages to take, as a share of all volatile ones in thousandths.
    pub volatile_share: u16,
    /// Pages at random, from this seed; from the lowest address on if there is none.
    pub random: Option<u64>,
}

impl Selection {
    /// All volatile pages, in thousandths.
    pub const ALL: u16 = 1000;
}

/// What the host took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Unused pages.
    pub unused: u64,
    /// Volatile pages.
    pub volatile: u64,
}

/// What a guest tells `cpd` on its own account, on the connection on which it gets [`Event`]s.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// Its storage can be paged. Comes with a userfaultfd for it, of missing and of write-protected pages.
    Paging {
        /// Where the storage is in the guest's process.
        address: u64,
    },
    /// The pages that [`Event::Take`] asked for are the host's.
    Taken {
        /// Of the event.
        id: u64,
        /// What was taken.
        taken: Taken,
    },
    /// All its CPUs are stopped, as [`Event::Hold`] asked for.
    Held,
}

/// CP's response to a command line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// CP's return code: 0, or the number of the error message of the last command that failed.
    pub rc: u32,
    /// The lines, without line ends.
    pub lines: Vec<String>,
}

/// The outcome of an IUCV instruction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Iucv {
    /// The condition code, 0 to 3.
    pub cc: u8,
    /// The parameter list to store.
    pub plist: Plist,
    /// The new value of bits 32 to 63 of general register 0, if it changes.
    pub r0: Option<u32>,
    /// The new value of bits 32 to 63 of general register 1, if it changes.
    pub r1: Option<u32>,
}

/// 40 bytes: an IUCV parameter list or interrupt buffer, as the guest sees it.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "[[u8; 8]; 5]", into = "[[u8; 8]; 5]")]
pub struct Plist(pub [u8; 40]);

impl From<[[u8; 8]; 5]> for Plist {
    fn from(words: [[u8; 8]; 5]) -> Self {
        let mut bytes = [0; 40];
        bytes.copy_from_slice(words.as_flattened());
        Self(bytes)
    }
}

impl From<Plist> for [[u8; 8]; 5] {
    fn from(plist: Plist) -> Self {
        std::array::from_fn(|word| std::array::from_fn(|byte| plist.0[8 * word + byte]))
    }
}

impl fmt::Debug for Plist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Plist(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// What a guest uses: the source of DIAGNOSE X'2FC'.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounting {
    /// Who.
    pub user_id: UserId,
    /// Its storage, in KiB.
    pub storage_kib: u64,
    /// How much of it is resident in the host, in KiB.
    pub resident_kib: u64,
    /// The CPU time its process has used, in microseconds.
    pub cpu_time_us: u64,
    /// The time since it logged on, in microseconds.
    pub elapsed_us: u64,
    /// The number of its virtual CPUs.
    pub cpus: u32,
    /// The number of the host's CPUs.
    pub host_cpus: u32,
}

/// What `cpd` tells a guest on its own account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// An IUCV external interrupt becomes pending.
    Interrupt {
        /// Names it in [`Event::Retract`]. Ascending.
        id: u64,
        /// What is stored in the interrupt buffer of the CPU that takes it.
        buffer: Plist,
    },
    /// That interrupt is no longer pending, if it has not been taken yet: its message was received or purged, or its path severed.
    Retract {
        /// Of the [`Event::Interrupt`].
        id: u64,
    },
    /// The guest has ESSA from now on, or has it no longer.
    MemAssist {
        /// Whether it has.
        on: bool,
    },
    /// The host wants pages. Answered by [`Report::Taken`].
    Take {
        /// Names it in the report.
        id: u64,
        /// Which.
        selection: Selection,
    },
    /// The guest's process shall forget which pages of the storage it has used, so that those show that it uses next.
    Sweep,
    /// A line for the guest's console.
    Console {
        /// The line, without line end.
        text: String,
    },
    /// All CPUs are to stop, until [`Event::Release`]. Answered by [`Report::Held`].
    Hold,
    /// The guest, which is stopped, has been saved: it waits for another `cpd` should this one end.
    Saved {
        /// What it tells that one.
        save: tmem::SaveId,
    },
    /// The guest goes on.
    Release,
    /// The guest has been logged off; the connection is closed after this.
    Logoff {
        /// Why, in one line.
        reason: String,
    },
}
