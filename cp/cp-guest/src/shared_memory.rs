// SPDX-License-Identifier: GPL-2.0

//! Memory that `cpd` can look into.

use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::AtomicU8;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
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
        let file = memfd_create(name, MemfdFlags::CLOEXEC)?;
        ftruncate(&file, bytes as u64)?;
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
        // SAFETY: `new` mapped that many bytes, and `drop` unmaps them. Others in possession of the file may change
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
        // SAFETY: `new` made the mapping; no reference to it outlives `self`. Failing would leak it.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}
