// SPDX-License-Identifier: GPL-2.0

//! The user IDs that may give orders.

// Without SMSG nobody reads messages, and nobody asks who may send them.
#![cfg_attr(not(CONFIG_COOPMEM_CMM_IUCV), allow(dead_code))]

use kernel::{
    fmt,
    prelude::*,
    str::BStr, //
};

/// The user ID of a virtual machine: one to eight characters, upper-case.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct UserId {
    /// The characters, padded with blanks.
    name: [u8; UserId::MAX_LEN],
}

impl UserId {
    const MAX_LEN: usize = 8;

    /// Whether CP allows the (upper-case) character in a user ID.
    fn allows(c: u8) -> bool {
        c.is_ascii_uppercase() || c.is_ascii_digit() || b"@#$_-+:".contains(&c)
    }

    /// Makes a user ID of a name in any case.
    fn new(text: &[u8]) -> Option<Self> {
        if text.is_empty() || text.len() > Self::MAX_LEN {
            return None;
        }
        let mut name = [b' '; Self::MAX_LEN];
        for (to, from) in name.iter_mut().zip(text) {
            *to = from.to_ascii_uppercase();
            if !Self::allows(*to) {
                return None;
            }
        }
        Some(Self { name })
    }

    /// Whether this is the sender of a message, as the SMSG support gives it: upper-case,
    /// without padding.
    fn is(&self, from: &[u8]) -> bool {
        self.name.trim_ascii_end() == from
    }
}

/// A name in a list of senders that is no user ID.
#[derive(Debug)]
pub(crate) struct BadUserId<'a>(&'a BStr);

impl fmt::Display for BadUserId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_fmt(fmt!(
            "{:?} is not a user ID (1 to 8 of A-Z 0-9 @ # $ _ - + :)",
            self.0
        ))
    }
}

/// Who may give orders.
pub(crate) enum Senders {
    /// Everybody.
    Anyone,
    /// Those in the list.
    Only(KVec<UserId>),
}

/// Why there is no list of senders.
#[derive(Debug)]
pub(crate) enum SendersError<'a> {
    /// A name is not a user ID.
    Name(BadUserId<'a>),
    /// There is no memory for the list.
    NoMemory,
}

impl Senders {
    /// Reads a list that is separated by commas. The empty list means anyone.
    pub(crate) fn new(list: &BStr) -> Result<Self, SendersError<'_>> {
        if list.is_empty() {
            return Ok(Senders::Anyone);
        }
        let mut ids = KVec::new();
        for name in list.split(|c| *c == b',') {
            let id = UserId::new(name)
                .ok_or_else(|| SendersError::Name(BadUserId(BStr::from_bytes(name))))?;
            ids.push(id, GFP_KERNEL)
                .map_err(|_| SendersError::NoMemory)?;
        }
        Ok(Senders::Only(ids))
    }

    /// Whether `from` may give orders.
    pub(crate) fn allow(&self, from: &BStr) -> bool {
        match self {
            Senders::Anyone => true,
            Senders::Only(ids) => ids.iter().any(|id| id.is(from)),
        }
    }
}

#[cfg(CONFIG_COOPMEM_CMM_KUNIT_TEST)]
#[kunit_tests(cmm_sender)]
mod tests {
    use super::*;

    fn senders(list: &'static [u8]) -> Result<Senders, SendersError<'static>> {
        Senders::new(BStr::from_bytes(list))
    }

    fn allows(list: &'static [u8], from: &'static [u8]) -> bool {
        senders(list).is_ok_and(|senders| senders.allow(BStr::from_bytes(from)))
    }

    #[test]
    fn one_name() {
        assert!(allows(b"VMRMSVM", b"VMRMSVM"));
        assert!(allows(b"vmrmsvm", b"VMRMSVM"));
        assert!(!allows(b"VMRMSVM", b"VMRMSV"));
        assert!(!allows(b"VMRMSVM", b"VMRMSVM1"));
        assert!(!allows(b"VMRMSVM", b""));
    }

    #[test]
    fn list_of_names() {
        assert!(allows(b"VMRMSVM,operator,a", b"OPERATOR"));
        assert!(allows(b"VMRMSVM,operator,a", b"A"));
        assert!(!allows(b"VMRMSVM,operator,a", b"MAINT"));
    }

    #[test]
    fn empty_is_anyone() {
        assert!(allows(b"", b"WHOEVER"));
    }

    #[test]
    fn bad_names() {
        let bad: [&'static [u8]; 6] = [b"TOOLONGID", b"A,", b",A", b"A,,B", b"A B", b"A*"];
        for list in bad {
            assert!(matches!(senders(list), Err(SendersError::Name(_))));
        }
        assert!(senders(b"EIGHTCHR,@#$_-+:9").is_ok());
    }
}
