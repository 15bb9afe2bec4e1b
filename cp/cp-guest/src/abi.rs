// SPDX-License-Identifier: GPL-2.0

//! The C structures of `include/zvm-cp.h`, which documents them.
//!
//! A test compares their layout, and that header with the one that the QEMU patches carry.

use std::ffi::{c_char, c_int, c_void};

/// `ZVM_CP_ABI_VERSION`
pub const ABI_VERSION: u32 = 6;
/// `ZVM_CP_ERROR_SIZE`
pub const ERROR_SIZE: usize = 256;

/// `ZVM_CP_DONE`
pub const DONE: c_int = 0;
/// `ZVM_CP_UNKNOWN`
pub const UNKNOWN: c_int = -1;
/// `ZVM_CP_STOPPED`
pub const STOPPED: c_int = -2;
/// `ZVM_CP_ACCESS`
pub const ACCESS: c_int = -3;
/// `ZVM_CP_ABSENT`
pub const ABSENT: c_int = -4;

/// `ZVM_CP_FLAVOUR_ZVM`
pub const FLAVOUR_ZVM: u32 = 0;
/// `ZVM_CP_FLAVOUR_KVM`
pub const FLAVOUR_KVM: u32 = 1;

/// `ZVM_CP_UNUSED_EXCEPTION`
pub const UNUSED_EXCEPTION: u32 = 1;
/// `ZVM_CP_NODAT`
pub const NODAT: u32 = 2;
/// `ZVM_CP_ORACLE`
pub const ORACLE: u32 = 4;

/// `struct zvm_cp_host`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs, reason = "documented in zvm-cp.h")]
pub struct Host {
    pub version: u32,
    pub size: u32,
    pub opaque: *mut c_void,
    pub inject: unsafe extern "C" fn(*mut c_void),
    pub page_in: unsafe extern "C" fn(*mut c_void),
    pub console: unsafe extern "C" fn(*mut c_void, *const c_char),
    pub stop: unsafe extern "C" fn(*mut c_void, *const c_char),
    pub read: unsafe extern "C" fn(*mut c_void, u32, u64, *mut c_void, usize) -> c_int,
    pub write: unsafe extern "C" fn(*mut c_void, u32, u64, *const c_void, usize) -> c_int,
    pub read_logical: unsafe extern "C" fn(*mut c_void, u32, u64, *mut c_void, usize) -> c_int,
    pub write_logical: unsafe extern "C" fn(*mut c_void, u32, u64, *const c_void, usize) -> c_int,
    pub discard: unsafe extern "C" fn(*mut c_void, u64, u64) -> c_int,
    pub populate: unsafe extern "C" fn(*mut c_void, u64),
    pub exclusive: unsafe extern "C" fn(*mut c_void),
    pub pinned: unsafe extern "C" fn(*mut c_void, u64) -> bool,
    pub flush: unsafe extern "C" fn(*mut c_void),
    pub hold: unsafe extern "C" fn(*mut c_void),
    pub release: unsafe extern "C" fn(*mut c_void),
}

/// `struct zvm_cp_machine`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs, reason = "documented in zvm-cp.h")]
pub struct Machine {
    pub version: u32,
    pub size: u32,
    pub flavour: u32,
    pub cpus: u32,
    pub storage: u64,
    pub ram_fd: i32,
    pub options: u32,
    pub ram_offset: u64,
    pub ram: *mut c_void,
    pub user_id: *const c_char,
    pub socket: *const c_char,
}

/// `struct zvm_cp_identity`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs, reason = "documented in zvm-cp.h")]
pub struct Identity {
    pub cpi: [u8; 17],
    pub name: [u8; 9],
    pub cpu_version: u8,
    pub iucv: u8,
}

/// `struct zvm_cp_irq`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs, reason = "documented in zvm-cp.h")]
pub struct Irq {
    pub address: u64,
    pub buffer: [u8; 40],
    pub more: u8,
    pub reserved: [u8; 7],
}

