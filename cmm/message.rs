// SPDX-License-Identifier: GPL-2.0

//! The grammar of special messages.
//!
//! ```text
//! CMM SHRINK pages
//! CMM RELEASE pages
//! CMM REUSE pages seconds
//! ```
//!
//! Words are separated by blanks and tabs. Numbers are written as in C: decimal, octal with a
//! leading `0`, or hexadecimal with a leading `0x`. A message is taken as a whole or not at all.
//!
//! Origin: `cmm_smsg_target()` in [`arch/s390/mm/cmm.c`](srctree/arch/s390/mm/cmm.c), which stops
//! reading where it no longer understands and lets numbers overflow.

// Without SMSG nobody reads messages, and nobody asks who may send them.
#![cfg_attr(not(CONFIG_COOPMEM_CMM_IUCV), allow(dead_code))]

use kernel::{
    fmt,
    prelude::*,
    str::BStr, //
};

use crate::ledger::Request;

/// The first word of each message for this driver.
pub(crate) const PREFIX: &CStr = c"CMM";

/// Why a message, or a text written to a sysctl, is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It comes from a user ID that may not give orders.
    Sender,
    /// The word after the prefix is none of the commands.
    Command,
    /// Where a number is expected there is none.
    Number,
    /// A number, or what it would add up to, is too large.
    Overflow,
    /// There is more text than the command takes.
    Trailing,
}

impl Refusal {
    /// All reasons there are.
    pub(crate) const ALL: [Refusal; Self::COUNT] = [
        Refusal::Sender,
        Refusal::Command,
        Refusal::Number,
        Refusal::Overflow,
        Refusal::Trailing,
    ];

    /// How many reasons there are.
    pub(crate) const COUNT: usize = 5;

    /// The place of this reason in [`Refusal::ALL`].
    pub(crate) fn index(self) -> usize {
        self as usize
    }

    /// The name of the file that shows how many messages were refused for this reason.
    pub(crate) fn counter_name(self) -> &'static CStr {
        match self {
            Refusal::Sender => c"refused_sender",
            Refusal::Command => c"refused_command",
            Refusal::Number => c"refused_number",
            Refusal::Overflow => c"refused_overflow",
            Refusal::Trailing => c"refused_trailing",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Sender => "not an accepted sender",
            Refusal::Command => "unknown command (allowed: SHRINK, RELEASE, REUSE)",
            Refusal::Number => "a number is missing (decimal, 0 octal or 0x hexadecimal)",
            Refusal::Overflow => "the number is too large",
            Refusal::Trailing => "more text than the command takes",
        })
    }
}

/// What is left to read of a text.
struct Text<'a>(&'a [u8]);

impl<'a> Text<'a> {
    /// Skips blanks and tabs. Returns whether there was one.
    fn skip_blanks(&mut self) -> bool {
        let blanks = self.0.iter().take_while(|c| matches!(c, b' ' | b'\t'));
        let nr = blanks.count();
        self.0 = &self.0[nr..];
        nr != 0
    }

    /// Takes what comes before the next blank or the end.
    fn word(&mut self) -> &'a [u8] {
        let end = self.0.iter().position(|c| matches!(c, b' ' | b'\t'));
        let (word, rest) = self.0.split_at(end.unwrap_or(self.0.len()));
        self.0 = rest;
        word
    }

    /// Takes a number as `simple_strtoul()` with base 0 does, but notices an overflow.
    fn number(&mut self) -> Result<usize, Refusal> {
        let (radix, digits) = match self.0 {
            [b'0', b'x' | b'X', rest @ ..] if rest.first().is_some_and(u8::is_ascii_hexdigit) => {
                (16, rest)
            }
            [b'0', ..] => (8, self.0),
            _ => (10, self.0),
        };
        let mut value = Some(0usize);
        let mut nr = 0;
        while let Some(digit) = digits.get(nr).and_then(|c| char::from(*c).to_digit(radix)) {
            value = value
                .and_then(|v| v.checked_mul(radix as usize))
                .and_then(|v| v.checked_add(digit as usize));
            nr += 1;
        }
        if nr == 0 {
            return Err(Refusal::Number);
        }
        self.0 = &digits[nr..];
        // The sysctls of C keep these numbers in a `long`.
        value
            .filter(|v| isize::try_from(*v).is_ok())
            .ok_or(Refusal::Overflow)
    }

    /// Takes the end, after any number of blanks.
    fn end(&mut self) -> Result<(), Refusal> {
        self.skip_blanks();
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Refusal::Trailing)
        }
    }

    /// Takes a number and what must follow the last one: the end.
    fn last_number(&mut self) -> Result<usize, Refusal> {
        let value = self.number()?;
        self.end()?;
        Ok(value)
    }

    /// Takes two numbers with blanks between them, and the end.
    fn two_numbers(&mut self) -> Result<(usize, usize), Refusal> {
        let first = self.number()?;
        if !self.skip_blanks() {
            return Err(if self.0.is_empty() {
                Refusal::Number
            } else {
                Refusal::Trailing
            });
        }
        Ok((first, self.last_number()?))
    }
}

