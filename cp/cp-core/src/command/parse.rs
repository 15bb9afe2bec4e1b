// SPDX-License-Identifier: GPL-2.0

//! The parser.

use super::keyword::choose;
use super::{
    Command, CommandError, ConMode, Indicate, MessageKind, Query, Reception, Set, Target, Terminal,
};
use crate::user_id::UserId;

/// Parses one command. Blanks around it are ignored, also a leading `CP` or `#CP`, as if it were typed at a console.
pub fn parse(line: &str) -> Result<Command, CommandError> {
    let mut words = Words(line);
    let mut verb = words.next();
    while matches!(verb.as_deref(), Some("CP" | "#CP")) {
        verb = words.next();
    }
    let Some(verb) = verb else {
        return Err(CommandError::Unknown(String::new()));
    };
    match choose(&verb, VERBS) {
        Some(Verb::Query) => query(Operands::new("CQU", words)).map(Command::Query),
        Some(Verb::Set) => set(Operands::new("CFS", words)).map(Command::Set),
        Some(Verb::Send(kind)) => send(kind, Operands::new("MSG", words)),
        Some(Verb::Indicate) => indicate(Operands::new("IND", words)).map(Command::Indicate),
        Some(Verb::Terminal) => terminal(Operands::new("TRM", words)).map(Command::Terminal),
        Some(Verb::Force) => force(Operands::new("FRC", words)).map(Command::Force),
        Some(Verb::Logoff) => Operands::new("LOG", words).end().map(|()| Command::Logoff),
        None => Err(CommandError::Unknown(verb)),
    }
}

#[derive(Clone, Copy)]
enum Verb {
    Query,
    Set,
    Send(MessageKind),
    Indicate,
    Terminal,
    Force,
    Logoff,
}

const VERBS: &[(&str, Verb)] = &[
    ("Query", Verb::Query),
    ("SET", Verb::Set),
    ("SMsg", Verb::Send(MessageKind::Special)),
    ("MSG", Verb::Send(MessageKind::Message)),
    ("MSGNoh", Verb::Send(MessageKind::NoHeader)),
    ("Message", Verb::Send(MessageKind::Message)),
    ("INDicate", Verb::Indicate),
    ("TERMinal", Verb::Terminal),
    ("FORCE", Verb::Force),
    ("LOGoff", Verb::Logoff),
    ("LOGout", Verb::Logoff),
];

const QUERIES: &[(&str, Query)] = &[
    ("USERID", Query::UserId),
    ("Users", Query::Users),
    ("Names", Query::Names),
    ("CPLEVEL", Query::CpLevel),
    ("SET", Query::Set),
    ("CONsole", Query::Console),
    ("TERMinal", Query::Terminal),
    ("STORage", Query::Storage),
    ("FRames", Query::Frames),
    ("AGELIST", Query::AgeList),
    ("MEMAssist", Query::MemAssist(None)),
    ("Time", Query::Time),
];

const VIRTUALS: &[(&str, Query)] = &[
    ("STORage", Query::VirtualStorage),
    ("CPUs", Query::VirtualCpus),
    ("CONsole", Query::Console),
];

const RECEPTIONS: &[(&str, Reception)] = &[
    ("ON", Reception::On),
    ("OFF", Reception::Off),
    ("IUCV", Reception::Iucv),
];

const SWITCHES: &[(&str, bool)] = &[("ON", true), ("OFF", false)];

fn query(mut operands: Operands<'_>) -> Result<Query, CommandError> {
    let word = operands.required()?;
    let query = if let Some(query) = choose(&word, QUERIES) {
        match query {
            Query::MemAssist(_) => Query::MemAssist(operands.whose()?),
            query => query,
        }
    } else if choose(&word, &[("Virtual", ())]).is_some() {
        operands.keyword(VIRTUALS)?
    } else if choose(&word, &[("ALLOC", ())]).is_some() {
        operands.keyword(&[("PAGE", Query::AllocPage)])?
    } else {
        // CP takes any other word as a user ID.
        Query::User(UserId::new(&word).map_err(|_| operands.invalid_option(word))?)
    };
    operands.end()?;
    Ok(query)
}