/// `struct zvm_cp_ops`
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs, reason = "documented in zvm-cp.h")]
pub struct Ops {
    pub version: u32,
    pub size: u32,
    pub open: unsafe extern "C" fn(
        *const Host,
        *const Machine,
        *mut Identity,
        *mut [u8; ERROR_SIZE],
    ) -> *mut c_void,
    pub close: unsafe extern "C" fn(*mut c_void),
    pub diag:
        unsafe extern "C" fn(*mut c_void, u32, u32, u32, u32, *mut [u64; 16], *mut c_int) -> c_int,
    pub iucv: unsafe extern "C" fn(*mut c_void, u32, u64, *mut [u64; 16], *mut c_int) -> c_int,
    pub essa: unsafe extern "C" fn(*mut c_void, u64, u32, *mut u64) -> c_int,
    pub access: unsafe extern "C" fn(*mut c_void, u64) -> c_int,
    pub page_fault: unsafe extern "C" fn(*mut c_void, u32, u64, u64, *mut u64) -> bool,
    pub take_page: unsafe extern "C" fn(*mut c_void, *mut u64, *mut bool) -> bool,
    pub block_volatility: unsafe extern "C" fn(*mut c_void, u64),
    pub device: unsafe extern "C" fn(*mut c_void, *const c_char, u64, u64, bool),
    pub discard: unsafe extern "C" fn(*mut c_void, u64, u64) -> c_int,
    pub exclusive: unsafe extern "C" fn(*mut c_void),
    pub held: unsafe extern "C" fn(*mut c_void),
    pub has_irq: unsafe extern "C" fn(*mut c_void, u32) -> bool,
    pub take_irq: unsafe extern "C" fn(*mut c_void, u32, *mut Irq) -> bool,
    pub reset: unsafe extern "C" fn(*mut c_void),
    pub reset_cpu: unsafe extern "C" fn(*mut c_void, u32),
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::mem::offset_of;
    use std::path::Path;
    use std::process::Command;

    const HEADER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/include/zvm-cp.h");

    /// The QEMU patches carry the header too; both must be the same, or a library could be taken for another.
    #[test]
    fn the_header_is_the_one_in_the_qemu_patches() {
        let patches = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../patches/qemu");
        let added: String = fs::read_dir(patches)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| {
                path.extension()
                    .is_some_and(|extension| extension == "patch")
            })
            .map(|path| fs::read_to_string(path).unwrap())
            .filter_map(|patch| {
                let (_, diff) = patch.split_once("+++ b/include/hw/s390x/zvm-cp.h\n")?;
                let lines = diff
                    .lines()
                    .skip(1)
                    .take_while(|line| line.starts_with('+'));
                Some(
                    lines
                        .map(|line| format!("{}\n", &line[1..]))
                        .collect::<String>(),
                )
            })
            .collect();
        assert_eq!(added, fs::read_to_string(HEADER).unwrap());
    }

    /// Lets the C compiler check sizes, offsets and constants.
    #[test]
    fn the_layout_is_that_of_c() {
        let mut checks = vec![];
        macro_rules! structure {
            ($c:literal, $rust:ty, $($field:ident),*) => {
                checks.push(format!("sizeof(struct {}) == {}", $c, size_of::<$rust>()));
                $(checks.push(format!("offsetof(struct {}, {}) == {}", $c, stringify!($field), offset_of!($rust, $field)));)*
            };
        }
        structure!(
            "zvm_cp_host",
            Host,
            version,
            size,
            opaque,
            inject,
            page_in,
            console,
            stop,
            read,
            write,
            read_logical,
            write_logical,
            discard,
            populate,
            exclusive,
            pinned,
            flush,
            hold,
            release
        );
        structure!(
            "zvm_cp_machine",
            Machine,
            version,
            size,
            flavour,
            cpus,
            storage,
            ram_fd,
            options,
            ram_offset,
            ram,
            user_id,
            socket
        );
        structure!("zvm_cp_identity", Identity, cpi, name, cpu_version, iucv);
        structure!("zvm_cp_irq", Irq, address, buffer, more, reserved);
        structure!(
            "zvm_cp_ops",
            Ops,
            version,
            size,
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
            reset_cpu
        );
        for (c, rust) in [
            ("ZVM_CP_ABI_VERSION", i64::from(ABI_VERSION)),
            ("ZVM_CP_ERROR_SIZE", ERROR_SIZE as i64),
            ("ZVM_CP_DONE", i64::from(DONE)),
            ("ZVM_CP_UNKNOWN", i64::from(UNKNOWN)),
            ("ZVM_CP_STOPPED", i64::from(STOPPED)),
            ("ZVM_CP_ACCESS", i64::from(ACCESS)),
            ("ZVM_CP_ABSENT", i64::from(ABSENT)),
            ("ZVM_CP_FLAVOUR_ZVM", i64::from(FLAVOUR_ZVM)),
            ("ZVM_CP_FLAVOUR_KVM", i64::from(FLAVOUR_KVM)),
            ("ZVM_CP_UNUSED_EXCEPTION", i64::from(UNUSED_EXCEPTION)),
            ("ZVM_CP_NODAT", i64::from(NODAT)),
            ("ZVM_CP_ORACLE", i64::from(ORACLE)),
        ] {
            checks.push(format!("{c} == {rust}"));
        }
        let source: String = std::iter::once(format!("#include \"{HEADER}\"\n"))
            .chain(
                checks
                    .iter()
                    .map(|check| format!("_Static_assert({check}, \"{check}\");\n")),
            )
            .collect();
        let file = std::env::temp_dir().join(format!("zvm-cp-layout-{}.c", std::process::id()));
        fs::write(&file, source).unwrap();
        let output = Command::new("cc")
            .args(["-std=gnu11", "-fsyntax-only"])
            .arg(&file)
            .output();
        fs::remove_file(&file).unwrap();
        let output = output.unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
