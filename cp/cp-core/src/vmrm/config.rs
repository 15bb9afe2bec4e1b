// SPDX-License-Identifier: GPL-2.0

//! VMRM's configuration file.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

use crate::size::{self, SizeError};
use crate::user_id::{UserId, UserIdError};

const SECONDS: RangeInclusive<u64> = 1..=3600;
const PERCENT: RangeInclusive<u64> = 0..=100;

/// What VMRM is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Who hears of each decision.
    pub msg_user: Option<UserId>,
    /// Who may be told to release pages.
    pub notify: Vec<Pattern>,
    /// The time from one decision to the next.
    pub interval: Duration,
    /// Below this part of all frames, in percent, available ones are short.
    pub low_percent: u64,
    /// The part of all frames, in percent, that shall be available.
    pub high_percent: u64,
    /// How many pages are left to which guests; the last one that matches counts.
    floors: Vec<(Pattern, u64)>,
}

impl Default for Config {
    /// Nobody is told anything.
    fn default() -> Self {
        Self {
            msg_user: None,
            notify: Vec::new(),
            interval: Duration::from_secs(10),
            low_percent: 2,
            high_percent: 4,
            floors: vec![(Pattern(String::from("*")), (64 << 20) / 4096)],
        }
    }
}

/// A user ID, or the beginning of user IDs and `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

/// Why a text is no configuration; nothing of it is in effect.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {problem}")]
pub struct ConfigError {
    /// The first line that is wrong, from 1 on.
    pub line: usize,
    /// What is wrong with it.
    #[source]
    pub problem: Problem,
}

