// SPDX-License-Identifier: GPL-2.0

//! The operator's console of the Control Program: issues CP commands from the host.

mod pages;
mod tmem;
mod top;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use cp_core::UserId;
use cp_core::user_id::UserIdError;
use cp_proto::{Connection, ProtoError, Reply, Request, Response, default_socket};
use serde_json::{Map, Value, json};
use thiserror::Error;

/// Issues a CP command to a running system and prints the response.
///
/// Any CP command goes to cpd word by word: `cpctl query names`, `cpctl indicate user LINUX01`,
/// `cpctl --as VMRMSVM smsg LINUX01 CMM SHRINK 20000`, `cpctl force LINUX01`.
///
/// Commands of cpctl's own: `counters USERID` prints what a guest's Control Program services have counted,
/// `resident USERID` the pages of its storage that are resident in the host, `logoff USERID` is `force USERID`.
/// About page states: `states USERID` prints how many pages are in which state, `reclaim USERID SIZE` takes unused and
/// volatile pages, `torment USERID --seconds S` does so over and over; `cpctl reclaim --help` tells more.
/// About transcendent memory: `tmem list`, `freeze`, `thaw`, `set`, `flush`, `destroy`, `save`, `restore` and `freeable`;
/// `cpctl tmem --help` tells more.
/// `top` shows all of the system, live; `cpctl top --help` tells more.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "\
Exit status: 0 if the command was carried out, else CP's return code (the number in its message, at most 124).
125: cpd cannot be reached or does not answer. 126: not a command line of cpctl, or cpd refuses the request."
)]
struct Options {
    /// Where cpd listens [default: $XDG_RUNTIME_DIR/coopmem/cp.sock]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,

    /// In whose name; the user need not be logged on
    #[arg(long = "as", value_name = "USERID", default_value = "OPERATOR")]
    user_id: UserId,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// The command and its operands
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    command: Vec<String>,
}

/// CP's number for a user who is not logged on.
const NOT_LOGGED_ON: u32 = 45;
/// The highest exit status that stands for a return code of CP.
const MAX_RC: u32 = 124;
const UNREACHABLE: u8 = 125;
const REFUSED: u8 = 126;

