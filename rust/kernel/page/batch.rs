// SPDX-License-Identifier: GPL-2.0

//! Batches of pages.

/// Owned order-0 pages.
pub struct PageBatch;