/// What is wrong with a line, and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Problem {
    /// Another statement, or one of VMRM's that is not about memory.
    #[error(
        "{0} is no statement: ADMIN MSGUSER, NOTIFY MEMORY, MEMORY INTERVAL, MEMORY FLOOR, MEMORY AVAILABLE, and \
         comments, which begin with *, are allowed"
    )]
    Statement(String),
    /// The statement should go on.
    #[error("the statement ends too early: it needs {0}")]
    Missing(&'static str),
    /// The statement should have ended.
    #[error("{0} is too much: the statement ends before it")]
    Extra(String),
    /// A statement that there may be only once.
    #[error("{0} is in the file already: it may be there only once")]
    Repeated(&'static str),
    /// Not a user ID.
    #[error(transparent)]
    UserId(#[from] UserIdError),
    /// Not a user ID, nor the beginning of one and `*`.
    #[error("{0}; * may be the last character")]
    Pattern(#[source] UserIdError),
    /// Not a size.
    #[error("{0} is no size: {1}")]
    Size(String, #[source] SizeError),
    /// Not a number, or one that is too small or too large.
    #[error("{found} is no number of {unit}: {} to {} are allowed", allowed.start(), allowed.end())]
    Number {
        /// What was there.
        found: String,
        /// What is counted.
        unit: &'static str,
        /// What may be there.
        allowed: RangeInclusive<u64>,
    },
    /// Constraint would begin and end in the same place.
    #[error(
        "{low} and {high} percent are in the wrong order: the first must be less than the second"
    )]
    Order {
        /// The first.
        low: u64,
        /// The second.
        high: u64,
    },
}

impl Config {
    /// Reads the statements of a file; each is a line of its own, in upper or lower case.
    ///
    /// Stops at the first line that is wrong.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let mut draft = Draft::default();
        for (line, statement) in (1..).zip(text.lines()) {
            draft
                .statement(&statement.to_ascii_uppercase())
                .map_err(|problem| ConfigError { line, problem })?;
        }
        Ok(draft.config)
    }

    /// Whether a guest may be told to release pages.
    #[must_use]
    pub fn notifies(&self, user: UserId) -> bool {
        self.notify.iter().any(|pattern| pattern.matches(user))
    }

    /// How many pages are left to a guest.
    #[must_use]
    pub fn floor(&self, user: UserId) -> u64 {
        let mut floors = self.floors.iter().rev();
        floors
            .find(|(pattern, _)| pattern.matches(user))
            .map_or(0, |&(_, pages)| pages)
    }
}

impl Pattern {
    /// Whether this means the user.
    #[must_use]
    pub fn matches(&self, user: UserId) -> bool {
        match self.0.strip_suffix('*') {
            Some(beginning) => user.to_string().starts_with(beginning),
            None => user.to_string() == self.0,
        }
    }
}

impl FromStr for Pattern {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        if text != "*" {
            UserId::new(text.strip_suffix('*').unwrap_or(text)).map_err(Problem::Pattern)?;
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A configuration in the making.
#[derive(Default)]
struct Draft {
    config: Config,
    /// The statements that may be there only once.
    seen: Vec<&'static str>,
}

impl Draft {
    fn statement(&mut self, line: &str) -> Result<(), Problem> {
        let mut words = line.split_whitespace();
        let config = &mut self.config;
        match (words.next(), words.next()) {
            (None, _) => {}
            (Some(word), _) if word.starts_with('*') => {}
            (Some("ADMIN"), Some("MSGUSER")) => {
                once(&mut self.seen, "ADMIN MSGUSER")?;
                config.msg_user = Some(UserId::new(needed(&mut words, "a user ID")?)?);
                return end(words);
            }
            (Some("NOTIFY"), Some("MEMORY")) => {
                config.notify.push(needed(&mut words, "user IDs")?.parse()?);
                for word in words {
                    config.notify.push(word.parse()?);
                }
            }
            (Some("MEMORY"), Some("INTERVAL")) => {
                once(&mut self.seen, "MEMORY INTERVAL")?;
                config.interval = Duration::from_secs(number(&mut words, "seconds", SECONDS)?);
                return end(words);
            }
            (Some("MEMORY"), Some("AVAILABLE")) => {
                once(&mut self.seen, "MEMORY AVAILABLE")?;
                let low = number(&mut words, "percent", PERCENT)?;
                let high = number(&mut words, "percent", PERCENT)?;
                if low >= high {
                    return Err(Problem::Order { low, high });
                }
                (config.low_percent, config.high_percent) = (low, high);
                return end(words);
            }
            (Some("MEMORY"), Some("FLOOR")) => {
                let size = needed(&mut words, "a size such as 64M")?;
                let pages = size::pages(size).map_err(|error| Problem::Size(size.into(), error))?;
                for word in [words.next().unwrap_or("*")].into_iter().chain(words) {
                    config.floors.push((word.parse()?, pages));
                }
            }
            (Some(first), second) => {
                let words = [Some(first), second].into_iter().flatten();
                return Err(Problem::Statement(words.collect::<Vec<_>>().join(" ")));
            }
        }
        Ok(())
    }
}

fn once(seen: &mut Vec<&'static str>, statement: &'static str) -> Result<(), Problem> {
    if seen.contains(&statement) {
        return Err(Problem::Repeated(statement));
    }
    seen.push(statement);
    Ok(())
}

fn needed<'a>(
    words: &mut impl Iterator<Item = &'a str>,
    what: &'static str,
) -> Result<&'a str, Problem> {
    words.next().ok_or(Problem::Missing(what))
}

fn number<'a>(
    words: &mut impl Iterator<Item = &'a str>,
    unit: &'static str,
    allowed: RangeInclusive<u64>,
) -> Result<u64, Problem> {
    let found = needed(words, unit)?;
    found
        .parse()
        .ok()
        .filter(|number| allowed.contains(number))
        .ok_or_else(|| Problem::Number {
            found: found.into(),
            unit,
            allowed,
        })
}

