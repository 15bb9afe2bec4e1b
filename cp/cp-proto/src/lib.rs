// SPDX-License-Identifier: GPL-2.0

//! The protocol between guests, cpd and cpctl.
