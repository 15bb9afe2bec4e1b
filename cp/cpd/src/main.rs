// SPDX-License-Identifier: GPL-2.0

//! The Control Program's daemon.

fn main() {}
