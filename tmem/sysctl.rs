// SPDX-License-Identifier: GPL-2.0

//! The files below `/proc/sys/vm`.
//!
//! | File         | What                                                                          |
//! |--------------|-------------------------------------------------------------------------------|
//! | `tmem_cache` | 1: put clean page cache; 0: do not, and forget what was put                   |
//! | `tmem_swap`  | 1: put swapped pages; 0: do not, and bring home those that were put           |
//! | `tmem_home`  | seconds after which swapped pages come home if there is room; 0: never        |
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
        &[File::of::<Cache>(), File::of::<Swap>(), File::of::<Home>()],
    )
}

fn number(text: &BStr) -> Result<u32> {
    u32::from_str(BStr::from_bytes(text.trim_ascii()))
}

/// Reads a switch.
fn switch(text: &BStr) -> Result<bool> {
    match number(text)? {
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

struct Swap;

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

struct Home;

impl Entry<Data> for Home {
    const NAME: &'static CStr = c"tmem_home";
    const MODE: u16 = 0o644;

    fn show(control: &Data, out: &mut dyn fmt::Write) -> Result {
        writeln!(out, "{}", control.keeper().seconds())?;
        Ok(())
    }

    fn store(control: &Data, text: &BStr) -> Result {
        control.keeper().set_seconds(number(text)?);
        Ok(())
    }
}
