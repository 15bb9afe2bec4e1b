// SPDX-License-Identifier: GPL-2.0

//! Storage that `cpd` pages.
//!
//! Where real memory is limited, the first touch of each page of the storage, and each store to one that is being
//! paged out, waits for `cpd`: by a userfaultfd, which holds up CPUs, devices and the host's kernel alike.

use std::ffi::c_void;
use std::fs;
use std::os::fd::{AsFd, IntoRawFd};
use std::ptr::NonNull;

use cp_proto::{GuestConnection, ProtoError};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::mm::{Advice, madvise};
use thiserror::Error;
use userfaultfd::{FeatureFlags, RegisterMode, Uffd, UffdBuilder};

/// Write protection of shared memory; the crate has no name for it yet.
const WRITE_PROTECT_SHMEM: FeatureFlags = FeatureFlags::from_bits_retain(1 << 12);

/// Why storage cannot be paged.
#[derive(Debug, Error)]
pub enum PagingError {
    /// Root, `CAP_SYS_PTRACE` or the right to open `/dev/userfaultfd` is needed.
    #[error(
        "real memory is limited, but this process may not use userfaultfd, or the host's kernel has none for write-protected shared memory ({0}): run as root, or 'chmod a+rw /dev/userfaultfd'"
    )]
    Userfaultfd(#[from] userfaultfd::Error),
    /// The host's kernel writes to the frames of such reads directly; that a page has left its frame would go unnoticed.
    #[error(
        "real memory is limited, and {0} is open with O_DIRECT, whose reads would be lost: use cache=writeback"
    )]
    DirectIo(String),
    /// `cpd` is not to be had.
    #[error(transparent)]
    Proto(#[from] ProtoError),
}

/// Where the storage is mapped in this process.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<c_void>,
    bytes: usize,
}

// SAFETY: The mapping belongs to the process, not to a thread, and is only passed to the kernel.
unsafe impl Send for Mapping {}
// SAFETY: As above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// # Safety
    ///
    /// A file is mapped there, shared, for as long as the value lives.
    #[must_use]
    pub const unsafe fn new(start: NonNull<c_void>, bytes: usize) -> Self {
        Self { start, bytes }
    }

    /// Has whoever touches a page for the first time, or stores to one that is being paged out, wait for the holder of
    /// the userfaultfd.
    pub fn watch(&self) -> Result<Uffd, PagingError> {
        let uffd = UffdBuilder::new()
            .close_on_exec(true)
            .non_blocking(true)
            .user_mode_only(false)
            .require_features(
                FeatureFlags::MISSING_SHMEM | FeatureFlags::PAGEFAULT_FLAG_WP | WRITE_PROTECT_SHMEM,
            )
            .create()?;
        uffd.register_with_mode(
            self.start.as_ptr(),
            self.bytes,
            RegisterMode::MISSING | RegisterMode::WRITE_PROTECT,
        )?;
        Ok(uffd)
    }

    /// Lets `cpd` page the storage, which nobody may have touched yet.
    pub fn offer(&self, cpd: &GuestConnection) -> Result<(), PagingError> {
        if let Some(name) = direct_io() {
            return Err(PagingError::DirectIo(name));
        }
        let uffd = self.watch()?;
        cpd.offer(self.start.as_ptr() as u64, uffd.as_fd())?;
        // Never closed: with the last one, pages that are not in frames would read as zero.
        let _ = uffd.into_raw_fd();
        Ok(())
    }

    /// Forgets which pages were used.
    pub fn sweep(&self) -> Result<(), Errno> {
        // SAFETY: It is a shared mapping of a file, says `new`: only the translations are gone, not the content.
        unsafe { madvise(self.start.as_ptr(), self.bytes, Advice::LinuxDontNeed) }
    }
}

/// The name of a file that this process has open for direct I/O.
fn direct_io() -> Option<String> {
    let open = fs::read_dir("/proc/self/fd").ok()?;
    open.flatten().find_map(|entry| {
        let number = entry.file_name().into_string().ok()?;
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).ok()?;
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
        let flags = u32::from_str_radix(flags.trim(), 8).ok()?;
        let target = fs::read_link(entry.path()).ok()?;
        (flags & OFlags::DIRECT.bits() != 0).then(|| target.display().to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{Mode, open};

    #[test]
    fn direct_io_is_found() {
        let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = directory.path().join("disk");
        let file = open(&path, OFlags::CREATE | OFlags::RDWR, Mode::RWXU).unwrap();
        assert_eq!(direct_io(), None);
        let direct = open(&path, OFlags::RDWR | OFlags::DIRECT, Mode::empty()).unwrap();
        assert_eq!(direct_io(), Some(path.display().to_string()));
        drop((file, direct));
        assert_eq!(direct_io(), None);
    }
}
