// SPDX-License-Identifier: GPL-2.0

//! The Inter-User Communication Vehicle (IUCV).
