// SPDX-License-Identifier: GPL-2.0

//! CP commands: what z/VM's operator types, from the kernel.
//!
//! C header: [`arch/s390/include/asm/cpcmd.h`](srctree/arch/s390/include/asm/cpcmd.h)

use crate::{
    bindings,
    prelude::*,
    s390::machine::{
        hypervisor,
        Hypervisor, //
    }, //
};

/// The longest answer that is kept.
const LONGEST: usize = 256;

/// What CP answered.
pub struct Answer {
    text: [u8; LONGEST],
    len: usize,
    code: c_int,
}

impl Answer {
    /// Returns the text in ASCII, lines separated by newlines, without what is behind 256 bytes.
    pub fn text(&self) -> &[u8] {
        &self.text[..self.len]
    }

    /// Returns the return code: 0 if the command was executed.
    pub fn code(&self) -> c_int {
        self.code
    }
}

/// Has CP execute a command: DIAGNOSE X'08'.
///
/// # Errors
///
/// - `EOPNOTSUPP` if this is not z/VM.
/// - `ENOMEM`
///
/// # Context
///
/// May sleep.
#[doc(alias = "cpcmd")]
pub fn command(command: &CStr) -> Result<KBox<Answer>> {
    if hypervisor() != Hypervisor::Zvm {
        return Err(EOPNOTSUPP);
    }
    let mut answer = KBox::new(
        Answer {
            text: [0; LONGEST],
            len: 0,
            code: 0,
        },
        GFP_KERNEL,
    )?;
    // SAFETY: The command ends with a NUL; the buffer has that length.
    let len = unsafe {
        bindings::cpcmd(
            command.as_char_ptr(),
            answer.text.as_mut_ptr().cast(),
            LONGEST as c_int,
            &raw mut answer.code,
        )
    };
    answer.len = usize::try_from(len).unwrap_or(0).min(LONGEST);
    Ok(answer)
}
