// SPDX-License-Identifier: GPL-2.0

//! The files of the balloon below `/proc/sys/vm`.
//!
//! | File              | Read                             | Write                             |
//! |-------------------|----------------------------------|-----------------------------------|
//! | `cmm_pages`       | pages that the fixed pool holds  | pages that it shall hold          |
//! | `cmm_timed_pages` | pages that the timed pool holds  | pages to add to it                |
//! | `cmm_timeout`     | pages and seconds                | pages that go back, every seconds |
//! | `cmm_floor`       | pages that are left to the guest | the same                          |
//! | `cmm_self`        | when it gives up unasked what it | the same                          |
//! |                   | does not need: 0 never, 1 while  |                                   |
//! |                   | the hypervisor pages, 2 always   |                                   |
//!
//! A text that is not understood in full gets `EINVAL` and changes nothing.

use kernel::{
    fmt,
    prelude::*,
    str::BStr,
    sync::Arc,
    sysctl::{
        Entry,
        File,
        Registration, //
    }, //
};

use crate::{
    balloon::Engine,
    ledger::{
        Pool,
        Request,
        Unasked, //
    },
    message::{
        parse_pages,
        parse_timeout,
        Refusal, //
    }, //
};

/// What all files work on.
type Data = Arc<Engine>;

/// The files. Dropping it removes them.
pub(crate) type Files = Registration<Data>;

/// Makes the files.
pub(crate) fn files(engine: Data) -> Result<Files> {
    Registration::new(
        c"vm",
        engine,
        &[
            File::of::<Pages>(),
            File::of::<TimedPages>(),
            File::of::<Timeout>(),
            File::of::<Floor>(),
            File::of::<Own>(),
        ],
    )
}

impl From<Refusal> for Error {
    fn from(_: Refusal) -> Self {
        EINVAL
    }
}

struct Pages;

impl Entry<Data> for Pages {
    const NAME: &'static CStr = c"cmm_pages";
    const MODE: u16 = 0o644;

    fn show(engine: &Data, out: &mut dyn fmt::Write) -> Result {
        writeln!(out, "{}", engine.account(Pool::Fixed).held)?;
        Ok(())
    }

    fn store(engine: &Data, text: &BStr) -> Result {
        Ok(engine.request(Request::Shrink(parse_pages(text)?))?)
    }
}

struct TimedPages;

impl Entry<Data> for TimedPages {
    const NAME: &'static CStr = c"cmm_timed_pages";
    const MODE: u16 = 0o644;

    fn show(engine: &Data, out: &mut dyn fmt::Write) -> Result {
        writeln!(out, "{}", engine.account(Pool::Timed).held)?;
        Ok(())
    }

    fn store(engine: &Data, text: &BStr) -> Result {
        Ok(engine.request(Request::Release(parse_pages(text)?))?)
    }
}

struct Timeout;

impl Entry<Data> for Timeout {
    const NAME: &'static CStr = c"cmm_timeout";
    const MODE: u16 = 0o644;

    fn show(engine: &Data, out: &mut dyn fmt::Write) -> Result {
        let (pages, seconds) = engine.timeout();
        writeln!(out, "{pages} {seconds}")?;
        Ok(())
    }

    fn store(engine: &Data, text: &BStr) -> Result {
        Ok(engine.request(parse_timeout(text)?)?)
    }
}

struct Floor;

impl Entry<Data> for Floor {
    const NAME: &'static CStr = c"cmm_floor";
    const MODE: u16 = 0o644;

    fn show(engine: &Data, out: &mut dyn fmt::Write) -> Result {
        writeln!(out, "{}", engine.floor())?;
        Ok(())
    }

    fn store(engine: &Data, text: &BStr) -> Result {
        engine.set_floor(parse_pages(text)?);
        Ok(())
    }
}

struct Own;

impl Entry<Data> for Own {
    const NAME: &'static CStr = c"cmm_self";
    const MODE: u16 = 0o644;

    fn show(engine: &Data, out: &mut dyn fmt::Write) -> Result {
        let unasked = match engine.unasked() {
            Unasked::Never => 0,
            Unasked::WhenShort => 1,
            Unasked::Always => 2,
        };
        writeln!(out, "{unasked}")?;
        Ok(())
    }

    fn store(engine: &Data, text: &BStr) -> Result {
        let unasked = match parse_pages(text)? {
            0 => Unasked::Never,
            1 => Unasked::WhenShort,
            2 => Unasked::Always,
            _ => return Err(EINVAL),
        };
        engine.set_unasked(unasked);
        Ok(())
    }
}
