// SPDX-License-Identifier: GPL-2.0

//! The guest's part of the Control Program, loaded by QEMU's device `zvm-cp`.
//!
//! What a guest asks of CP arrives here as calls through a table of C functions ([`abi`]). Everything that concerns this
//! guest alone is done here, on the thread of the virtual CPU: decoding, DIAGNOSE X'10', the interrupt buffers and
//! masks of IUCV. What concerns the system goes to `cpd` ([`link`]).
//!
//! | module | job |
//! |---|---|
//! | [`abi`] | the C structures of `include/zvm-cp.h` |
//! | `ffi` | the exported table; all `unsafe` towards QEMU |
//! | [`host`] | what a guest may ask of QEMU, as a trait |
//! | [`guest`] | the virtual machine: DIAGNOSE, IUCV, interrupts, reset |
//! | [`link`] | the connections to `cpd` |
//! | [`counters`] | the counters, shared with `cpd` |
//! | [`page_states`] | the states of pages, shared with `cpd`, and pages that it wants |
//! | [`paging`] | storage that `cpd` pages |

pub mod abi;
pub mod counters;
mod ffi;
pub mod guest;
pub mod host;
pub mod link;
pub mod page_states;
pub mod paging;
