// SPDX-License-Identifier: GPL-2.0

//! The table that QEMU's device looks up, and the way back to that device.
//!
//! All that is unsafe between the two is here. Nothing unwinds into C: a panic ends the guest with a line, not QEMU in
//! the middle of something.

use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_void};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use cp_core::UserId;
use cp_core::diag::Register;
use cp_core::user_id::UserIdError;
use rustix::io::Errno;
use thiserror::Error;

use crate::abi;
use crate::counters::Counters;
use crate::guest::diag::Operands;
use crate::guest::{Exception, Guest, Outcome, Shared};
use crate::host::{AccessException, Cpu, Host, NotDiscarded, OutsideStorage};
use crate::link::{Link, Logon, LogonError, socket_path};
use crate::page_states::{Access, Options, Pages};
use crate::paging::Mapping;

/// The control program identifier that Linux knows z/VM by, and the release that `QUERY CPLEVEL` names.
const CPI: &str = "z/VM    7.3.0   ";
/// The version code of STORE CPU ID in guests of z/VM.
const VERSION: u8 = 0xff;

/// The table of functions.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "ZVM_CP_OPS_SYMBOL")]
pub static zvm_cp_ops: abi::Ops = abi::Ops {
    version: abi::ABI_VERSION,
    size: size_of::<abi::Ops>() as u32,
    open,
    close,
    diag,
    iucv,
    essa,
    access,
    page_fault,
    take_page,
    block_volatility,
    device,
    discard,
    exclusive,
    held,
    has_irq,
    take_irq,
    reset,
    reset_cpu,
};

type Machine = Guest<Device, Link>;

/// The device in QEMU.
#[derive(Debug)]
struct Device(abi::Host);

// SAFETY: `zvm-cp.h` allows the functions on any thread, or on that of a CPU, which `Cpu` stands for; `opaque` is only
// passed back to them.
unsafe impl Send for Device {}
// SAFETY: As above.
unsafe impl Sync for Device {}

/// Makes a C string; what follows a zero byte is cut off.
fn c_string(text: &str) -> CString {
    CString::new(text.split('\0').next().unwrap_or_default()).unwrap_or_default()
}

impl Host for Device {
    fn read(&self, cpu: &Cpu, real: u64, buffer: &mut [u8]) -> Result<(), OutsideStorage> {
        let (to, length) = (buffer.as_mut_ptr().cast(), buffer.len());
        // SAFETY: `to` has room for `length` bytes; `cpu` says that this is its thread.
        let failed = unsafe { (self.0.read)(self.0.opaque, cpu.address(), real, to, length) };
        if failed == 0 {
            Ok(())
        } else {
            Err(OutsideStorage)
        }
    }

    fn write(&self, cpu: &Cpu, real: u64, bytes: &[u8]) -> Result<(), OutsideStorage> {
        let (from, length) = (bytes.as_ptr().cast(), bytes.len());
        // SAFETY: At `from` there are `length` bytes; `cpu` says that this is its thread.
        let failed = unsafe { (self.0.write)(self.0.opaque, cpu.address(), real, from, length) };
        if failed == 0 {
            Ok(())
        } else {
            Err(OutsideStorage)
        }
    }

    fn read_logical(
        &self,
        cpu: &Cpu,
        logical: u64,
        buffer: &mut [u8],
    ) -> Result<(), AccessException> {
        let (to, length) = (buffer.as_mut_ptr().cast(), buffer.len());
        let read_logical = self.0.read_logical;
        // SAFETY: As for `read`.
        let failed = unsafe { read_logical(self.0.opaque, cpu.address(), logical, to, length) };
        if failed == 0 {
            Ok(())
        } else {
            Err(AccessException)
        }
    }

    fn write_logical(&self, cpu: &Cpu, logical: u64, bytes: &[u8]) -> Result<(), AccessException> {
        let (from, length) = (bytes.as_ptr().cast(), bytes.len());
        let write_logical = self.0.write_logical;
        // SAFETY: As for `write`.
        let failed = unsafe { write_logical(self.0.opaque, cpu.address(), logical, from, length) };
        if failed == 0 {
            Ok(())
        } else {
            Err(AccessException)
        }
    }

