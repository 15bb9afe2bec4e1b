// SPDX-License-Identifier: GPL-2.0

//! The logic of the Control Program: what z/VM's CP does for a virtual machine, as plain functions and data.
//!
//! Nothing here knows QEMU, sockets, files or threads; all of it is tested without them.

pub mod command;
pub mod diag;
pub mod ebcdic;
pub mod iucv;
pub mod page_faults;
pub mod page_state;
pub mod paging;
pub mod respond;
pub mod size;
pub mod system;
pub mod tmem;
pub mod user_id;
pub mod vmrm;

pub use user_id::UserId;
