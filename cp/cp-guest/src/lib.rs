// SPDX-License-Identifier: GPL-2.0

//! The guest's part of the Control Program.
