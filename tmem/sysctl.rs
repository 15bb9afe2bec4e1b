// SPDX-License-Identifier: GPL-2.0

//! The files below `/proc/sys/vm`.
//!
//! | File         | What                                                                          |
//! |--------------|-------------------------------------------------------------------------------|
//! | `tmem_cache` | 1: put clean page cache; 0: do not, and forget what was put                   |
//! | `tmem_swap`  | 1: put swapped pages; 0: do not, and bring home those that were put           |
//!
//! A text that is not understood in full gets `EINVAL` and changes nothing.

use kernel::{
    fmt,
    prelude::*,
    str::{
        parse_int::ParseInt,
        BStr, //
    },
    sync::Arc,
    sysctl::{
        Entry,
        File,
        Registration, //
    }, //
};

use crate::control::Control;

/// What all files work on.
type Data = Arc<Control>;

/// The files. Dropping it removes them.
pub(crate) type Files = Registration<Data>;

/// Makes the files.
pub(crate) fn files(control: Data) -> Result<Files> {
    Registration::new(
        c"vm",
        control,
        &[
            File::of::<Cache>(),
            #[cfg(CONFIG_FRONTSWAP)]
            File::of::<Swap>(),
        ],
    )
}

/// Reads a switch.
fn switch(text: &BStr) -> Result<bool> {
    match u32::from_str(BStr::from_bytes(text.trim_ascii()))? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(EINVAL),
    }
}

struct Cache;

impl Entry<Data> for Cache {
    const NAME: &'static CStr = c"tmem_cache";
    const MODE: u16 = 0o644;

    fn show(control: &Data, out: &mut dyn fmt::Write) -> Result {
        writeln!(out, "{}", u32::from(control.cache()))?;
        Ok(())
    }

    fn store(control: &Data, text: &BStr) -> Result {
        control.set_cache(switch(text)?)
    }
}

#[cfg(CONFIG_FRONTSWAP)]
struct Swap;

#[cfg(CONFIG_FRONTSWAP)]
impl Entry<Data> for Swap {
    const NAME: &'static CStr = c"tmem_swap";
    const MODE: u16 = 0o644;

    fn show(control: &Data, out: &mut dyn fmt::Write) -> Result {
        writeln!(out, "{}", u32::from(control.swap()))?;
        Ok(())
    }

    fn store(control: &Data, text: &BStr) -> Result {
        control.set_swap(switch(text)?)
    }
}
