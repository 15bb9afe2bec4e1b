// SPDX-License-Identifier: GPL-2.0

//! The commands about the pages of a guest.

use std::thread;
use std::time::{Duration, Instant};

use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, ValueEnum};
use cp_core::UserId;
use cp_core::page_state::{Content, StateTable, Usage};
use cp_core::size::{self, SizeError};
use cp_proto::{Connection, ProtoError, Reply, Request, Selection, Taken};
use serde_json::{Map, Value, json};

use crate::{Error, Output};

/// One of them.
#[derive(Debug, Parser, PartialEq, Eq)]
#[command(bin_name = "cpctl", multicall = true)]
pub enum Command {
    States(States),
    Reclaim(Reclaim),
    Torment(Torment),
}

impl Command {
    /// Parses a command line, the verb in either case.
    pub fn new(words: &[String]) -> Result<Self, clap::Error> {
        Self::try_parse_from(lower_verb(words))
    }

    pub fn run(&self, connection: &mut Connection) -> Result<Output, Error> {
        match self {
            Self::States(states) => states.run(connection),
            Self::Reclaim(reclaim) => reclaim.run(connection),
            Self::Torment(torment) => torment.run(connection),
        }
    }
}

/// The words of a command line, the verb in lower case.
pub fn lower_verb(words: &[String]) -> impl Iterator<Item = String> {
    words.iter().enumerate().map(|(place, word)| match place {
        0 => word.to_lowercase(),
        _ => word.clone(),
    })
}

/// How many pages are in which state, as the host sees it
#[derive(Debug, Args, PartialEq, Eq)]
pub struct States {
    /// Whose
    #[arg(value_parser = user_id)]
    user_id: UserId,
}

/// Takes pages of a guest, unused ones before volatile ones
#[derive(Debug, Args, PartialEq, Eq)]
pub struct Reclaim {
    /// Whose
    #[arg(value_parser = user_id)]
    user_id: UserId,

    /// The most to take: a number and K, M or G, or `all`
    #[arg(value_parser = pages)]
    size: u64,

    /// Only unused or only volatile pages
    #[arg(long)]
    only: Option<Only>,

    /// Pages at random, instead of from the lowest address on
    #[arg(long)]
    random: bool,
}

/// Takes all unused pages and a random share of the volatile ones, over and over
#[derive(Debug, Args, PartialEq, Eq)]
pub struct Torment {
    /// Whose
    #[arg(value_parser = user_id)]
    user_id: UserId,

    /// For how long
    #[arg(long)]
    seconds: u32,

    /// The share of the volatile pages that is discarded each time, in thousandths
    #[arg(long, value_name = "PERMILLE", default_value = "300",
          value_parser = RangedU64ValueParser::<u16>::new().range(0..=u64::from(Selection::ALL)))]
    share: u16,

    /// The pause after each time, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 20)]
    interval: u32,
}

/// The pages that may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Only {
    /// Unused pages
    U,
    /// Volatile pages
    V,
}

impl From<Only> for Usage {
    fn from(only: Only) -> Self {
        match only {
            Only::U => Self::Unused,
            Only::V => Self::Volatile,
        }
    }
}

fn pages(text: &str) -> Result<u64, SizeError> {
    if text.eq_ignore_ascii_case("all") {
        return Ok(u64::MAX);
    }
    size::pages(text)
}

/// A user ID, in either case.
pub fn user_id(text: &str) -> Result<UserId, cp_core::user_id::UserIdError> {
    UserId::new(&text.to_uppercase())
}

impl States {
    fn run(&self, connection: &mut Connection) -> Result<Output, Error> {
        let user_id = self.user_id;
        match connection.call(&Request::States { user_id })? {
            Reply::States(table) => Ok(Output {
                rc: 0,
                lines: table.to_string().lines().map(String::from).collect(),
                json: states_json(&table),
            }),
            reply => Err(unexpected(reply)),
        }
    }
}

/// A table of states, by their letters.
pub fn states_json(table: &StateTable) -> Value {
    let row = |usage| {
        let [r, p, z] = Content::ALL.map(|content| table[(usage, content)]);
        json!({ "tot": r + p + z, "r": r, "p": p, "z": z })
    };
    Usage::ALL
        .into_iter()
        .map(|usage| (usage.letter().to_string(), row(usage)))
        .collect::<Map<_, _>>()
        .into()
}