    fn discard(&self, address: u64, bytes: u64) -> Result<(), NotDiscarded> {
        // SAFETY: Any numbers may be passed, on any thread.
        let failed = unsafe { (self.0.discard)(self.0.opaque, address, bytes) };
        if failed == 0 {
            Ok(())
        } else {
            Err(NotDiscarded)
        }
    }

    fn populate(&self, address: u64) {
        // SAFETY: Any number may be passed, on any thread.
        unsafe { (self.0.populate)(self.0.opaque, address) }
    }

    fn exclusive(&self) {
        // SAFETY: May be called on any thread.
        unsafe { (self.0.exclusive)(self.0.opaque) }
    }

    fn pinned(&self, address: u64) -> bool {
        // SAFETY: Any number may be passed. Outside of an exclusive section the answer is old, no more.
        unsafe { (self.0.pinned)(self.0.opaque, address) }
    }

    fn flush(&self) {
        // SAFETY: Outside of an exclusive section some CPUs forget later, no more.
        unsafe { (self.0.flush)(self.0.opaque) }
    }

    fn hold(&self) {
        // SAFETY: May be called on any thread.
        unsafe { (self.0.hold)(self.0.opaque) }
    }

    fn release(&self) {
        // SAFETY: May be called on any thread.
        unsafe { (self.0.release)(self.0.opaque) }
    }

    fn inject(&self) {
        // SAFETY: May be called on any thread.
        unsafe { (self.0.inject)(self.0.opaque) }
    }

    fn page_in(&self) {
        // SAFETY: May be called on any thread.
        unsafe { (self.0.page_in)(self.0.opaque) }
    }

    fn console(&self, line: &str) {
        let line = c_string(line);
        // SAFETY: The string outlives the call, which may be made on any thread.
        unsafe { (self.0.console)(self.0.opaque, line.as_ptr()) }
    }

    fn stop(&self, reason: &str) {
        let reason = c_string(reason);
        // SAFETY: The string outlives the call, which may be made on any thread.
        unsafe { (self.0.stop)(self.0.opaque, reason.as_ptr()) }
    }
}

