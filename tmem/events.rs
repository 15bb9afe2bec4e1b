// SPDX-License-Identifier: GPL-2.0

//! Tracepoints.
//!
//! C header: [`tmem_events.h`](srctree/drivers/s390/coopmem/tmem/tmem_events.h)

use kernel::{
    mm::{
        cleancache::File,
        frontswap::Device, //
    },
    prelude::*,
    tracepoint::declare_trace, //
};

use crate::governor::Totals;

declare_trace! {
    fn tmem_cache_put(device: c_uint, inode: u64, index: u64, pages: c_ulong, done: bool);
    fn tmem_cache_get(device: c_uint, inode: u64, index: u64, pages: c_ulong, done: bool);
    fn tmem_rest(puts: u64, hits: u64, evicted: u64, reclaims: u64);
    fn tmem_swap_put(device: c_uint, slot: u64, pages: c_ulong, done: bool);
    fn tmem_swap_get(device: c_uint, slot: u64, pages: c_ulong, done: bool);
    fn tmem_home(pages: c_ulong);
}

/// Page cache was put.
pub(crate) fn cache_put(file: File, index: u64, pages: usize, done: bool) {
    tmem_cache_put(file.fs.device(), file.inode, index, pages as c_ulong, done);
}

/// Page cache was got.
pub(crate) fn cache_get(file: File, index: u64, pages: usize, done: bool) {
    tmem_cache_get(file.fs.device(), file.inode, index, pages as c_ulong, done);
}

/// The pools of page cache were given up until so many pages of it are reclaimed, with what became
/// of their pages.
pub(crate) fn rest(totals: Totals, reclaims: u64) {
    tmem_rest(totals.puts, totals.hits, totals.evicted, reclaims);
}

/// Swapped pages were put.
pub(crate) fn swap_put(device: Device, slot: u64, pages: usize, done: bool) {
    tmem_swap_put(device.number(), slot, pages as c_ulong, done);
}

/// Swapped pages were got.
pub(crate) fn swap_get(device: Device, slot: u64, pages: usize, done: bool) {
    tmem_swap_get(device.number(), slot, pages as c_ulong, done);
}

/// Swapped pages were brought home.
pub(crate) fn home(pages: usize) {
    tmem_home(pages as c_ulong);
}