/// All that was taken.
#[derive(Debug, Default)]
struct Sum {
    rounds: u64,
    taken: Taken,
    before: u64,
    after: u64,
}

impl Sum {
    fn take(
        &mut self,
        connection: &mut Connection,
        user_id: UserId,
        selection: Selection,
    ) -> Result<(), Error> {
        match connection.take(user_id, selection)? {
            Reply::Taken {
                taken,
                before,
                after,
            } => {
                if self.rounds == 0 {
                    self.before = before;
                }
                self.rounds += 1;
                self.taken.unused += taken.unused;
                self.taken.volatile += taken.volatile;
                self.after = after;
                Ok(())
            }
            reply => Err(unexpected(reply)),
        }
    }

    fn output(&self, user_id: UserId, rounds: &str) -> Output {
        let Self {
            taken: Taken { unused, volatile },
            before,
            after,
            ..
        } = self;
        let pages = unused + volatile;
        Output {
            rc: 0,
            lines: vec![format!(
                "took {pages} pages of {user_id}{rounds}: U {unused}, V {volatile}; resident {before} -> {after}"
            )],
            json: json!({ "user_id": user_id, "rounds": self.rounds, "unused": unused, "volatile": volatile,
                          "resident_before": before, "resident_after": after }),
        }
    }
}

impl Reclaim {
    fn run(&self, connection: &mut Connection) -> Result<Output, Error> {
        let mut sum = Sum::default();
        let selection = Selection {
            pages: self.size,
            only: self.only.map(Usage::from),
            volatile_share: Selection::ALL,
            random: self.random.then(|| fastrand::u64(..)),
        };
        sum.take(connection, self.user_id, selection)?;
        Ok(sum.output(self.user_id, ""))
    }
}

impl Torment {
    fn run(&self, connection: &mut Connection) -> Result<Output, Error> {
        let mut sum = Sum::default();
        let end = Instant::now() + Duration::from_secs(self.seconds.into());
        while sum.rounds == 0 || Instant::now() < end {
            let selection = Selection {
                pages: u64::MAX,
                only: None,
                volatile_share: self.share,
                random: Some(fastrand::u64(..)),
            };
            sum.take(connection, self.user_id, selection)?;
            thread::sleep(Duration::from_millis(self.interval.into()));
        }
        let rounds = format!(" in {} rounds", sum.rounds);
        Ok(sum.output(self.user_id, &rounds))
    }
}

/// What a reply means that is not the one to the request.
pub fn unexpected(reply: Reply) -> Error {
    match reply {
        Reply::Failed { reason } => Error::Refused(reason),
        _ => ProtoError::UnexpectedReply.into(),
    }
}

impl From<ProtoError> for Error {
    fn from(error: ProtoError) -> Self {
        match error {
            ProtoError::Refused(reason) => Self::Refused(reason),
            error => Self::NoAnswer(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn command(line: &str) -> Result<Command, clap::Error> {
        Command::new(&line.split(' ').map(String::from).collect::<Vec<_>>())
    }

    #[test]
    fn the_commands_are_well_formed() {
        Command::command().debug_assert();
    }

    #[test]
    fn operands_are_checked() {
        let user_id = UserId::new("LINUX01").unwrap();
        assert_eq!(
            command("RECLAIM linux01 64M --only v --random").unwrap(),
            Command::Reclaim(Reclaim {
                user_id,
                size: 16384,
                only: Some(Only::V),
                random: true
            })
        );
        assert!(matches!(
            command("reclaim LINUX01 ALL").unwrap(),
            Command::Reclaim(Reclaim { size: u64::MAX, .. })
        ));
        assert_eq!(
            command("torment LINUX01 --seconds 5").unwrap(),
            Command::Torment(Torment {
                user_id,
                seconds: 5,
                share: 300,
                interval: 20
            })
        );
        for line in [
            "states",
            "states LINUX01 LINUX02",
            "reclaim LINUX01",
            "reclaim LINUX01 64",
            "reclaim LINUX0001 64M",
            "reclaim LINUX01 64M 65M",
            "reclaim LINUX01 64M --only s",
            "torment LINUX01",
            "torment LINUX01 --seconds -1",
            "torment LINUX01 --seconds 1 --share 1001",
            "torment LINUX01 --seconds 1 --interval x",
        ] {
            assert!(command(line).is_err(), "{line}");
        }
    }
}