fn set(mut operands: Operands<'_>) -> Result<Set, CommandError> {
    let word = operands.required()?;
    let options = [("SMsg", 0), ("MSG", 1), ("MEMAssist", 2), ("AGELIST", 3)];
    let set = match choose(&word, &options) {
        Some(0) => Set::Smsg(operands.keyword(RECEPTIONS)?),
        Some(1) => Set::Msg(operands.keyword(RECEPTIONS)?),
        Some(3) => age_list(&mut operands)?,
        Some(_) => Set::MemAssist {
            on: operands.keyword(SWITCHES)?,
            whose: match operands.whose()? {
                None => Some(Target::Myself),
                Some(Target::User(id)) if id.to_string() == "ALL" => None,
                target => target,
            },
        },
        None => return Err(operands.invalid_option(word)),
    };
    operands.end()?;
    Ok(set)
}

fn age_list(operands: &mut Operands<'_>) -> Result<Set, CommandError> {
    let (mut early_writes, mut keep_slot) = (None, None);
    let mut option = operands.required()?;
    loop {
        let value = match choose(&option, &[("EARLYWrites", 0), ("KEEPSLOT", 1)]) {
            Some(0) => &mut early_writes,
            Some(_) => &mut keep_slot,
            None => return Err(operands.invalid_option(option)),
        };
        if value.is_some() {
            return Err(operands.invalid_option(option));
        }
        *value = Some(operands.keyword(&[("YES", true), ("NO", false)])?);
        match operands.optional() {
            Some(next) => option = next,
            None => {
                return Ok(Set::AgeList {
                    early_writes,
                    keep_slot,
                });
            }
        }
    }
}

fn send(kind: MessageKind, mut operands: Operands<'_>) -> Result<Command, CommandError> {
    let to = operands.target()?.ok_or(CommandError::UserIdInvalid {
        module: operands.module,
    })?;
    let text = operands.rest()?;
    Ok(Command::Send { kind, to, text })
}

fn indicate(mut operands: Operands<'_>) -> Result<Indicate, CommandError> {
    let indicate = match operands.optional() {
        None => Indicate::Load,
        Some(word) => match choose(&word, &[("LOAD", 0), ("USER", 1), ("SPaces", 2)]) {
            Some(0) => Indicate::Load,
            Some(1) => Indicate::User(operands.target()?.unwrap_or(Target::Myself)),
            Some(_) => Indicate::Spaces(match operands.optional() {
                None => Target::Myself,
                Some(word) if word == "USER" => operands.target()?.ok_or(operands.missing())?,
                Some(word) => return Err(operands.invalid_option(word)),
            }),
            None => return Err(operands.invalid_option(word)),
        },
    };
    operands.end()?;
    Ok(indicate)
}

fn terminal(mut operands: Operands<'_>) -> Result<Terminal, CommandError> {
    #[derive(Clone, Copy)]
    enum Option {
        ConMode,
        AutoCr,
        Hold,
        More,
        LineSize,
    }
    let option = operands.keyword(&[
        ("CONMODE", Option::ConMode),
        ("AUTOCR", Option::AutoCr),
        ("HOLD", Option::Hold),
        ("MORE", Option::More),
        ("LINESize", Option::LineSize),
    ])?;
    let terminal = match option {
        Option::ConMode => Terminal::ConMode(
            operands.keyword(&[("3215", ConMode::Mode3215), ("3270", ConMode::Mode3270)])?,
        ),
        Option::AutoCr => Terminal::AutoCr(operands.keyword(SWITCHES)?),
        Option::Hold => Terminal::Hold(operands.keyword(SWITCHES)?),
        Option::More => Terminal::More(operands.number()?, operands.number()?),
        Option::LineSize => Terminal::LineSize(operands.number_or(&[("OFF", 0)])?),
    };
    operands.end()?;
    Ok(terminal)
}

fn force(mut operands: Operands<'_>) -> Result<UserId, CommandError> {
    match operands.target()? {
        Some(Target::User(id)) => operands.end().map(|()| id),
        _ => Err(CommandError::UserIdInvalid {
            module: operands.module,
        }),
    }
}

/// The words of a command, in upper case.
struct Words<'a>(&'a str);

impl Iterator for Words<'_> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let text = self.0.trim_start_matches(' ');
        let (word, rest) = text.split_at(text.find(' ').unwrap_or(text.len()));
        self.0 = rest;
        (!word.is_empty()).then(|| word.to_ascii_uppercase())
    }
}

