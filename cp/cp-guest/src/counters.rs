// SPDX-License-Identifier: GPL-2.0

//! The counters of a guest, in a page that `cpd` can read.

use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd};

use cp_proto::SharedMemory;
use cp_proto::counters::{COUNTERS_BYTES, CountersPage};
use rustix::io::Errno;

/// A memfd with a [`CountersPage`], mapped.
#[derive(Debug)]
pub struct Counters(SharedMemory);

impl Counters {
    /// Makes a page of zeroes.
    pub fn new() -> Result<Self, Errno> {
        SharedMemory::new("coopmem-counters", COUNTERS_BYTES).map(Self)
    }
}

impl Deref for Counters {
    type Target = CountersPage;

    fn deref(&self) -> &CountersPage {
        // SAFETY: `new` mapped a whole page, on a page boundary. Any content is a valid `CountersPage`, which consists
        // of atomics as the shared memory does.
        unsafe { &*self.0.as_ptr().cast() }
    }
}

impl AsFd for Counters {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cp_proto::counters::{Counter, read};

    #[test]
    fn what_is_counted_can_be_read_from_the_file() {
        let counters = Counters::new().unwrap();
        counters.add(Counter::PagesReleased, 17);
        let mut page = [0; COUNTERS_BYTES];
        rustix::io::pread(&counters, &mut page, 0).unwrap();
        assert!(read(&page).contains(&(Counter::PagesReleased, 17)));
    }
}
