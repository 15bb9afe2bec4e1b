// SPDX-License-Identifier: GPL-2.0

//! The DIAGNOSE codes: decoding their operands, forming their records.
