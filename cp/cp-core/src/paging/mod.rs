// SPDX-License-Identifier: GPL-2.0

//! Real memory that is smaller than what the guests own together: which pages leave their frames, and where they go.
//!
//! As z/VM has done it since 6.3: frames are taken by age over all guests, not from one guest after the other; pages
//! leave and come back in blocks; a page keeps its slot on the paging volume when it comes back, and is not written
//! again if it has not changed. The pages that are the next to leave may be written ahead of need.

mod age_list;
mod demand;
mod map;
mod volume;

pub use age_list::AgeList;
pub use demand::{AGES, ByAge, Watermarks, demand, ephemeral_by_age};
pub use map::{PageMap, Place};
pub use volume::{BLOCK_SLOTS, Full, Slot, Volume};
