// SPDX-License-Identifier: GPL-2.0

//! CP commands: whatever a virtual machine issues, it concerns nobody else, and what is refused changes nothing.

#![no_main]

use cp_core::command::{Command, CommandError, parse, split};
use cp_core::diag::command::fit;
use cp_core::paging::AgeList;
use cp_core::respond::{HostView, SystemView, Usage};
use cp_core::system::{
    Authority, Caller, Effect, Host, MessageClass, MessageService, NotTaken, System,
};
use cp_core::{UserId, ebcdic};
use libfuzzer_sys::fuzz_target;
use time::OffsetDateTime;

const WORDS: &[&str] = &[
    "Query",
    "SET",
    "SMsg",
    "Message",
    "MSGNoh",
    "INDicate",
    "TERMinal",
    "FORCE",
    "LOGoff",
    "Virtual",
    "\n",
    "ON",
    "OFF",
    "IUCV",
    "MEMAssist",
    "FOR",
    "USER",
    "ALL",
    "LINUX01",
    "LINUX02",
    "LINUX03",
    "*",
    "SPaces",
    "MORE",
    "LINESize",
    "CONMODE",
    "3270",
    "CMM",
    "SHRINK",
    "20",
    "#CP",
    "ALLOC",
    "AGELIST",
    "EARLYWrites",
    "KEEPSLOT",
    "YES",
    "NO",
];

struct Machine;

impl Host for Machine {
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH
    }

    fn build_time(&self) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH
    }

    fn usage(&self, _: UserId) -> Usage {
        Usage::default()
    }

    fn machine(&self) -> HostView {
        HostView::default()
    }

    fn tmem(&self) -> bool {
        true
    }

    fn age_list(&self) -> Option<&AgeList> {
        static LIST: AgeList = AgeList::new(20, false);
        Some(&LIST)
    }
}

/// A program in each virtual machine is connected to `*MSG`.
#[derive(Default)]
struct Messages(Vec<String>);

impl MessageService for Messages {
    fn deliver(
        &mut self,
        _: MessageClass,
        _: UserId,
        _: UserId,
        text: &str,
    ) -> Result<(), NotTaken> {
        self.0.push(text.into());
        Ok(())
    }
}

fuzz_target!(|input: (u16, &[u8])| {
    let (capacity, bytes) = input;
    let name = UserId::new("COOPMEM").expect("a name");
    let mut system = System::new(name, OffsetDateTime::UNIX_EPOCH);
    let [user, other] = ["LINUX01", "LINUX02"].map(|user| {
        let logged_on = system.log_on(user, 256 << 20, 2, OffsetDateTime::UNIX_EPOCH);
        logged_on.expect("a user")
    });
    let authority = Authority::General;
    let caller = Caller { user, authority };
    let text = cp_fuzz::text(bytes, WORDS);
    for line in split(&text) {
        is_read_alike(line);
        let mut messages = Messages::default();
        let before = format!("{system:?}");
        let others = of_others(&system, other);
        let outcome = system.execute(caller, line, &Machine, &mut messages);
        if outcome.rc == 0 {
            let sent = messages.0.iter().all(|sent| line.ends_with(sent));
            assert!(sent, "{line:?} sends {:?}", messages.0);
        } else {
            let [message] = &outcome.lines[..] else {
                panic!("{line:?}: {:?}", outcome.lines);
            };
            let code = message.get(6..10).expect("a code");
            assert_eq!(code, format!("{:03}E", outcome.rc), "{line:?}");
            assert_eq!(format!("{system:?}"), before, "{line:?}");
            assert_eq!(messages.0, [""; 0], "{line:?}");
        }
        assert_eq!(of_others(&system, other), others, "{line:?}");
        for effect in system.take_effects() {
            match effect {
                Effect::Console { text, .. } => {
                    assert!(!text.contains(char::is_control), "{text:?}");
                }
                Effect::LogOff { user, .. } | Effect::MemAssist { user, .. } => {
                    assert_eq!(user, caller.user, "{line:?}");
                }
            }
        }
        let fitted = fit(&outcome.lines, capacity.into());
        assert!(fitted.bytes.len() <= capacity.into());
        let whole = fitted
            .bytes
            .last()
            .is_none_or(|&last| last == ebcdic::NEW_LINE);
        assert!(whole, "{line:?}");
    }
});

/// What a virtual machine that issues nothing has set, or is set for it; not what messages tell it.
fn of_others(system: &System, user: UserId) -> String {
    let view = system.view(&Machine);
    let mut user = view.user(user).expect("a user");
    user.settings.asked = None;
    format!("{user:?} {} {:?}", view.mem_assist(), view.age_list())
}

/// Neither the case nor blanks matter, but in the text of a message.
fn is_read_alike(line: &str) {
    let command = parse(line);
    assert_eq!(parse(&format!(" cp {line} ")), command);
    match &command {
        Ok(Command::Send { text, .. }) => {
            assert!(!text.is_empty() && line.ends_with(text), "{line:?}");
        }
        command => {
            assert_eq!(&parse(&line.to_ascii_uppercase()), command);
            assert_eq!(&parse(&line.replace(' ', "   ")), command);
        }
    }
    if let Err(CommandError::Unknown(verb)) = command {
        assert!(line.to_ascii_uppercase().contains(&verb));
    }
}