/// Why a guest does not come up.
#[derive(Debug, Error)]
enum OpenError {
    #[error(
        "this QEMU has interface version {version} of {size} bytes, the library needs version {} of {} bytes: build both from the same sources",
        abi::ABI_VERSION,
        size_of::<abi::Host>()
    )]
    Version { version: u32, size: u32 },
    #[error(transparent)]
    UserId(#[from] UserIdError),
    #[error("a user ID must be plain text")]
    UserIdText,
    #[error("flavour {0} is not known")]
    Flavour(u32),
    #[error("guest storage is not a file that cpd could share")]
    NoRam,
    #[error("cannot share memory with cpd: {0}")]
    Memory(Errno),
    #[error("a file of guest memory cannot be kept open: {0}")]
    Storage(io::Error),
    #[error(transparent)]
    Logon(#[from] LogonError),
}

/// # Safety
///
/// `text` is null or a C string that lives as long as `'a`.
unsafe fn optional<'a>(text: *const c_char) -> Option<&'a CStr> {
    // SAFETY: Not null here; the rest is the caller's promise.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) })
}

/// # Safety
///
/// The pointers in `machine` are as `zvm-cp.h` says, and its `ram_fd` is open, for the time of the call.
unsafe fn build(
    host: abi::Host,
    machine: &abi::Machine,
) -> Result<(Machine, abi::Identity), OpenError> {
    // SAFETY: The caller promises both pointers.
    let (user_id, socket) = unsafe { (optional(machine.user_id), optional(machine.socket)) };
    let user_id = user_id
        .unwrap_or_default()
        .to_str()
        .map_err(|_| OpenError::UserIdText)?;
    let user_id = UserId::new(user_id)?;
    // SAFETY: The caller promises that it is open for the time of this call.
    let ram = (machine.ram_fd >= 0).then(|| unsafe { BorrowedFd::borrow_raw(machine.ram_fd) });
    let storage = ram
        .map(|ram| ram.try_clone_to_owned())
        .transpose()
        .map_err(OpenError::Storage)?;
    let options = Options {
        no_dat: machine.options & abi::NODAT != 0,
        unused_exception: machine.options & abi::UNUSED_EXCEPTION != 0,
        oracle: machine.options & abi::ORACLE != 0,
    };
    let pages = Pages::new(machine.storage, storage, options).map_err(OpenError::Memory)?;
    let counters = Counters::new().map_err(OpenError::Memory)?;
    let shared = Arc::new(Shared::new(
        Device(host),
        user_id,
        machine.cpus,
        counters,
        pages,
    ));
    let link = match machine.flavour {
        abi::FLAVOUR_KVM => None,
        abi::FLAVOUR_ZVM => {
            let ram = ram
                .filter(|_| machine.ram_offset == 0)
                .ok_or(OpenError::NoRam)?;
            let start = NonNull::new(machine.ram).ok_or(OpenError::NoRam)?;
            // SAFETY: The caller promises that the file is mapped there; it stays so until the process ends.
            let mapping = unsafe { Mapping::new(start, machine.storage as usize) };
            let path =
                socket_path(socket.map(|path| PathBuf::from(OsStr::from_bytes(path.to_bytes()))))?;
            let keep =
                |memory: BorrowedFd<'_>| memory.try_clone_to_owned().map_err(OpenError::Storage);
            let logon = Logon {
                path,
                user_id,
                storage: machine.storage,
                cpus: machine.cpus,
                memory: [
                    keep(ram)?,
                    keep(shared.counters().as_fd())?,
                    keep(shared.pages().as_fd())?,
                ],
                mapping,
            };
            Some(Link::log_on(logon, Arc::clone(&shared) as _)?)
        }
        other => return Err(OpenError::Flavour(other)),
    };
    let mut identity = abi::Identity {
        cpi: [0; 17],
        name: [0; 9],
        cpu_version: 0,
        iucv: 0,
    };
    let name = user_id.to_string();
    identity.name[..name.len()].copy_from_slice(name.as_bytes());
    if link.is_some() {
        identity.cpi[..CPI.len()].copy_from_slice(CPI.as_bytes());
        identity.cpu_version = VERSION;
        identity.iucv = 1;
    }
    Ok((Guest::new(shared, link, machine.storage), identity))
}

/// `zvm_cp_ops.open`
///
/// # Safety
///
/// As `zvm-cp.h` says: all pointers are valid; what `host` points to can be called until `close`.
unsafe extern "C" fn open(
    host: *const abi::Host,
    machine: *const abi::Machine,
    identity: *mut abi::Identity,
    error: *mut [u8; abi::ERROR_SIZE],
) -> *mut c_void {
    let result = catch_unwind(|| {
        for (start, size) in [
            (host.cast::<[u32; 2]>(), size_of::<abi::Host>()),
            (machine.cast(), size_of::<abi::Machine>()),
        ] {
            // SAFETY: Each table begins with its version and size, whatever they are.
            let [version, table] = unsafe { *start };
            if version != abi::ABI_VERSION || table as usize != size {
                return Err(OpenError::Version {
                    version,
                    size: table,
                });
            }
        }
        // SAFETY: The tables are of our version and size; the caller promises the rest.
        unsafe { build(*host, &*machine) }
    });
    let message = match result {
        Ok(Ok((guest, seen))) => {
            // SAFETY: The caller passes room for it.
            unsafe { identity.write(seen) };
            return Box::into_raw(Box::new(guest)).cast();
        }
        Ok(Err(reason)) => reason.to_string(),
        Err(_) => "internal error of the Control Program's library".into(),
    };
    let mut text = [0; abi::ERROR_SIZE];
    let length = message.floor_char_boundary(abi::ERROR_SIZE - 1);
    text[..length].copy_from_slice(&message.as_bytes()[..length]);
    // SAFETY: The caller passes room for it.
    unsafe { error.write(text) };
    ptr::null_mut()
}

/// `zvm_cp_ops.close`
///
/// # Safety
///
/// `cp` comes from `open` and is not used by anyone else, now or later.
unsafe extern "C" fn close(cp: *mut c_void) {
    // SAFETY: `open` made the box; the caller gives up the only pointer.
    let guest = unsafe { Box::from_raw(cp.cast::<Machine>()) };
    // What a panic leaves behind is nobody's any longer.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(guest)));
}

/// Runs `call` on the guest; a panic ends the guest and gives `failed`.
///
/// # Safety
///
/// `cp` comes from `open` and has not been closed.
unsafe fn with<T>(cp: *mut c_void, failed: T, call: impl FnOnce(&Machine) -> T) -> T {
    // SAFETY: The caller promises that the box is there; all its functions take `&self`.
    let guest = unsafe { &*cp.cast::<Machine>() };
    catch_unwind(AssertUnwindSafe(|| call(guest))).unwrap_or_else(|_| {
        guest.fail();
        failed
    })
}

/// # Safety
///
/// `cc` is valid, or `outcome` has no condition code.
unsafe fn complete(outcome: Outcome, cc: *mut c_int) -> c_int {
    match outcome {
        Ok(code) => {
            if let Some(code) = code {
                // SAFETY: The caller promises it.
                unsafe { cc.write(code.into()) };
            }
            abi::DONE
        }
        Err(Exception::Unknown) => abi::UNKNOWN,
        Err(Exception::Stopped) => abi::STOPPED,
        Err(Exception::Access) => abi::ACCESS,
        Err(Exception::Program(code)) => code.into(),
    }
}

/// `zvm_cp_ops.diag`
///
/// # Safety
///
/// As `zvm-cp.h` says: on the thread of `cpu`, with valid pointers.
unsafe extern "C" fn diag(
    cp: *mut c_void,
    cpu: u32,
    code: u32,
    r1: u32,
    r3: u32,
    regs: *mut [u64; 16],
    cc: *mut c_int,
) -> c_int {
    // SAFETY: The caller promises the pointers and the thread. Nobody else has the registers of a CPU that executes
    // an instruction.
    unsafe {
        let (cpu, registers) = (Cpu::new(cpu), &mut *regs);
        let outcome = with(cp, Err(Exception::Stopped), |guest| {
            let (Some(rx), Some(ry)) = (Register::new(r1), Register::new(r3)) else {
                return Err(Exception::Unknown);
            };
            guest.diagnose(&cpu, code, Operands { rx, ry }, registers)
        });
        complete(outcome, cc)
    }
}

/// `zvm_cp_ops.iucv`
///
/// # Safety
///
/// As `zvm-cp.h` says: on the thread of `cpu`, with valid pointers.
unsafe extern "C" fn iucv(
    cp: *mut c_void,
    cpu: u32,
    plist: u64,
    regs: *mut [u64; 16],
    cc: *mut c_int,
) -> c_int {
    // SAFETY: As in `diag`.
    unsafe {
        let (cpu, registers) = (Cpu::new(cpu), &mut *regs);
        let outcome = with(cp, Err(Exception::Stopped), |guest| {
            guest.iucv(&cpu, plist, registers)
        });
        complete(outcome, cc)
    }
}

/// `zvm_cp_ops.essa`
///
/// # Safety
///
/// `cp` comes from `open` and has not been closed; `state` is valid.
unsafe extern "C" fn essa(cp: *mut c_void, address: u64, orc: u32, state: *mut u64) -> c_int {
    // SAFETY: The caller promises the pointers. `complete` is given no condition code to store.
    unsafe {
        let before = with(cp, Err(Exception::Stopped), |guest| {
            guest.essa(address, orc)
        });
        if let Ok(before) = before {
            state.write(before);
        }
        complete(before.map(|_| None), ptr::null_mut())
    }
}

/// `zvm_cp_ops.access`
///
/// # Safety
///
/// `cp` comes from `open` and has not been closed.
unsafe extern "C" fn access(cp: *mut c_void, address: u64) -> c_int {
    // SAFETY: The caller promises it.
    match unsafe { with(cp, Ok(Access::Now), |guest| guest.access(address)) } {
        Ok(Access::Now) => abi::DONE,
        Ok(Access::Later) => abi::ABSENT,
        Err(interruption) => interruption.code().into(),
    }
}

/// `zvm_cp_ops.page_fault`
///
/// # Safety
///
/// As `zvm-cp.h` says: on the thread of `cpu`, with a valid pointer.
unsafe extern "C" fn page_fault(
    cp: *mut c_void,
    cpu: u32,
    address: u64,
    psw: u64,
    token: *mut u64,
) -> bool {
    // SAFETY: The caller promises the pointers and the thread.
    unsafe {
        let cpu = Cpu::new(cpu);
        let begun = with(cp, None, |guest| guest.page_fault(&cpu, address, psw));
        if let Some(begun) = begun {
            token.write(begun.0);
        }
        begun.is_some()
    }
}

/// `zvm_cp_ops.take_page`
///
/// # Safety
///
/// `cp` comes from `open` and has not been closed; the other pointers are valid.
unsafe extern "C" fn take_page(cp: *mut c_void, token: *mut u64, more: *mut bool) -> bool {
    // SAFETY: The caller promises the pointers.
    unsafe {
        let (taken, others) = with(cp, (None, false), Guest::take_page);
        if let Some(taken) = taken {
            token.write(taken.0);
        }
        more.write(others);
        taken.is_some()
    }
}

/// `zvm_cp_ops.block_volatility`
///
/// # Safety
///
/// `cp` comes from `open` and has not been closed.
unsafe extern "C" fn block_volatility(cp: *mut c_void, _address: u64) {
    // SAFETY: The caller promises it.
    unsafe { with(cp, (), Guest::count_block_volatility) }
}

/// `zvm_cp_ops.device`
///
/// # Safety
///
/// `cp` comes from `open` and has not been closed; `name` is null or a C string.
unsafe extern "C" fn device(
    cp: *mut c_void,
    name: *const c_char,
    address: u64,
    length: u64,
    write: bool,
) {
    // SAFETY: The caller promises it.
    unsafe {
        let name = optional(name).unwrap_or_default().to_string_lossy();
        with(cp, (), |guest| guest.device(&name, address, length, write));
    }
}

/// `zvm_cp_ops.discard`
///
/// # Safety
///
/// `cp` comes from `open` and has not been closed.
unsafe extern "C" fn discard(cp: *mut c_void, address: u64, length: u64) -> c_int {
    // SAFETY: The caller promises it.
    let discarded = unsafe {
        with(cp, Err(NotDiscarded), |guest| {
            guest.discard(address, length)
        })
    };
    discarded.map_or(-1, |()| 0)
}

/// `zvm_cp_ops.exclusive`
///
/// # Safety
///
/// As `zvm-cp.h` says: no CPU executes instructions.
unsafe extern "C" fn exclusive(cp: *mut c_void) {
    // SAFETY: The caller promises it.
    unsafe { with(cp, (), Guest::exclusive) }
}

/// `zvm_cp_ops.held`
///
/// # Safety
///
/// As `zvm-cp.h` says: no CPU is running.
unsafe extern "C" fn held(cp: *mut c_void) {
    // SAFETY: The caller promises it.
    unsafe { with(cp, (), Guest::held) }
}

/// `zvm_cp_ops.has_irq`
///
/// # Safety
///
/// `cp` comes from `open` and has not been closed.
unsafe extern "C" fn has_irq(cp: *mut c_void, cpu: u32) -> bool {
    // SAFETY: The caller promises it.
    unsafe { with(cp, false, |guest| guest.has_interrupt(cpu)) }
}

/// `zvm_cp_ops.take_irq`
///
/// # Safety
///
/// As `zvm-cp.h` says: on the thread of `cpu`, with valid pointers.
unsafe extern "C" fn take_irq(cp: *mut c_void, cpu: u32, irq: *mut abi::Irq) -> bool {
    // SAFETY: The caller promises the pointers and the thread.
    unsafe {
        let cpu = Cpu::new(cpu);
        let (taken, more) = with(cp, (None, false), |guest| {
            (guest.take_interrupt(&cpu), guest.has_pending())
        });
        irq.write(abi::Irq {
            address: taken.map_or(0, |taken| taken.address),
            buffer: taken.map_or([0; 40], |taken| taken.buffer),
            more: more.into(),
            reserved: [0; 7],
        });
        taken.is_some()
    }
}

/// `zvm_cp_ops.reset`
///
/// # Safety
///
/// As `zvm-cp.h` says: no CPU is running.
unsafe extern "C" fn reset(cp: *mut c_void) {
    // SAFETY: The caller promises it.
    unsafe { with(cp, (), Guest::reset) }
}

/// `zvm_cp_ops.reset_cpu`
///
/// # Safety
///
/// `cp` comes from `open` and has not been closed.
unsafe extern "C" fn reset_cpu(cp: *mut c_void, cpu: u32) {
    // SAFETY: The caller promises it.
    unsafe { with(cp, (), |guest| guest.reset_cpu(cpu)) }
}