/// Reads a message, which begins with [`PREFIX`].
pub(crate) fn parse(text: &BStr) -> Result<Request, Refusal> {
    let rest = text
        .strip_prefix(PREFIX.to_bytes())
        .ok_or(Refusal::Command)?;
    let mut text = Text(rest);
    if !text.skip_blanks() {
        return Err(Refusal::Command);
    }
    let command = text.word();
    text.skip_blanks();
    match command {
        b"SHRINK" => Ok(Request::Shrink(text.last_number()?)),
        b"RELEASE" => Ok(Request::Release(text.last_number()?)),
        b"REUSE" => {
            let (pages, seconds) = text.two_numbers()?;
            Ok(Request::Reuse { pages, seconds })
        }
        _ => Err(Refusal::Command),
    }
}

/// Reads what is written to a sysctl that holds one number of pages, without white space around.
pub(crate) fn parse_pages(text: &BStr) -> Result<usize, Refusal> {
    Text(text).last_number()
}

/// Reads what is written to the sysctl that holds a number of pages and one of seconds, without
/// white space around.
pub(crate) fn parse_timeout(text: &BStr) -> Result<Request, Refusal> {
    let (pages, seconds) = Text(text).two_numbers()?;
    Ok(Request::Reuse { pages, seconds })
}

#[cfg(CONFIG_COOPMEM_CMM_KUNIT_TEST)]
#[kunit_tests(cmm_message)]
mod tests {
    use super::*;

    fn check(text: &[u8], expected: Result<Request, Refusal>) {
        let got = parse(BStr::from_bytes(text));
        if got != expected {
            pr_err!(
                "{:?}: {:?}, not {:?}\n",
                BStr::from_bytes(text),
                got,
                expected
            );
        }
        assert!(got == expected);
    }

    #[test]
    fn commands() {
        check(b"CMM SHRINK 20000", Ok(Request::Shrink(20000)));
        check(b"CMM SHRINK 0", Ok(Request::Shrink(0)));
        check(b"CMM RELEASE 7", Ok(Request::Release(7)));
        let reuse = Request::Reuse {
            pages: 100,
            seconds: 60,
        };
        check(b"CMM REUSE 100 60", Ok(reuse));
    }

