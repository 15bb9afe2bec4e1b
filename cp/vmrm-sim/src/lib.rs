// SPDX-License-Identifier: GPL-2.0

//! VMRM's policy at work on guests that are a few numbers each.
//!
//! A [`World`] is a system of [`Machine`]s. In each interval they do what they do, the Control Program pages out what
//! does not fit, and the policy of [`cp_core::vmrm`], the same one that cpd runs, tells them what to release. What they do
//! is made up, or was recorded of real guests: a [`Trace`].

mod play;
mod trace;
mod world;

pub use play::{Outcome, play};
pub use trace::{Moment, Part, Trace, TraceError};
pub use world::{Machine, World};
