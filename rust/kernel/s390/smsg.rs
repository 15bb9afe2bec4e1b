// SPDX-License-Identifier: GPL-2.0

//! Special messages (SMSG) of z/VM.