/// What follows the command's name, and who complains about it.
struct Operands<'a> {
    module: &'static str,
    words: Words<'a>,
}

impl<'a> Operands<'a> {
    fn new(module: &'static str, words: Words<'a>) -> Self {
        Self { module, words }
    }

    fn optional(&mut self) -> Option<String> {
        self.words.next()
    }

    fn required(&mut self) -> Result<String, CommandError> {
        self.optional().ok_or(self.missing())
    }

    fn keyword<T: Copy>(&mut self, table: &[(&'static str, T)]) -> Result<T, CommandError> {
        let word = self.required()?;
        choose(&word, table).ok_or_else(|| self.invalid_option(word))
    }

    fn number(&mut self) -> Result<u8, CommandError> {
        self.number_or(&[])
    }

    fn number_or(&mut self, table: &[(&'static str, u8)]) -> Result<u8, CommandError> {
        let operand = self.required()?;
        if let Some(value) = choose(&operand, table) {
            return Ok(value);
        }
        let digits = operand.bytes().all(|byte| byte.is_ascii_digit());
        match operand.parse() {
            Ok(number) if digits => Ok(number),
            _ => Err(CommandError::InvalidOperand {
                module: self.module,
                operand,
            }),
        }
    }

    fn target(&mut self) -> Result<Option<Target>, CommandError> {
        match self.optional().as_deref() {
            None => Ok(None),
            Some("*") => Ok(Some(Target::Myself)),
            Some(word) => match UserId::new(word) {
                Ok(id) => Ok(Some(Target::User(id))),
                Err(_) => Err(CommandError::UserIdInvalid {
                    module: self.module,
                }),
            },
        }
    }

    /// A user after `FOR` and `USER`, which need not be said; nothing must follow nothing.
    fn whose(&mut self) -> Result<Option<Target>, CommandError> {
        let mut said = false;
        for keyword in ["FOR", "USER"] {
            let before = self.words.0;
            if self.words.next().as_deref() == Some(keyword) {
                said = true;
            } else {
                self.words.0 = before;
            }
        }
        match self.target()? {
            None if said => Err(self.missing()),
            target => Ok(target),
        }
    }

    /// The text that follows the operands, in the case in which it was written.
    fn rest(&mut self) -> Result<String, CommandError> {
        let text = self.words.0.trim_matches(' ');
        if text.is_empty() {
            Err(self.missing())
        } else {
            Ok(text.into())
        }
    }

    fn end(&mut self) -> Result<(), CommandError> {
        match self.optional() {
            None => Ok(()),
            Some(option) => Err(CommandError::ExtraOption {
                module: self.module,
                option,
            }),
        }
    }

    fn missing(&self) -> CommandError {
        CommandError::OperandMissing {
            module: self.module,
        }
    }

    fn invalid_option(&self, option: String) -> CommandError {
        CommandError::InvalidOption {
            module: self.module,
            option,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(text: &str) -> UserId {
        UserId::new(text).unwrap()
    }

    #[test]
    fn the_commands_that_linux_issues() {
        for (line, command) in [
            ("QUERY CONSOLE", Command::Query(Query::Console)),
            ("QUERY TERM", Command::Query(Query::Terminal)),
            (
                "TERM CONMODE 3215",
                Command::Terminal(Terminal::ConMode(ConMode::Mode3215)),
            ),
            (
                "TERM AUTOCR OFF",
                Command::Terminal(Terminal::AutoCr(false)),
            ),
            ("QUERY USERID", Command::Query(Query::UserId)),
            ("QUERY CPLEVEL", Command::Query(Query::CpLevel)),
            ("SET SMSG IUCV", Command::Set(Set::Smsg(Reception::Iucv))),
            ("SET SMSG OFF", Command::Set(Set::Smsg(Reception::Off))),
        ] {
            assert_eq!(parse(line), Ok(command), "{line}");
        }
    }

    #[test]
    fn whose_assist() {
        let set = |on, whose| Ok(Command::Set(Set::MemAssist { on, whose }));
        let linux01 = Target::User(id("LINUX01"));
        for (line, command) in [
            ("SET MEMASSIST ON", set(true, Some(Target::Myself))),
            ("set mema off *", set(false, Some(Target::Myself))),
            ("SET MEMASSIST OFF ALL", set(false, None)),
            ("SET MEMASSIST OFF FOR ALL", set(false, None)),
            ("SET MEMASSIST OFF FOR LINUX01", set(false, Some(linux01))),
            (
                "SET MEMASSIST ON FOR USER LINUX01",
                set(true, Some(linux01)),
            ),
            ("Q MEMASSIST", Ok(Command::Query(Query::MemAssist(None)))),
            (
                "Q MEMASSIST FOR USER LINUX01",
                Ok(Command::Query(Query::MemAssist(Some(linux01)))),
            ),
        ] {
            assert_eq!(parse(line), command, "{line}");
        }
    }

    #[test]
    fn the_aging_list() {
        let set = |early_writes, keep_slot| {
            Ok(Command::Set(Set::AgeList {
                early_writes,
                keep_slot,
            }))
        };
        for (line, command) in [
            ("SET AGELIST EARLYWRITES YES", set(Some(true), None)),
            ("set agelist earlywrite no", set(Some(false), None)),
            ("SET AGELIST KEEPSLOT NO", set(None, Some(false))),
            (
                "SET AGELIST KEEPSLOT YES EARLYW NO",
                set(Some(false), Some(true)),
            ),
        ] {
            assert_eq!(parse(line), command, "{line}");
        }
    }

    #[test]
    fn messages_keep_their_text() {
        let smsg = |to: &str, text: &str| {
            Ok(Command::Send {
                kind: MessageKind::Special,
                to: Target::User(id(to)),
                text: text.into(),
            })
        };
        assert_eq!(
            parse("SMSG LINUX01 CMM SHRINK 20000"),
            smsg("LINUX01", "CMM SHRINK 20000")
        );
        assert_eq!(
            parse("  sm   linux01   Cmm  Shrink 1 "),
            smsg("LINUX01", "Cmm  Shrink 1")
        );
        assert_eq!(
            parse("m * hello"),
            Ok(Command::Send {
                kind: MessageKind::Message,
                to: Target::Myself,
                text: "hello".into()
            })
        );
        assert_eq!(
            parse("msgnoh op hello"),
            Ok(Command::Send {
                kind: MessageKind::NoHeader,
                to: Target::User(id("OP")),
                text: "hello".into()
            })
        );
    }

    #[test]
    fn every_abbreviation_is_accepted_and_none_shorter() {
        fn abbreviations(keyword: &str) -> impl Iterator<Item = &str> {
            let minimum = keyword
                .bytes()
                .take_while(|byte| !byte.is_ascii_lowercase())
                .count();
            (minimum..=keyword.len()).map(|length| &keyword[..length])
        }
        for verb in abbreviations("Query") {
            let alloc = parse(&format!("{verb} alloc page"));
            assert_eq!(alloc, Ok(Command::Query(Query::AllocPage)));
            for &(keyword, query) in QUERIES {
                for operand in abbreviations(keyword) {
                    assert_eq!(
                        parse(&format!("{verb} {operand}")),
                        Ok(Command::Query(query))
                    );
                }
            }
            for virt in abbreviations("Virtual") {
                for &(keyword, query) in VIRTUALS {
                    for operand in abbreviations(keyword) {
                        assert_eq!(
                            parse(&format!("{verb} {virt} {operand}")),
                            Ok(Command::Query(query))
                        );
                    }
                }
            }
        }
        for verb in abbreviations("INDicate") {
            assert_eq!(parse(verb), Ok(Command::Indicate(Indicate::Load)));
            assert_eq!(
                parse(&format!("{verb} user")),
                Ok(Command::Indicate(Indicate::User(Target::Myself)))
            );
            assert_eq!(
                parse(&format!("{verb} sp")),
                Ok(Command::Indicate(Indicate::Spaces(Target::Myself)))
            );
        }
        for line in ["QUERY USERI", "QUERY CPLEV"] {
            assert!(
                matches!(parse(line), Ok(Command::Query(Query::User(_)))),
                "{line}"
            );
        }
        assert_eq!(parse("IN LOAD"), Err(CommandError::Unknown("IN".into())));
        assert_eq!(parse("S X Y"), Err(CommandError::Unknown("S".into())));
    }

    #[test]
    fn indicate_names_users() {
        let user = Target::User(id("LINUX01"));
        assert_eq!(
            parse("ind user linux01"),
            Ok(Command::Indicate(Indicate::User(user)))
        );
        assert_eq!(
            parse("ind spaces user linux01"),
            Ok(Command::Indicate(Indicate::Spaces(user)))
        );
        assert_eq!(
            parse("cp ind spaces user *"),
            Ok(Command::Indicate(Indicate::Spaces(Target::Myself)))
        );
    }

    #[test]
    fn errors_have_their_numbers() {
        for (line, code) in [
            ("FROBNICATE", 1),
            ("frobnicate the host", 1),
            ("", 1),
            ("CP", 1),
            ("QUERY", 26),
            ("QUERY VIRTUAL", 26),
            ("QUERY VIRTUAL TAPES", 3),
            ("QUERY USERID NOW", 3),
            ("QUERY FROBNICATION", 3),
            ("SET", 26),
            ("SET SMSG", 26),
            ("SET SMSG MAYBE", 3),
            ("SET SMSG ON NOW", 3),
            ("SET MEMASSIST", 26),
            ("SET MEMASSIST MAYBE", 3),
            ("SET MEMASSIST ON FOR", 26),
            ("SET MEMASSIST ON FOR LINUX01 LINUX02", 3),
            ("SET MEMASSIST ON LINUX0001", 20),
            ("QUERY MEMASSIST USER", 26),
            ("QUERY MEMASSIST LINUX01 LINUX02", 3),
            ("SET CLOCK", 3),
            ("SET AGELIST", 26),
            ("SET AGELIST SIZE 2%", 3),
            ("SET AGELIST EARLY YES", 3),
            ("SET AGELIST EARLYWRITES", 26),
            ("SET AGELIST EARLYWRITES ON", 3),
            ("SET AGELIST EARLYWRITES YES NO", 3),
            ("SET AGELIST KEEPSLOT NO KEEPSLOT NO", 3),
            ("QUERY AGELIST ALL", 3),
            ("SMSG", 20),
            ("SMSG LINUX0001 X", 20),
            ("SMSG LINUX01", 26),
            ("SMSG LINUX01   ", 26),
            ("MSG", 20),
            ("TERM CONMODE 3290", 3),
            ("TERM MORE 1", 26),
            ("TERM MORE 1 300", 2),
            ("TERM MORE 1 +3", 2),
            ("INDICATE ALL", 3),
            ("INDICATE SPACES USER", 26),
            ("INDICATE USER LINUX0001", 20),
            ("FORCE", 20),
            ("FORCE *", 20),
            ("LOGOFF NOW", 3),
        ] {
            let error = parse(line).expect_err(line);
            assert_eq!(error.code(), code, "{line}: {error}");
        }
        assert_eq!(
            parse("xyz 1").unwrap_err().to_string(),
            "HCPCMD001E Unknown CP command: XYZ"
        );
        assert_eq!(
            parse("q userid 1 2").unwrap_err().to_string(),
            "HCPCQU003E Invalid option - command contains extra option(s) starting with 1"
        );
    }

    proptest! {
        #[test]
        fn never_panics(line: String) {
            let _ = parse(&line);
        }

        #[test]
        fn never_panics_on_likely_words(words in proptest::collection::vec(
            "(q|query|v|stor|set|smsg|msg|ind|user|sp|term|more|conmode|\\*|LINUX01|[0-9]{0,4}|\\PC{0,10})", 0..6))
        {
            let _ = parse(&words.join(" "));
        }

        #[test]
        fn case_and_blanks_do_not_matter(blanks in 1..5_usize, upper: bool) {
            let line = ["query", "virtual", "storage"].join(&" ".repeat(blanks));
            let line = if upper { line.to_uppercase() } else { line };
            prop_assert_eq!(parse(&line), Ok(Command::Query(Query::VirtualStorage)));
        }

        #[test]
        fn message_texts_survive(text in "[!-~]([ -~]{0,200}[!-~])?") {
            let parsed = parse(&format!("SMSG LINUX01 {text}"));
            let to = Target::User(id("LINUX01"));
            prop_assert_eq!(parsed, Ok(Command::Send { kind: MessageKind::Special, to, text }));
        }
    }
}
