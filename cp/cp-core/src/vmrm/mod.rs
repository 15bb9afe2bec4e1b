// SPDX-License-Identifier: GPL-2.0

//! VMRM, the resource manager: watches the frames of the system, and tells guests how many pages to release.
//!
//! What it tells a guest is the special message `CMM SHRINK n`: n pages is what the guest shall have released in all, so
//! that messages can be lost, repeated or replaced. `Documentation/control-program.rst` has the statements of the
//! configuration and how a decision is made; the crate vmrm-sim has it manage guests by the thousand.

mod config;
mod policy;

pub use config::{Config, ConfigError, Pattern, Problem};
pub use policy::{Decision, GuestSample, Policy, Reason, Sample};
