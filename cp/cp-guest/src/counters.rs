// SPDX-License-Identifier: GPL-2.0

//! The counters of a guest, in a page that `cpd` can read.

use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};

use cp_proto::counters::{COUNTERS_BYTES, CountersPage};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// A memfd with a [`CountersPage`], mapped.
#[derive(Debug)]
pub struct Counters {
    file: OwnedFd,
    page: NonNull<CountersPage>,
}

// SAFETY: The page consists of atomics, and the mapping belongs to the process, not to a thread.
unsafe impl Send for Counters {}
// SAFETY: As above.
unsafe impl Sync for Counters {}

impl Counters {
    /// Makes a page of zeroes.
    pub fn new() -> Result<Self, Errno> {
        let file = memfd_create("coopmem-counters", MemfdFlags::CLOEXEC)?;
        ftruncate(&file, COUNTERS_BYTES as u64)?;
        // SAFETY: A new mapping, which overlaps no other since no address is asked for.
        let page = unsafe {
            mmap(
                ptr::null_mut(),
                COUNTERS_BYTES,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                &file,
                0,
            )?
        };
        let page = NonNull::new(page.cast()).ok_or(Errno::FAULT)?;
        Ok(Self { file, page })
    }
}

impl Deref for Counters {
    type Target = CountersPage;

    fn deref(&self) -> &CountersPage {
        // SAFETY: `new` mapped a whole page, on a page boundary, and `drop` unmaps it. Any content is a valid
        // `CountersPage`; others in possession of the file may change it, which atomics allow.
        unsafe { self.page.as_ref() }
    }
}

impl AsFd for Counters {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Counters {
    fn drop(&mut self) {
        // SAFETY: `new` made the mapping; no reference to it outlives `self`. Failing would leak a page.
        let _ = unsafe { munmap(self.page.as_ptr().cast(), COUNTERS_BYTES) };
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
