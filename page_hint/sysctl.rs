// SPDX-License-Identifier: GPL-2.0

//! The files of the volatile page cache below `/proc/sys/vm`.
//!
//! | File                 | What                                                           |
//! |----------------------|----------------------------------------------------------------|
//! | `page_hint_volatile` | 1: make page cache volatile; 0: do not, and make all stable    |
//! | `page_hint_age`      | milliseconds that a folio must not have been used              |
//! | `page_hint_rate`     | pages that become volatile in a second, at most; 0: any number |
//! | `page_hint_share`    | percent of the page cache that may be volatile                 |
//!
//! Writing one begins a sweep at once. A text that is not understood in full gets `EINVAL` and
//! changes nothing.

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

use core::marker::PhantomData;

use crate::{
    allowed,
    policy::Tunables,
    sweeper::Sweeper, //
};

/// What all files work on.
type Data = Arc<Sweeper>;

/// The files. Dropping it removes them.
pub(crate) type Files = Registration<Data>;

/// Makes the files.
pub(crate) fn files(sweeper: Data) -> Result<Files> {
    Registration::new(
        c"vm",
        sweeper,
        &[
            File::of::<Volatile>(),
            File::of::<NumberFile<Age>>(),
            File::of::<NumberFile<Rate>>(),
            File::of::<NumberFile<Share>>(),
        ],
    )
}

/// Reads a number from 0 to `max`.
fn number(text: &BStr, max: u32) -> Result<u32> {
    let number = u32::from_str(BStr::from_bytes(text.trim_ascii()))?;
    if number > max {
        return Err(EINVAL);
    }
    Ok(number)
}

struct Volatile;

impl Entry<Data> for Volatile {
    const NAME: &'static CStr = c"page_hint_volatile";
    const MODE: u16 = 0o644;

    fn show(sweeper: &Data, out: &mut dyn fmt::Write) -> Result {
        writeln!(out, "{}", u32::from(sweeper.tunables().volatile))?;
        Ok(())
    }

    fn store(sweeper: &Data, text: &BStr) -> Result {
        let on = number(text, 1)? == 1;
        if on {
            allowed()?;
        }
        sweeper.tune(|tunables| tunables.volatile = on);
        Ok(())
    }
}

/// A tunable that is a number.
trait Number {
    const NAME: &'static CStr;
    const MAX: u32 = u32::MAX;

    fn of(tunables: &mut Tunables) -> &mut u32;
}

/// The file of a number.
struct NumberFile<N>(PhantomData<N>);

impl<N: Number> Entry<Data> for NumberFile<N> {
    const NAME: &'static CStr = N::NAME;
    const MODE: u16 = 0o644;

    fn show(sweeper: &Data, out: &mut dyn fmt::Write) -> Result {
        writeln!(out, "{}", N::of(&mut sweeper.tunables()))?;
        Ok(())
    }

    fn store(sweeper: &Data, text: &BStr) -> Result {
        let number = number(text, N::MAX)?;
        sweeper.tune(|tunables| *N::of(tunables) = number);
        Ok(())
    }
}

struct Age;

impl Number for Age {
    const NAME: &'static CStr = c"page_hint_age";

    fn of(tunables: &mut Tunables) -> &mut u32 {
        &mut tunables.age
    }
}

struct Rate;

impl Number for Rate {
    const NAME: &'static CStr = c"page_hint_rate";

    fn of(tunables: &mut Tunables) -> &mut u32 {
        &mut tunables.rate
    }
}

struct Share;

impl Number for Share {
    const NAME: &'static CStr = c"page_hint_share";
    const MAX: u32 = 100;

    fn of(tunables: &mut Tunables) -> &mut u32 {
        &mut tunables.share
    }
}
