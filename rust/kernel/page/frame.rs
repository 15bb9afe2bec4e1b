// SPDX-License-Identifier: GPL-2.0

//! Page frame numbers.

/// The number of a page frame: its absolute address divided by the page size.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Pfn(usize);

/// A run of page frames. Never empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PfnRange {
    first: Pfn,
    last: Pfn,
}
