// SPDX-License-Identifier: GPL-2.0

//! All of a system at one look.

use cp_core::UserId;
use cp_core::page_state::StateTable;
use serde::{Deserialize, Serialize};

/// A system and its guests. Not of one moment: others go on between one guest and the next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overview {
    /// The name of the system.
    pub system: String,
    /// The time of day, in microseconds since 1970, UTC.
    pub time_us: u64,
    /// Who has its frames.
    pub frames: FrameUse,
    /// Its paging volume; all zeroes if there is none.
    pub paging: PagingUse,
    /// Who is logged on, in ascending order.
    pub guests: Vec<GuestUse>,
    /// What VMRM has decided lately, a line each, the oldest first.
    pub decisions: Vec<String>,
}

/// Who has the frames of a system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameUse {
    /// All of them.
    pub all: u64,
    /// What could be had without paging.
    pub available: u64,
    /// The storage of guests.
    pub guests: u64,
    /// Ephemeral pages of transcendent memory.
    pub tmem_ephemeral: u64,
    /// Persistent pages of transcendent memory.
    pub tmem_persistent: u64,
}

/// A paging volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PagingUse {
    /// Its size, in pages.
    pub pages: u64,
    /// Pages in use.
    pub in_use: u64,
    /// Reads and writes a second, lately.
    pub rate: u64,
}

/// What a guest uses. All but the first and the last two are pages of its storage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestUse {
    /// Who.
    pub user_id: UserId,
    /// All.
    pub storage: u64,
    /// In frames.
    pub resident: u64,
    /// On the paging volume only.
    pub preserved: u64,
    /// By their states.
    pub states: StateTable,
    /// How many an SMSG `CMM SHRINK` has last asked it to have given up; `None` if there was none since its last reset.
    pub asked: Option<u64>,
    /// How many have come back from the paging volume since logon.
    pub pages_in: u64,
    /// How many have left their frames since logon.
    pub pages_out: u64,
    /// Frames of transcendent memory.
    pub tmem_frames: u64,
    /// The CPU time of its process, in microseconds.
    pub cpu_time_us: u64,
}