    #[test]
    fn every_reason_has_its_place() {
        for (index, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal.index(), index);
        }
    }

    #[test]
    fn blanks() {
        check(b"CMM \t SHRINK\t \t5 \t", Ok(Request::Shrink(5)));
        let reuse = Request::Reuse {
            pages: 1,
            seconds: 2,
        };
        check(b"CMM\tREUSE 1\t2 ", Ok(reuse));
        check(b"CMM SHRINK 5\n", Err(Refusal::Trailing));
        check(b"CMMSHRINK 5", Err(Refusal::Command));
        check(b"CMM SHRINK5", Err(Refusal::Command));
    }

    #[test]
    fn numbers() {
        check(b"CMM SHRINK 0x1F", Ok(Request::Shrink(0x1f)));
        check(b"CMM SHRINK 0Xff", Ok(Request::Shrink(0xff)));
        check(b"CMM SHRINK 010", Ok(Request::Shrink(8)));
        check(b"CMM SHRINK 00", Ok(Request::Shrink(0)));
        check(b"CMM SHRINK 08", Err(Refusal::Trailing));
        check(b"CMM SHRINK 0x", Err(Refusal::Trailing));
        check(b"CMM SHRINK 0xg", Err(Refusal::Trailing));
        check(b"CMM SHRINK 12a", Err(Refusal::Trailing));
        check(b"CMM SHRINK -1", Err(Refusal::Number));
        check(b"CMM SHRINK +1", Err(Refusal::Number));
        check(b"CMM SHRINK", Err(Refusal::Number));
        check(b"CMM SHRINK ", Err(Refusal::Number));
        check(b"CMM REUSE 1", Err(Refusal::Number));
        check(b"CMM REUSE 1 ", Err(Refusal::Number));
        check(b"CMM REUSE 1,2", Err(Refusal::Trailing));
    }

    #[test]
    fn overflow() {
        let most = isize::MAX as usize;
        check(b"CMM SHRINK 9223372036854775807", Ok(Request::Shrink(most)));
        check(b"CMM SHRINK 9223372036854775808", Err(Refusal::Overflow));
        check(b"CMM SHRINK 18446744073709551616", Err(Refusal::Overflow));
        check(b"CMM SHRINK 0xfffffffffffffffff", Err(Refusal::Overflow));
        check(b"CMM REUSE 1 99999999999999999999", Err(Refusal::Overflow));
    }

    #[test]
    fn junk() {
        check(b"", Err(Refusal::Command));
        check(b"CMM", Err(Refusal::Command));
        check(b"CMM ", Err(Refusal::Command));
        check(b"cmm shrink 5", Err(Refusal::Command));
        check(b"CMM shrink 5", Err(Refusal::Command));
        check(b"CMM GROW 5", Err(Refusal::Command));
        check(b"CMM SHRINK 5 6", Err(Refusal::Trailing));
        check(b"CMM RELEASE 5 x", Err(Refusal::Trailing));
        check(b"CMM REUSE 1 2 3", Err(Refusal::Trailing));
        check(b"CMM SHRINK \xff\xfe", Err(Refusal::Number));
        check(b"CMM SHRINK 5\0", Err(Refusal::Trailing));
    }

    /// Whatever the bytes are, a message that is taken says what [`Request`] it is.
    #[test]
    fn random_texts() {
        const ALPHABET: &[u8] = b"CM SHRINKELAU0123456789xX\t\0\xff-";
        let mut seed = 1u32;
        for _ in 0..20_000 {
            let mut text = *b"CMM SHRINK                  ";
            for c in text.iter_mut().skip(3) {
                // Numerical Recipes' generator: repeatable, and good enough to pick letters.
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if seed >> 28 < 6 {
                    *c = ALPHABET[(seed >> 8) as usize % ALPHABET.len()];
                }
            }
            if let Ok(Request::Shrink(nr)) = parse(BStr::from_bytes(&text)) {
                let mut again = Text(text.get(10..).unwrap_or_default());
                assert!(again.skip_blanks());
                assert!(again.last_number() == Ok(nr));
            }
        }
    }

    #[test]
    fn sysctl_texts() {
        let pages = |text: &'static [u8]| parse_pages(BStr::from_bytes(text));
        assert!(pages(b"100") == Ok(100));
        assert!(pages(b"0x10") == Ok(16));
        assert!(pages(b"x") == Err(Refusal::Number));
        assert!(pages(b"-1") == Err(Refusal::Number));
        assert!(pages(b"1 2") == Err(Refusal::Trailing));
        assert!(pages(b"1x") == Err(Refusal::Trailing));
        assert!(pages(b"99999999999999999999") == Err(Refusal::Overflow));

        let timeout = |text: &'static [u8]| parse_timeout(BStr::from_bytes(text));
        let reuse = Request::Reuse {
            pages: 100,
            seconds: 60,
        };
        assert!(timeout(b"100 \t60") == Ok(reuse));
        assert!(timeout(b"100") == Err(Refusal::Number));
        assert!(timeout(b"100 60 1") == Err(Refusal::Trailing));
    }
}
