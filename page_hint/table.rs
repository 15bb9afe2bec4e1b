// SPDX-License-Identifier: GPL-2.0

//! The states of all pages: `/sys/kernel/debug/page_hint/states`.
//!
//! The layout is that of the mails on guest page hinting of 2009. The hypervisor can show the same
//! table of its guest.

use kernel::{
    debugfs::ScopedDir,
    fmt,
    mm::OnlineMemory,
    prelude::*,
    s390::essa::{
        Content,
        Essa,
        State,
        Usage, //
    },
    task::cond_resched, //
};

/// So many frames are asked for their states before others may run.
const STRIDE: usize = 4096;

/// Makes the file.
pub(crate) fn file<'data>(essa: &'data Essa, dir: &ScopedDir<'data, '_>) {
    dir.read_callback_file(c"states", essa, &|essa, f| {
        fmt::Display::fmt(&scan(*essa), f)
    });
}

/// Asks for the states of all frames that are online.
fn scan(essa: Essa) -> Tally {
    let mut tally = Tally::default();
    for (nr, frame) in OnlineMemory::lock().frames().enumerate() {
        tally.count(essa.state(frame));
        if nr % STRIDE == 0 {
            cond_resched();
        }
    }
    tally
}

/// The rows, and what the guest uses the frames for that they count.
const ROWS: [(&str, Usage); 4] = [
    ("S", Usage::Stable),
    ("U", Usage::Unused),
    ("P", Usage::PotentiallyVolatile),
    ("V", Usage::Volatile),
];

/// The contents that have a column each, behind that of all frames: r, p and z.
const COLUMNS: [Content; 3] = [Content::Resident, Content::Preserved, Content::Zero];

/// How many frames are in each state: by usage, then by content.
#[derive(Default)]
struct Tally([[usize; COLUMNS.len()]; ROWS.len()]);

impl Tally {
    fn count(&mut self, state: State) {
        self.0[state.usage() as usize][state.content() as usize] += 1;
    }

    fn row(f: &mut fmt::Formatter<'_>, name: &str, counts: [usize; COLUMNS.len()]) -> fmt::Result {
        let [r, p, z] = counts;
        let tot = r + p + z;
        f.write_fmt(fmt!("{name:<3} {tot:>10} {r:>10} {p:>10} {z:>10}\n"))
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let column = |content| self.0.iter().map(|row| row[content as usize]).sum();

        f.write_fmt(fmt!(
            "{:<3} {:>10} {:>10} {:>10} {:>10}\n",
            "",
            "tot",
            "r",
            "p",
            "z"
        ))?;
        for (name, usage) in ROWS {
            Self::row(f, name, self.0[usage as usize])?;
        }
        Self::row(f, "tot", COLUMNS.map(column))
    }
}

#[cfg(CONFIG_COOPMEM_PAGE_HINT_KUNIT_TEST)]
#[kernel::prelude::kunit_tests(page_hint_table)]
mod tests {
    use super::*;
    use kernel::str::CString;

    fn text(bytes: &[u8]) -> Result<CString> {
        let mut tally = Tally::default();
        for &byte in bytes {
            tally.count(State::from_raw(byte));
        }
        CString::try_from_fmt(fmt!("{tally}"))
    }

    #[test]
    fn nothing_is_all_zeros() -> Result {
        let expected = c"           tot          r          p          z
S            0          0          0          0
U            0          0          0          0
P            0          0          0          0
V            0          0          0          0
tot          0          0          0          0
";
        assert_eq!(&*text(&[])?, expected);
        Ok(())
    }

    /// Each state is counted in its place, whatever other bits say, and the sums are right.
    #[test]
    fn each_state_has_its_place() -> Result {
        let mut bytes = KVec::new();
        for (nr, byte) in [
            0x00, 0x02, 0x03, 0x04, 0x06, 0x27, 0x08, 0x0a, 0x0b, 0x0c, 0x2e, 0x0f,
        ]
        .into_iter()
        .enumerate()
        {
            for _ in 0..=nr {
                bytes.push(byte, GFP_KERNEL)?;
            }
        }
        let expected = c"           tot          r          p          z
S            6          1          2          3
U           15          4          5          6
P           24          7          8          9
V           33         10         11         12
tot         78         22         26         30
";
        assert_eq!(&*text(&bytes)?, expected);
        Ok(())
    }
}
