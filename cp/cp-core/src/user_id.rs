// SPDX-License-Identifier: GPL-2.0

//! User IDs: the names of virtual machines and of their users.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ebcdic;

/// The length of a user ID field in CP's control blocks, in bytes.
pub const USER_ID_LENGTH: usize = 8;

/// A user ID: 1 to 8 of `A-Z 0-9 @ # $ _ - :`, held in EBCDIC, padded with blanks.
///
/// CP compares user IDs as these 8 bytes; no lower-case ID exists. `:` and `-` are allowed since CP allows them
/// in its directory, `*` is not: names that begin with it are CP's own services (`*MSG`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserId([u8; USER_ID_LENGTH]);

/// Why a text is no user ID.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UserIdError {
    /// Nothing but blanks.
    #[error("a user ID is empty: it needs 1 to {USER_ID_LENGTH} characters")]
    Empty,
    /// More than 8 characters.
    #[error("user ID {0:?} has {1} characters: at most {USER_ID_LENGTH} are allowed")]
    TooLong(String, usize),
    /// A lower-case letter.
    #[error("user ID {0:?} has lower-case letters: user IDs are upper-case")]
    LowerCase(String),
    /// Any other character.
    #[error("user ID {0:?} has the character {1:?}: allowed are A-Z 0-9 @ # $ _ - :")]
    BadCharacter(String, char),
}

impl UserId {
    /// Checks a text and takes it as a user ID. Blanks around it are not allowed.
    pub fn new(text: &str) -> Result<Self, UserIdError> {
        let length = text.chars().count();
        if length == 0 {
            return Err(UserIdError::Empty);
        }
        if length > USER_ID_LENGTH {
            return Err(UserIdError::TooLong(text.into(), length));
        }
        match text.chars().find(|&c| !is_allowed(c)) {
            None => Ok(Self(ebcdic::padded(text))),
            Some(c) if c.is_lowercase() => Err(UserIdError::LowerCase(text.into())),
            Some(c) => Err(UserIdError::BadCharacter(text.into(), c)),
        }
    }

    /// Checks an EBCDIC field, padded with blanks on the right, and takes it as a user ID.
    pub fn from_ebcdic(field: [u8; USER_ID_LENGTH]) -> Result<Self, UserIdError> {
        Self::new(ebcdic::to_string(&field).trim_end_matches(' '))
    }

    /// The user ID in EBCDIC, padded with blanks.
    #[must_use]
    pub const fn as_ebcdic(&self) -> [u8; USER_ID_LENGTH] {
        self.0
    }
}

fn is_allowed(c: char) -> bool {
    c.is_ascii_uppercase() || c.is_ascii_digit() || "@#$_-:".contains(c)
}

impl FromStr for UserId {
    type Err = UserIdError;

    fn from_str(text: &str) -> Result<Self, UserIdError> {
        Self::new(text)
    }
}

impl TryFrom<String> for UserId {
    type Error = UserIdError;

    fn try_from(text: String) -> Result<Self, UserIdError> {
        Self::new(&text)
    }
}

impl From<UserId> for String {
    fn from(id: UserId) -> String {
        id.to_string()
    }
}

impl fmt::Display for UserId {
    /// Without the blanks; a width pads as usual (`{:8}`).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(ebcdic::to_string(&self.0).trim_end())
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn accepts_what_cp_accepts() {
        for text in ["A", "LINUX01", "VMRMSVM", "TCPIP", "$SERVER$", "12345678"] {
            assert_eq!(UserId::new(text).unwrap().to_string(), text);
        }
        assert_eq!(
            format!("{:8}|", UserId::new("LINUX01").unwrap()),
            "LINUX01 |"
        );
    }

    #[test]
    fn says_what_is_wrong() {
        assert_eq!(UserId::new(""), Err(UserIdError::Empty));
        assert_eq!(
            UserId::new("LINUX0001"),
            Err(UserIdError::TooLong("LINUX0001".into(), 9))
        );
        assert_eq!(
            UserId::new("linux01"),
            Err(UserIdError::LowerCase("linux01".into()))
        );
        assert_eq!(
            UserId::new("*MSG"),
            Err(UserIdError::BadCharacter("*MSG".into(), '*'))
        );
        assert_eq!(
            UserId::new("A B"),
            Err(UserIdError::BadCharacter("A B".into(), ' '))
        );
    }

    #[test]
    fn reads_fields() {
        let id = UserId::new("LINUX01").unwrap();
        assert_eq!(
            UserId::from_ebcdic(*b"\xd3\xc9\xd5\xe4\xe7\xf0\xf1\x40"),
            Ok(id)
        );
        assert_eq!(UserId::from_ebcdic([0x40; 8]), Err(UserIdError::Empty));
    }

    proptest! {
        #[test]
        fn never_panics_and_round_trips(field: [u8; 8], text: String) {
            if let Ok(id) = UserId::from_ebcdic(field) {
                prop_assert_eq!(id.as_ebcdic(), field);
            }
            if let Ok(id) = UserId::new(&text) {
                prop_assert_eq!(id.to_string(), text);
                prop_assert_eq!(UserId::from_ebcdic(id.as_ebcdic()), Ok(id));
            }
        }
    }
}
