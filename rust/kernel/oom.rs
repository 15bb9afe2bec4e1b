// SPDX-License-Identifier: GPL-2.0

//! Out-of-memory notifiers.
