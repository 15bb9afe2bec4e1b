// SPDX-License-Identifier: GPL-2.0

//! Tracepoints.
//!
//! C header: [`cmm_events.h`](srctree/drivers/s390/coopmem/cmm/cmm_events.h)

use kernel::{
    prelude::*,
    tracepoint::declare_trace, //
};

use crate::ledger::{
    Account,
    Cause,
    Pool, //
};

declare_trace! {
    fn cmm_target(fixed: c_ulong, timed: c_ulong);
    fn cmm_inflate(pool: c_uint, pages: c_ulong, runs: c_ulong);
    fn cmm_deflate(pool: c_uint, pages: c_ulong);
    fn cmm_pause(cause: c_uint);
    fn cmm_give_back(pages: c_ulong, fixed: c_ulong, timed: c_ulong);
}

/// A request was taken.
pub(crate) fn target([fixed, timed]: [Account; 2]) {
    cmm_target(fixed.target as c_ulong, timed.target as c_ulong);
}

/// A pool has taken pages, in so many runs of frames.
pub(crate) fn inflate(pool: Pool, pages: usize, runs: usize) {
    cmm_inflate(pool as c_uint, pages as c_ulong, runs as c_ulong);
}

/// A pool has given pages back.
pub(crate) fn deflate(pool: Pool, pages: usize) {
    cmm_deflate(pool as c_uint, pages as c_ulong);
}

/// The target cannot be met for the time being.
pub(crate) fn pause(cause: Cause) {
    cmm_pause(cause as c_uint);
}

/// Pages were given back because the guest ran out of memory.
pub(crate) fn give_back(pages: usize, [fixed, timed]: [Account; 2]) {
    cmm_give_back(
        pages as c_ulong,
        fixed.target as c_ulong,
        timed.target as c_ulong,
    );
}
