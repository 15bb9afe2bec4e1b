// SPDX-License-Identifier: GPL-2.0

//! The machine that the kernel runs on.
//!
//! C header: [`arch/s390/include/asm/machine.h`](srctree/arch/s390/include/asm/machine.h)

use crate::{
    bindings,
    fmt, //
};

/// What the kernel runs under, as the machine told it at boot (STSI).
///
/// This is for messages, and for deciding what is worth trying. It does not tell what works: a
/// hypervisor may know fewer calls than others of its name. Whether one works is found out by
/// doing it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hypervisor {
    /// z/VM.
    Zvm,
    /// KVM, or QEMU without it.
    Kvm,
    /// None but the machine's own: a logical partition.
    Lpar,
    /// One that the kernel does not know by name.
    Unknown,
}

impl fmt::Display for Hypervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Zvm => "z/VM",
            Self::Kvm => "KVM",
            Self::Lpar => "LPAR",
            Self::Unknown => "an unknown hypervisor",
        })
    }
}

/// Returns what the kernel runs under.
///
/// # Context
///
/// Any. The answer never changes.
///
/// # Examples
///
/// ```
/// use kernel::s390::machine::{
///     hypervisor,
///     Hypervisor, //
/// };
///
/// pr_info!("running under {}\n", hypervisor());
/// if hypervisor() != Hypervisor::Zvm {
///     pr_info!("no special messages here\n");
/// }
/// ```
#[doc(alias("machine_is_vm", "machine_is_kvm", "machine_is_lpar"))]
#[inline(never)]
pub fn hypervisor() -> Hypervisor {
    // SAFETY: These look at bits that are set before the kernel proper starts, and are always safe
    // to call.
    let (vm, kvm, lpar) = unsafe {
        (
            bindings::machine_is_vm(),
            bindings::machine_is_kvm(),
            bindings::machine_is_lpar(),
        )
    };
    match (vm, kvm, lpar) {
        (true, _, _) => Hypervisor::Zvm,
        (_, true, _) => Hypervisor::Kvm,
        (_, _, true) => Hypervisor::Lpar,
        (false, false, false) => Hypervisor::Unknown,
    }
}
