// SPDX-License-Identifier: GPL-2.0

//! What a guest may ask of the machine it runs in.

use std::marker::PhantomData;

use thiserror::Error;

/// Proves that the current thread is that of a virtual CPU, or acts for it while it does not run.
///
/// Storage can only be reached with one, since prefixing and translation are those of a CPU.
#[derive(Debug)]
pub struct Cpu {
    address: u32,
    /// Stays on its thread.
    _not_send: PhantomData<*const ()>,
}

impl Cpu {
    /// The CPU with that address.
    ///
    /// # Safety
    ///
    /// The caller runs on the thread of that CPU, or no CPU is running, for as long as the value lives.
    #[must_use]
    pub unsafe fn new(address: u32) -> Self {
        Self {
            address,
            _not_send: PhantomData,
        }
    }

    /// The CPU's address.
    #[must_use]
    pub const fn address(&self) -> u32 {
        self.address
    }

    /// The CPU's address, as an index.
    #[must_use]
    pub const fn index(&self) -> usize {
        self.address as usize
    }
}

/// An operand lies outside of storage; nothing was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("an address is outside of the guest's storage")]
pub struct OutsideStorage;

/// A logical address cannot be translated or reached, for which the machine holds the access exception; nothing was
/// copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a logical address cannot be reached")]
pub struct AccessException;

/// The host does not take memory back now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("memory cannot be given back to the host")]
pub struct NotDiscarded;

/// The machine.
pub trait Host: Send + Sync + 'static {
    /// Copies from storage at a real address.
    fn read(&self, cpu: &Cpu, real: u64, buffer: &mut [u8]) -> Result<(), OutsideStorage>;

    /// Copies to storage at a real address.
    fn write(&self, cpu: &Cpu, real: u64, bytes: &[u8]) -> Result<(), OutsideStorage>;

    /// Copies from storage at a logical address.
    fn read_logical(
        &self,
        cpu: &Cpu,
        logical: u64,
        buffer: &mut [u8],
    ) -> Result<(), AccessException>;

    /// Copies to storage at a logical address.
    fn write_logical(&self, cpu: &Cpu, logical: u64, bytes: &[u8]) -> Result<(), AccessException>;

    /// Gives whole pages back to the host, in one operation; they read as zero afterwards.
    fn discard(&self, address: u64, bytes: u64) -> Result<(), NotDiscarded>;

    /// Lets a page take memory of the host.
    fn populate(&self, address: u64);

    /// Calls [`crate::guest::Guest::exclusive`] soon, at least once after this call, while no CPU executes
    /// instructions, whether the CPUs run, wait or are stopped. Does not block.
    fn exclusive(&self);

    /// Whether the machine itself uses a page (a prefix area), so that it must never be taken. Only in an exclusive
    /// section.
    fn pinned(&self, address: u64) -> bool;

    /// All CPUs forget how addresses are translated before they go on. Only in an exclusive section.
    fn flush(&self);

    /// Stops all CPUs and calls [`crate::guest::Guest::held`] then, also if they are stopped already. Does not block.
    fn hold(&self);

    /// Lets the CPUs go on, if [`Self::hold`] has stopped them. Does not block.
    fn release(&self);

    /// Lets all CPUs look whether [`crate::guest::Guest::has_interrupt`]. Does not block.
    fn inject(&self);

    /// Lets all CPUs look for what [`crate::guest::Guest::take_page`] gives. Does not block.
    fn page_in(&self);

    /// Shows a line at the guest's console.
    fn console(&self, line: &str);

    /// Ends the virtual machine with a failure; `reason` is the line that the user sees. Returns before it has ended.
    fn stop(&self, reason: &str);
}
