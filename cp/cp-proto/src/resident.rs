// SPDX-License-Identifier: GPL-2.0

//! Which pages of a guest's storage are resident.

use std::ops::Range;
use std::os::fd::BorrowedFd;

use rustix::fs::{SeekFrom, seek};

/// The pages of a memory file that take memory, as the host's file system says; it is asked once for each run of them.
///
/// Moves the position of the file, at which nobody may read or write.
#[derive(Debug)]
pub struct Resident<'a> {
    file: BorrowedFd<'a>,
    run: Range<u64>,
}

impl<'a> Resident<'a> {
    /// Those of a file.
    #[must_use]
    pub fn new(file: BorrowedFd<'a>) -> Self {
        Self { file, run: 0..0 }
    }

    /// Whether the page at an address takes memory. To be asked in ascending order.
    pub fn contains(&mut self, address: u64) -> bool {
        if address >= self.run.end {
            // Fails behind the last data.
            let start = seek(self.file, SeekFrom::Data(address)).unwrap_or(u64::MAX);
            let end = seek(self.file, SeekFrom::Hole(start)).unwrap_or(u64::MAX);
            self.run = start..end;
        }
        self.run.contains(&address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
    use std::os::fd::AsFd;

    #[test]
    fn runs_of_pages() {
        const PAGE: u64 = 4096;
        let file = memfd_create("ram", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, 16 * PAGE).unwrap();
        for page in [1, 2, 5, 9] {
            rustix::io::pwrite(&file, b"x", page * PAGE).unwrap();
        }
        let mut resident = Resident::new(file.as_fd());
        let found: Vec<_> = (0..16)
            .filter(|page| resident.contains(page * PAGE))
            .collect();
        assert_eq!(found, [1, 2, 5, 9]);
    }
}
