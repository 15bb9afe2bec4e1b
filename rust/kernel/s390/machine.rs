// SPDX-License-Identifier: GPL-2.0

//! The machine that the kernel runs on.
