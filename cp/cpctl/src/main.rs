// SPDX-License-Identifier: GPL-2.0

//! The operator's console.

fn main() {}
