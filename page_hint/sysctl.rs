// SPDX-License-Identifier: GPL-2.0

//! The files of the volatile page cache below `/proc/sys/vm`.
//!
//! | File                 | What                                                           |
//! |----------------------|----------------------------------------------------------------|
//! | `page_hint_volatile` | 1: make page cache volatile that no process has mapped; 0: not |
//! | `page_hint_mapped`   | 1: make page cache volatile that processes have mapped; 0: not |
//! | `page_hint_age`      | milliseconds that a folio must not have been used              |
//! | `page_hint_rate`     | pages that become volatile in a second, at most; 0: any number |
//! | `page_hint_share`    | percent of the page cache that may be volatile                 |
//! | `page_hint_lost`     | what the disk may be asked for again, see [`Tunables::lost`]   |
//!
//! With both of the first two at 0 all page cache becomes stable. Writing one begins a sweep at
//! once. A text that is not understood in full gets `EINVAL` and changes nothing.

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
    policy::{
        Class,
        Tunables, //
    },
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
            File::of::<SwitchFile<Unmapped>>(),
            File::of::<SwitchFile<Mapped>>(),
            File::of::<NumberFile<Age>>(),
            File::of::<NumberFile<Rate>>(),
            File::of::<NumberFile<Share>>(),
            File::of::<NumberFile<Lost>>(),
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

/// A class that can be switched on.
trait Switch {
    const NAME: &'static CStr;
    const CLASS: Class;
}

/// The file of a class.
struct SwitchFile<S>(PhantomData<S>);

impl<S: Switch> Entry<Data> for SwitchFile<S> {
    const NAME: &'static CStr = S::NAME;
    const MODE: u16 = 0o644;

    fn show(sweeper: &Data, out: &mut dyn fmt::Write) -> Result {
        let on = sweeper.tunables().volatile[S::CLASS];
        writeln!(out, "{}", u32::from(on))?;
        Ok(())
    }

    fn store(sweeper: &Data, text: &BStr) -> Result {
        let on = number(text, 1)? == 1;
        if on {
            allowed()?;
        }
        sweeper.switch(S::CLASS, on);
        Ok(())
    }
}

struct Unmapped;

impl Switch for Unmapped {
    const NAME: &'static CStr = c"page_hint_volatile";
    const CLASS: Class = Class::Unmapped;
}

struct Mapped;

impl Switch for Mapped {
    const NAME: &'static CStr = c"page_hint_mapped";
    const CLASS: Class = Class::Mapped;
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

struct Lost;

impl Number for Lost {
    const NAME: &'static CStr = c"page_hint_lost";

    fn of(tunables: &mut Tunables) -> &mut u32 {
        &mut tunables.lost
    }
}
