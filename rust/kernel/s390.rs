// SPDX-License-Identifier: GPL-2.0

//! s390 (IBM Z).

pub mod diag;
pub mod machine;
pub mod smsg;
