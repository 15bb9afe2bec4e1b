// SPDX-License-Identifier: GPL-2.0

//! Memory that a guest's library shares with `cpd`.

use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::AtomicU8;

use rustix::fs::{
    MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate, memfd_create,
};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// A memfd, mapped at a page boundary.
#[derive(Debug)]
pub struct SharedMemory {
    file: OwnedFd,
    start: NonNull<AtomicU8>,
    bytes: usize,
}

// SAFETY: The memory consists of atomics, and the mapping belongs to the process, not to a thread.
unsafe impl Send for SharedMemory {}
// SAFETY: As above.
unsafe impl Sync for SharedMemory {}

impl SharedMemory {
    /// Makes that many zeroes, at least one. `name` is what the host shows the file as.
    pub fn new(name: &str, bytes: usize) -> Result<Self, Errno> {
        let file = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&file, bytes as u64)?;
        fcntl_add_seals(&file, SealFlags::SHRINK)?;
        Self::map(file, bytes)
    }

    /// Maps what another process has made. [`Errno::PERM`] if the file is shorter, or might become so: whoever touched
    /// what is missing then would die of it.
    pub fn open(file: OwnedFd, bytes: usize) -> Result<Self, Errno> {
        let sealed = fcntl_get_seals(&file)?.contains(SealFlags::SHRINK);
        if sealed && fstat(&file)?.st_size.unsigned_abs() >= bytes as u64 {
            Self::map(file, bytes)
        } else {
            Err(Errno::PERM)
        }
    }

    fn map(file: OwnedFd, bytes: usize) -> Result<Self, Errno> {
        // SAFETY: A new mapping, which overlaps no other since no address is asked for.
        let start = unsafe {
            mmap(
                ptr::null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                &file,
                0,
            )?
        };
        let start = NonNull::new(start.cast()).ok_or(Errno::FAULT)?;
        Ok(Self { file, start, bytes })
    }
}

impl Deref for SharedMemory {
    type Target = [AtomicU8];

    fn deref(&self) -> &[AtomicU8] {
        // SAFETY: `map` mapped that many bytes, and `drop` unmaps them. Others in possession of the file may change
        // them, which atomics allow.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }
}

impl AsFd for SharedMemory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        // SAFETY: `map` made the mapping; no reference to it outlives `self`. Failing would leak it.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn both_sides_see_the_same() {
        let ours = SharedMemory::new("shared", 5000).unwrap();
        let theirs = SharedMemory::open(ours.as_fd().try_clone_to_owned().unwrap(), 5000).unwrap();
        ours[4999].store(7, Ordering::Relaxed);
        assert_eq!(theirs[4999].load(Ordering::Relaxed), 7);
        assert_eq!(ftruncate(&ours, 0), Err(Errno::PERM));
        let longer = ours.as_fd().try_clone_to_owned().unwrap();
        assert_eq!(SharedMemory::open(longer, 5001).unwrap_err(), Errno::PERM);
    }

    #[test]
    fn what_might_shrink_is_refused() {
        let file = memfd_create("loose", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&file, 4096).unwrap();
        assert_eq!(SharedMemory::open(file, 4096).unwrap_err(), Errno::PERM);
    }
}
