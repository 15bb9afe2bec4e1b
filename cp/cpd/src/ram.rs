// SPDX-License-Identifier: GPL-2.0

//! The storage of a guest.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, OnceLock};

use cp_core::respond::PAGE_BYTES;
use cp_proto::Resident;
use rustix::fs::{fcntl_get_seals, fstat};
use rustix::io::Errno;
use thiserror::Error;

use crate::real::{Held, Pager};

/// What `st_blocks` counts in, in bytes.
const BLOCK_BYTES: u64 = 512;

/// A guest's storage: the only way in which `cpd` touches it.
///
/// It is read and written through the file, never mapped: a guest that truncates its memfd makes a call fail here
/// instead of killing `cpd` with SIGBUS, and reading a hole gives zeroes without filling it.
#[derive(Debug)]
pub struct GuestRam {
    memfd: File,
    size: u64,
    /// Whoever must bring pages back before they are touched, if real memory is limited.
    pager: OnceLock<Arc<Pager>>,
}

/// Why a file descriptor is no guest storage.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RamError {
    /// Only memory files can be sealed, so this tells them from devices, pipes and files on disk, which could block.
    #[error("the guest's {0} is not a memfd")]
    NotMemory(&'static str),
    /// A file is smaller than it must be after what the guest says.
    #[error("a {what} of {size} bytes does not fit into its memfd of {file} bytes")]
    TooSmall {
        /// What the file is for.
        what: &'static str,
        /// What is needed.
        size: u64,
        /// The size of the file.
        file: u64,
    },
    /// A system call failed.
    #[error("cannot examine the guest's {0}: {1}")]
    Io(&'static str, Errno),
}

/// A range is outside of the storage, or its file has shrunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{length} bytes at address {address:#x} are not in the guest's storage")]
pub struct OutOfRange {
    /// Where the range begins.
    pub address: u64,
    /// How long it is.
    pub length: u64,
}

/// Checks that a file descriptor is one of a memory file; gives its size.
fn memory_size(fd: &OwnedFd, what: &'static str) -> Result<u64, RamError> {
    fcntl_get_seals(fd).map_err(|_| RamError::NotMemory(what))?;
    let stat = fstat(fd).map_err(|errno| RamError::Io(what, errno))?;
    Ok(stat.st_size.unsigned_abs())
}

/// Checks that a file descriptor is one of a memory file that has at least `size` bytes.
pub fn check_size(fd: &OwnedFd, what: &'static str, size: u64) -> Result<(), RamError> {
    match memory_size(fd, what)? {
        file if file < size => Err(RamError::TooSmall { what, size, file }),
        _ => Ok(()),
    }
}

/// How many pages of a memory file take memory.
pub fn resident_pages(memfd: impl AsFd) -> u64 {
    // Fails only for a descriptor that is none.
    fstat(memfd).map_or(0, |stat| {
        stat.st_blocks.unsigned_abs() * BLOCK_BYTES / PAGE_BYTES
    })
}

impl AsFd for GuestRam {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.memfd.as_fd()
    }
}

impl GuestRam {
    /// Takes a memfd as the storage of a guest, `size` bytes from address 0 on.
    pub fn new(memfd: OwnedFd, size: u64) -> Result<Self, RamError> {
        check_size(&memfd, "storage", size)?;
        Ok(Self {
            memfd: memfd.into(),
            size,
            pager: OnceLock::new(),
        })
    }

    /// From now on pages may leave their frames.
    pub fn set_pager(&self, pager: Arc<Pager>) {
        // A guest has one in its life.
        let _ = self.pager.set(pager);
    }

    /// Whoever pages it, if real memory is limited.
    pub fn pager(&self) -> Option<&Pager> {
        self.pager.get().map(Arc::as_ref)
    }

    /// Keeps a range in its frames.
    fn hold(&self, address: u64, length: u64) -> Result<Option<Held<'_>>, OutOfRange> {
        let held = self.pager.get().map(|pager| pager.hold(address, length));
        held.transpose().map_err(|error| {
            tracing::error!("storage cannot be paged in: {error}");
            OutOfRange { address, length }
        })
    }

    /// How many pages it has.
    pub fn pages(&self) -> u64 {
        self.size / PAGE_BYTES
    }

    /// Which pages are resident.
    pub fn resident(&self) -> Resident<'_> {
        Resident::new(self.memfd.as_fd())
    }

    /// Reads from the storage. After an error, `bytes` is undefined.
    pub fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), OutOfRange> {
        let length = bytes.len() as u64;
        self.check(address, length)?;
        let _held = self.hold(address, length)?;
        // The file has shrunk, if this fails.
        let read = self.memfd.read_exact_at(bytes, address);
        read.map_err(|_| OutOfRange { address, length })
    }

    /// Writes to the storage. After an error inside of the storage, any part may have been written.
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<(), OutOfRange> {
        let length = bytes.len() as u64;
        self.check(address, length)?;
        let _held = self.hold(address, length)?;
        let written = self.memfd.write_all_at(bytes, address);
        written.map_err(|_| OutOfRange { address, length })
    }

    /// How many pages are resident: what the host's file system says, so that it is true whatever the guest does.
    pub fn resident_pages(&self) -> u64 {
        resident_pages(&self.memfd)
    }

    /// Checks that a range is in the storage.
    pub fn check(&self, address: u64, length: u64) -> Result<(), OutOfRange> {
        match address.checked_add(length) {
            Some(end) if end <= self.size => Ok(()),
            _ => Err(OutOfRange { address, length }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

    fn memfd(size: u64) -> OwnedFd {
        let fd = memfd_create("ram", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&fd, size).unwrap();
        fd
    }

    #[test]
    fn ranges_are_checked() {
        let ram = GuestRam::new(memfd(8192), 8192).unwrap();
        ram.write(4094, b"data").unwrap();
        let mut bytes = [0; 4];
        ram.read(4094, &mut bytes).unwrap();
        assert_eq!(&bytes, b"data");
        ram.write(8188, b"data").unwrap();
        for address in [8189, 8192, u64::MAX - 1, u64::MAX] {
            assert_eq!(
                ram.write(address, b"data"),
                Err(OutOfRange { address, length: 4 })
            );
            assert!(ram.read(address, &mut bytes).is_err());
        }
        ram.read(8192, &mut []).unwrap();
    }

    #[test]
    fn residency_is_the_hosts() {
        let ram = GuestRam::new(memfd(1 << 20), 1 << 20).unwrap();
        assert_eq!(ram.resident_pages(), 0);
        ram.write(0, &[1; 4096]).unwrap();
        ram.write(40960, &[1; 8192]).unwrap();
        assert_eq!(ram.resident_pages(), 3);
        // Reading a hole does not fill it.
        ram.read(81920, &mut [0; 4096]).unwrap();
        assert_eq!(ram.resident_pages(), 3);
    }

    #[test]
    fn a_guest_may_truncate_its_memory_without_hurting_us() {
        let fd = memfd(8192);
        let ram = GuestRam::new(fd.try_clone().unwrap(), 8192).unwrap();
        ftruncate(&fd, 0).unwrap();
        assert!(ram.read(0, &mut [0; 1]).is_err());
    }

    #[test]
    fn only_memory_will_do() {
        let null: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
        assert_eq!(
            GuestRam::new(null, 4096).unwrap_err(),
            RamError::NotMemory("storage")
        );
        assert_eq!(
            GuestRam::new(memfd(4096), 8192).unwrap_err(),
            RamError::TooSmall {
                what: "storage",
                size: 8192,
                file: 4096
            }
        );
    }
}