/// Why there is no response.
#[derive(Debug, Error)]
enum Error {
    #[error("XDG_RUNTIME_DIR is not set: say with --socket PATH where cpd listens")]
    NoSocket,
    #[error("{0}")]
    UserId(#[from] UserIdError),
    #[error("{0} needs one user ID, as in `cpctl {0} LINUX01`")]
    OneUser(&'static str),
    #[error("cannot reach cpd on {0}: {1}")]
    Unreachable(PathBuf, ProtoError),
    #[error("cpd refuses: {0}")]
    Refused(String),
    #[error("no answer from cpd: {0}")]
    NoAnswer(ProtoError),
    #[error("the terminal fails: {0}")]
    Terminal(io::Error),
    /// Also that help was asked for.
    #[error(transparent)]
    Operands(#[from] clap::Error),
}

impl Error {
    fn status(&self) -> u8 {
        match self {
            Self::Unreachable(..) | Self::NoSocket | Self::NoAnswer(_) | Self::Terminal(_) => {
                UNREACHABLE
            }
            Self::UserId(_) | Self::OneUser(_) | Self::Refused(_) => REFUSED,
            Self::Operands(error) if !error.use_stderr() => 0,
            Self::Operands(_) => REFUSED,
        }
    }
}

/// What to ask of cpd.
#[derive(Debug, PartialEq, Eq)]
enum Action {
    Command(String),
    Counters(UserId),
    Resident(UserId),
    Pages(pages::Command),
    Tmem(tmem::Command),
    Top(top::Command),
}

/// What to print.
#[derive(Debug, Default)]
struct Output {
    rc: u32,
    lines: Vec<String>,
    json: Value,
}

impl Action {
    fn new(words: &[String]) -> Result<Self, Error> {
        let (verb, operands) = words
            .split_first()
            .map_or(("", words), |(verb, rest)| (verb.as_str(), rest));
        let user = |name| match operands {
            [user] => Ok(UserId::new(&user.to_uppercase())?),
            _ => Err(Error::OneUser(name)),
        };
        Ok(match verb.to_lowercase().as_str() {
            "counters" => Self::Counters(user("counters")?),
            "resident" => Self::Resident(user("resident")?),
            "states" | "reclaim" | "torment" => Self::Pages(pages::Command::new(words)?),
            "top" => Self::Top(top::Command::new(words)?),
            "tmem" => Self::Tmem(tmem::Command::new(words)?),
            "logoff" if !operands.is_empty() => Self::Command(format!("FORCE {}", user("logoff")?)),
            _ => Self::Command(words.join(" ")),
        })
    }

    fn run(&self, connection: &mut Connection, options: &Options) -> Result<Output, Error> {
        let request = match self {
            Self::Command(text) => Request::Command { text: text.clone() },
            Self::Counters(user) => Request::Counters { user_id: *user },
            Self::Resident(user) => Request::Accounting {
                user_id: Some(*user),
            },
            Self::Pages(command) => return command.run(connection),
            Self::Tmem(command) => return command.run(connection),
            Self::Top(command) => return command.run(connection, options.user_id, options.json),
        };
        self.output(connection.call(&request)?)
    }

    fn output(&self, reply: Reply) -> Result<Output, Error> {
        match (self, reply) {
            (_, Reply::Failed { reason }) => Err(Error::Refused(reason)),
            (Self::Command(_), Reply::Command(Response { rc, lines })) => Ok(Output {
                rc,
                json: json!({ "rc": rc, "lines": lines }),
                lines,
            }),
            (Self::Counters(_), Reply::Counters(counters)) => Ok(Output {
                rc: 0,
                lines: counters
                    .iter()
                    .map(|(name, value)| format!("{name} {value}"))
                    .collect(),
                json: Value::Object(
                    counters
                        .into_iter()
                        .map(|(name, value)| (name, value.into()))
                        .collect::<Map<_, _>>(),
                ),
            }),
            (Self::Resident(user), Reply::Accounting(records)) => Ok(match records.first() {
                Some(record) => {
                    let pages = record.resident_kib / 4;
                    Output {
                        rc: 0,
                        lines: vec![pages.to_string()],
                        json: json!({ "user_id": user, "pages": pages }),
                    }
                }
                None => {
                    let line = format!("HCPCQU{NOT_LOGGED_ON:03}E {user} not logged on");
                    Output {
                        rc: NOT_LOGGED_ON,
                        json: json!({ "rc": NOT_LOGGED_ON, "lines": [line] }),
                        lines: vec![line],
                    }
                }
            }),
            _ => Err(Error::Refused(ProtoError::UnexpectedReply.to_string())),
        }
    }
}

fn main() -> ExitCode {
    let done = Options::try_parse()
        .map_err(Error::from)
        .and_then(|options| Ok((run(&options)?, options)));
    match done {
        Ok((output, options)) => print(&options, &output),
        Err(error) => {
            match &error {
                // Nobody is left to be told if this fails.
                Error::Operands(error) => drop(error.print()),
                error => eprintln!("cpctl: {error}"),
            }
            error.status().into()
        }
    }
}

fn run(options: &Options) -> Result<Output, Error> {
    let action = Action::new(&options.command)?;
    let path = options
        .socket
        .clone()
        .or_else(default_socket)
        .ok_or(Error::NoSocket)?;
    let failed = |error| match error {
        ProtoError::Refused(reason) => Error::Refused(reason),
        error => Error::Unreachable(path.clone(), error),
    };
    let mut connection =
        Connection::operator(&path, &options.user_id.to_string()).map_err(failed)?;
    action.run(&mut connection, options)
}

fn print(options: &Options, output: &Output) -> ExitCode {
    let mut out = io::stdout().lock();
    let printed = if options.json {
        writeln!(out, "{}", output.json)
    } else {
        output
            .lines
            .iter()
            .try_for_each(|line| writeln!(out, "{line}"))
    };
    // A reader that has seen enough is not an error of the command.
    if let Err(error) = printed.and_then(|()| out.flush())
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        eprintln!("cpctl: cannot print the response: {error}");
        return UNREACHABLE.into();
    }
    u8::try_from(output.rc.min(MAX_RC))
        .unwrap_or(UNREACHABLE)
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn action(line: &str) -> Result<Action, Error> {
        Action::new(&line.split(' ').map(String::from).collect::<Vec<_>>())
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Options::command().debug_assert();
        let options = Options::try_parse_from([
            "cpctl", "--as", "VMRMSVM", "smsg", "LINUX01", "CMM", "--help",
        ])
        .unwrap();
        assert_eq!(options.command, ["smsg", "LINUX01", "CMM", "--help"]);
        assert!(Options::try_parse_from(["cpctl", "--as", "vmrmsvm", "query", "names"]).is_err());
        assert!(Options::try_parse_from(["cpctl"]).is_err());
    }

    #[test]
    fn cp_commands_go_as_they_are() {
        let command = |text: &str| Action::Command(text.into());
        assert_eq!(
            action("smsg LINUX01 CMM SHRINK 20000").unwrap(),
            command("smsg LINUX01 CMM SHRINK 20000")
        );
        assert_eq!(action("logoff linux01").unwrap(), command("FORCE LINUX01"));
        assert_eq!(action("logoff").unwrap(), command("logoff"));
    }

    #[test]
    fn own_commands_need_a_user() {
        let linux01 = UserId::new("LINUX01").unwrap();
        assert_eq!(
            action("counters linux01").unwrap(),
            Action::Counters(linux01)
        );
        assert_eq!(
            action("resident LINUX01").unwrap(),
            Action::Resident(linux01)
        );
        assert!(matches!(
            action("resident"),
            Err(Error::OneUser("resident"))
        ));
        assert!(matches!(
            action("counters LINUX0001"),
            Err(Error::UserId(_))
        ));
    }

    #[test]
    fn replies_become_lines() {
        let resident = action("resident LINUX01").unwrap();
        let output = resident.output(Reply::Accounting(Vec::new())).unwrap();
        assert_eq!(
            (output.rc, output.lines),
            (45, vec!["HCPCQU045E LINUX01 not logged on".into()])
        );
        let counters = action("counters LINUX01").unwrap();
        let output = counters
            .output(Reply::Counters(vec![("diag10_calls".into(), 3)]))
            .unwrap();
        assert_eq!(output.lines, ["diag10_calls 3"]);
        assert_eq!(output.json, json!({ "diag10_calls": 3 }));
        assert!(matches!(
            counters.output(Reply::Done),
            Err(Error::Refused(_))
        ));
    }
}
