// SPDX-License-Identifier: GPL-2.0

//! The Inter-User Communication Vehicle (IUCV): paths between virtual machines, and messages on them.
//!
//! - [`plist`]: what the guest sees: function codes, parameter lists, return codes, interrupt buffers.
//! - [`system`]: the IUCV of the whole system: paths, messages and the message system service `*MSG`.
//! - [`interrupt`]: the interrupts that are pending for one virtual machine, and which of its CPUs may take them.
//!
//! [`system::System`] raises interrupts, [`interrupt::Interrupts`] holds them until a CPU takes them, and
//! [`interrupt::Interrupts::oldest_pending`] flows back to [`system::System::taken_before`]: a message that lives on
//! only in its interrupt counts against the message limit of its path until then, so that no guest can pile up
//! interrupts in another one.
//!
//! Sources: `net/iucv/iucv.c` and `include/net/iucv/iucv.h` of Linux for the layouts; *VM/SP System Programmer's
//! Guide* (SC19-6203), "Inter-User Communications Vehicle", for what the functions do.

pub mod interrupt;
pub mod plist;
pub mod system;

use std::fmt;

use thiserror::Error;

/// Names an interrupt from when it is raised until it is taken or retracted. Ascending over the life of a system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterruptId(pub u64);

/// The number of a path end, unique among the paths of its owner only (`ippathid`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathId(pub u16);

impl fmt::Display for PathId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A message's number, unique among the messages of its path (`ipmsgid`); never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub u32);

/// The program interruption in which an instruction ends that CP does not execute. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[repr(u16)]
pub enum ProgramInterruption {
    /// Interrupts have not been declared (only QUERY and DCLBFR work then), or a function that does not exist.
    #[error("operation exception: no interrupt buffer is declared")]
    Operation = 0x01,
    /// An address outside of the virtual machine's storage, or not below 2 GiB.
    #[error("addressing exception: outside of the virtual machine's storage below 2 GiB")]
    Addressing = 0x05,
    /// A parameter list or buffer that is not on a doubleword boundary, an unknown function code, or search flags
    /// that do not go together.
    #[error("specification exception: bad alignment, function code or search flags")]
    Specification = 0x06,
}

impl ProgramInterruption {
    /// The program interruption code.
    #[must_use]
    pub const fn code(self) -> u16 {
        self as u16
    }
}

/// What an IUCV instruction did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The condition code: 0 to 3; 1 if the parameter list has a return code.
    pub cc: u8,
    /// The new value of general register 0, if it changes.
    pub r0: Option<u32>,
    /// The new value of general register 1, if it changes.
    pub r1: Option<u32>,
}

impl Completion {
    /// A condition code, registers unchanged.
    #[must_use]
    pub const fn with_cc(cc: u8) -> Self {
        Self {
            cc,
            r0: None,
            r1: None,
        }
    }
}