fn end<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<(), Problem> {
    words
        .next()
        .map_or(Ok(()), |word| Err(Problem::Extra(word.into())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn user(id: &str) -> UserId {
        UserId::new(id).unwrap()
    }

    #[test]
    fn statements_are_read() {
        let text = "\
* Who is managed, and who hears of it

Admin MsgUser operator
NOTIFY MEMORY LINUX* db01
  notify memory WEB1
MEMORY INTERVAL 60
MEMORY FLOOR 128M
MEMORY FLOOR 256M DB* WEB1
MEMORY AVAILABLE 5 10
";
        let config = Config::parse(text).unwrap();
        assert_eq!(config.msg_user, Some(user("OPERATOR")));
        assert_eq!(config.interval, Duration::from_secs(60));
        assert_eq!((config.low_percent, config.high_percent), (5, 10));
        for (id, notified, floor) in [
            ("LINUX", true, 128),
            ("LINUX07", true, 128),
            ("LINU", false, 128),
            ("DB01", true, 256),
            ("DB010", false, 256),
            ("WEB1", true, 256),
        ] {
            assert_eq!(config.notifies(user(id)), notified, "{id}");
            assert_eq!(config.floor(user(id)), floor << 8, "{id}");
        }
    }

    #[test]
    fn nobody_is_told_anything_unless_the_file_says_so() {
        assert_eq!(Config::parse(""), Ok(Config::default()));
        assert!(!Config::default().notifies(user("LINUX01")));
        let all = Config::parse("NOTIFY MEMORY *").unwrap();
        assert!(all.notifies(user("LINUX01")));
        assert_eq!(all.floor(user("LINUX01")), 64 << 8);
    }

    #[test]
    fn a_wrong_line_is_named_with_what_is_allowed() {
        for (statement, complaint) in [
            ("GOAL G1", "GOAL G1 is no statement: ADMIN MSGUSER, "),
            ("ADMIN", "ADMIN is no statement: "),
            ("ADMIN MSGUSER", "it needs a user ID"),
            ("ADMIN MSGUSER A B", "B is too much"),
            ("ADMIN MSGUSER ABCDEFGHI", "at most 8 are allowed"),
            ("NOTIFY MEMORY", "it needs user IDs"),
            (
                "NOTIFY MEMORY L*X",
                "A-Z 0-9 @ # $ _ - :; * may be the last",
            ),
            ("MEMORY INTERVAL 0", "0 is no number of seconds: 1 to 3600"),
            ("MEMORY INTERVAL x", "X is no number of seconds"),
            ("MEMORY INTERVAL 5 S", "S is too much"),
            ("MEMORY AVAILABLE 2", "it needs percent"),
            (
                "MEMORY AVAILABLE 2 101",
                "101 is no number of percent: 0 to 100",
            ),
            ("MEMORY AVAILABLE 4 4", "the first must be less"),
            (
                "MEMORY FLOOR 64",
                "64 is no size: a size is a number and K, M or G",
            ),
            ("MEMORY FLOOR 64M L*X", "* may be the last"),
        ] {
            let error = Config::parse(&format!("* first\n\n{statement}\nWRONG")).unwrap_err();
            let text = error.to_string();
            assert!(
                text.starts_with("line 3: ") && text.contains(complaint),
                "{statement}: {text}"
            );
        }
        for once in [
            "ADMIN MSGUSER A",
            "MEMORY INTERVAL 5",
            "MEMORY AVAILABLE 1 2",
        ] {
            let error = Config::parse(&format!("{once}\n{once}")).unwrap_err();
            assert!(error.to_string().ends_with("only once"), "{error}");
        }
    }

    /// Lines that are nearly right, so that all of the parser is reached.
    fn line() -> impl Strategy<Value = String> {
        let word = prop_oneof![
            4 => prop::sample::select(vec![
                "ADMIN", "MSGUSER", "notify", "Memory", "INTERVAL", "FLOOR", "AVAILABLE", "LINUX*", "*", "64M", "1", "60",
            ]).prop_map(String::from),
            1 => "\\PC{0,9}",
        ];
        prop::collection::vec(word, 0..5).prop_map(|words| words.join(" "))
    }

    proptest! {
        #[test]
        fn any_text_is_a_configuration_or_has_a_wrong_line(
            text in prop_oneof![any::<String>(), prop::collection::vec(line(), 0..8).prop_map(|lines| lines.join("\n"))]
        ) {
            match Config::parse(&text) {
                Ok(config) => {
                    prop_assert!(config.low_percent < config.high_percent);
                    prop_assert!(!config.interval.is_zero());
                }
                Err(error) => {
                    let first = |lines| text.lines().take(lines).collect::<Vec<_>>().join("\n");
                    prop_assert!(Config::parse(&first(error.line - 1)).is_ok());
                    prop_assert_eq!(Config::parse(&first(error.line)), Err(error));
                }
            }
        }
    }
}
