// SPDX-License-Identifier: GPL-2.0

//! Carrying out commands.

use super::{
    Authority, Caller, Effect, Host, MessageClass, MessageService, NotTaken, Settings, System, User,
};
use crate::command::{self, Command, CommandError, MessageKind, Reception, Set, Terminal};
use crate::respond;
use crate::user_id::UserId;

/// What became of a command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// 0, or the number of the message of the last command that failed.
    pub rc: u32,
    /// All responses and messages.
    pub lines: Vec<String>,
}

impl System {
    /// Carries out the commands in `text`, which `'\n'` separates, one after the other; an error does not keep the
    /// next one from being tried.
    pub fn execute(
        &mut self,
        caller: Caller,
        text: &str,
        host: &dyn Host,
        messages: &mut dyn MessageService,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        for line in command::split(text) {
            match command::parse(line)
                .and_then(|command| self.carry_out(caller, command, host, messages))
            {
                Ok(lines) => outcome.lines.extend(lines),
                Err(error) => {
                    outcome.rc = error.code();
                    outcome.lines.push(error.to_string());
                }
            }
        }
        outcome
    }

    fn carry_out(
        &mut self,
        caller: Caller,
        command: Command,
        host: &dyn Host,
        messages: &mut dyn MessageService,
    ) -> Result<Vec<String>, CommandError> {
        match command {
            Command::Query(query) => return respond::query(query, caller, &self.view(host)),
            Command::Indicate(indicate) => {
                return respond::indicate(indicate, caller, &self.view(host));
            }
            Command::Set(Set::Msg(reception)) => {
                self.settings(caller.user, "CFS")?.msg = reception;
            }
            Command::Set(Set::Smsg(reception)) => {
                self.settings(caller.user, "CFS")?.smsg = reception;
            }
            Command::Set(Set::MemAssist { on, whose }) => {
                let whose = whose.map(|target| target.resolve(caller.user));
                if whose != Some(caller.user) && caller.authority == Authority::General {
                    return Err(CommandError::InvalidOption {
                        module: "CFS",
                        option: whose.map_or("ALL".into(), |user| user.to_string()),
                    });
                }
                self.set_mem_assist(on, whose)?;
            }
            Command::Set(Set::AgeList {
                early_writes,
                keep_slot,
            }) => {
                let list = match caller.authority {
                    Authority::Operator => host.age_list(),
                    Authority::General => None,
                };
                let list = list.ok_or_else(|| CommandError::InvalidOption {
                    module: "CFS",
                    option: "AGELIST".into(),
                })?;
                if let Some(on) = early_writes {
                    list.set_early_writes(on);
                }
                if let Some(on) = keep_slot {
                    list.set_keep_slot(on);
                }
            }
            Command::Terminal(terminal) => {
                let settings = self.settings(caller.user, "TRM")?;
                match terminal {
                    Terminal::ConMode(mode) => settings.con_mode = mode,
                    Terminal::AutoCr(on) => settings.auto_cr = on,
                    Terminal::Hold(on) => settings.hold = on,
                    Terminal::More(more, clear) => settings.more = (more, clear),
                    Terminal::LineSize(size) => settings.line_size = size,
                }
            }
            Command::Send { kind, to, text } => {
                self.send(
                    caller.user,
                    kind,
                    to.resolve(caller.user),
                    &text,
                    host,
                    messages,
                )?;
            }
            Command::Force(user) => {
                if caller.authority == Authority::General {
                    return Err(CommandError::Unknown("FORCE".into()));
                }
                self.settings(user, "FRC")?;
                let reason = format!("USER DSC  LOGOFF AS  {user:8} FORCED BY {}", caller.user);
                self.effects.push_back(Effect::LogOff { user, reason });
            }
            Command::Logoff => {
                let user = caller.user;
                self.settings(user, "LOG")?;
                let reason = format!("USER DSC  LOGOFF AS  {user}");
                self.effects.push_back(Effect::LogOff { user, reason });
            }
        }
        Ok(Vec::new())
    }

    fn send(
        &mut self,
        from: UserId,
        kind: MessageKind,
        user: UserId,
        text: &str,
        host: &dyn Host,
        messages: &mut dyn MessageService,
    ) -> Result<(), CommandError> {
        let settings = *self.settings(user, "MSG")?;
        let refused = |reason| Err(CommandError::NotReceiving { user, reason });
        let (class, reception) = match kind {
            MessageKind::Special => (MessageClass::Special, settings.smsg),
            MessageKind::Message | MessageKind::NoHeader => (MessageClass::Message, settings.msg),
        };
        match (class, reception) {
            (MessageClass::Special, Reception::Off) => refused("SMSG OFF"),
            (MessageClass::Message, Reception::Off) => refused("MSG OFF"),
            // SMSG ON means VMCF, which does not exist here: nobody can be authorized for it.
            (MessageClass::Special, Reception::On) => refused("not authorized for VMCF"),
            (_, Reception::Iucv) => match messages.deliver(class, from, user, text) {
                Ok(()) => {
                    if class == MessageClass::Special
                        && let Some(pages) = shrink(text)
                    {
                        self.settings(user, "MSG")?.asked = Some(pages);
                    }
                    Ok(())
                }
                // Nobody listens, so the console does, as if set to ON.
                Err(NotTaken::NotConnected) if class == MessageClass::Message => {
                    self.show(from, kind, user, text, host);
                    Ok(())
                }
                Err(not_taken) => refused(not_taken.reason()),
            },
            (MessageClass::Message, Reception::On) => {
                self.show(from, kind, user, text, host);
                Ok(())
            }
        }
    }

    /// Shows a message on a console. What would control the terminal becomes a blank: the text is somebody else's.
    fn show(&mut self, from: UserId, kind: MessageKind, user: UserId, text: &str, host: &dyn Host) {
        let header = match kind {
            MessageKind::NoHeader => String::new(),
            _ => respond::message_header(from, host.now()),
        };
        let text = header + &text.replace(char::is_control, " ");
        self.effects.push_back(Effect::Console { user, text });
    }

    fn settings(
        &mut self,
        user: UserId,
        module: &'static str,
    ) -> Result<&mut Settings, CommandError> {
        self.user(user, module).map(|user| &mut user.settings)
    }

    pub(super) fn user(
        &mut self,
        user: UserId,
        module: &'static str,
    ) -> Result<&mut User, CommandError> {
        self.users
            .get_mut(&user)
            .ok_or(CommandError::NotLoggedOn { module, user })
    }
}

/// How many pages a message to a balloon asks for.
fn shrink(text: &str) -> Option<u64> {
    let words: Vec<_> = text.split_ascii_whitespace().collect();
    match words[..] {
        ["CMM", "SHRINK", pages] => pages.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Effect, LogOnError};
    use super::*;
    use crate::paging::AgeList;
    use crate::respond::{HostView, SystemView, Usage};
    use proptest::prelude::*;
    use time::OffsetDateTime;

    #[derive(Default)]
    struct FakeHost {
        age_list: Option<AgeList>,
    }

    impl Host for FakeHost {
        fn now(&self) -> OffsetDateTime {
            OffsetDateTime::UNIX_EPOCH
        }
        fn build_time(&self) -> OffsetDateTime {
            OffsetDateTime::UNIX_EPOCH
        }
        fn usage(&self, _: UserId) -> Usage {
            Usage {
                resident_pages: 77,
                essa_calls: 5,
                ..Usage::default()
            }
        }
        fn machine(&self) -> HostView {
            HostView::default()
        }
        fn tmem(&self) -> bool {
            false
        }
        fn age_list(&self) -> Option<&AgeList> {
            self.age_list.as_ref()
        }
    }

    #[derive(Default)]
    struct FakeService {
        delivered: Vec<(MessageClass, UserId, UserId, String)>,
        full: bool,
    }

    impl MessageService for FakeService {
        fn deliver(
            &mut self,
            class: MessageClass,
            from: UserId,
            to: UserId,
            text: &str,
        ) -> Result<(), NotTaken> {
            if self.full {
                return Err(NotTaken::LimitReached);
            }
            self.delivered.push((class, from, to, text.into()));
            Ok(())
        }
    }

    fn id(text: &str) -> UserId {
        UserId::new(text).unwrap()
    }

    struct Fixture {
        system: System,
        host: FakeHost,
        service: FakeService,
    }

    impl Fixture {
        fn new() -> Self {
            let mut system = System::new(id("COOPMEM"), OffsetDateTime::UNIX_EPOCH);
            for user in ["LINUX01", "LINUX02"] {
                system
                    .log_on(user, 512 << 20, 2, OffsetDateTime::UNIX_EPOCH)
                    .unwrap();
            }
            Self {
                system,
                host: FakeHost::default(),
                service: FakeService::default(),
            }
        }

        fn as_user(&mut self, user: &str, text: &str) -> (u32, String) {
            self.run(
                Caller {
                    user: id(user),
                    authority: Authority::General,
                },
                text,
            )
        }

        fn as_operator(&mut self, text: &str) -> (u32, String) {
            self.run(
                Caller {
                    user: id("OPERATOR"),
                    authority: Authority::Operator,
                },
                text,
            )
        }

        fn run(&mut self, caller: Caller, text: &str) -> (u32, String) {
            let outcome = self
                .system
                .execute(caller, text, &self.host, &mut self.service);
            (outcome.rc, outcome.lines.join("\n"))
        }
    }

    #[test]
    fn smsg_goes_to_who_wants_it() {
        let mut f = Fixture::new();
        let smsg = "SMSG LINUX01 CMM SHRINK 20000";
        assert_eq!(
            f.as_operator(smsg),
            (57, "HCPMFS057E LINUX01 not receiving; SMSG OFF".into())
        );
        assert_eq!(f.as_user("LINUX01", "SET SMSG ON").0, 0);
        assert_eq!(f.as_operator(smsg).0, 57);
        assert_eq!(f.as_user("LINUX01", "SET SMSG IUCV"), (0, String::new()));
        assert_eq!(f.as_operator(smsg), (0, String::new()));
        let message = (
            MessageClass::Special,
            id("OPERATOR"),
            id("LINUX01"),
            "CMM SHRINK 20000".into(),
        );
        assert_eq!(f.service.delivered, [message]);
        f.service.full = true;
        assert_eq!(
            f.as_operator(smsg).1,
            "HCPMFS057E LINUX01 not receiving; message limit reached"
        );
        assert_eq!(
            f.as_operator("SMSG NOBODY X"),
            (45, "HCPMSG045E NOBODY not logged on".into())
        );
    }

    #[test]
    fn messages_appear_on_the_console_or_go_to_iucv() {
        let mut f = Fixture::new();
        assert_eq!(f.as_operator("MSG LINUX01 hello"), (0, String::new()));
        assert_eq!(f.as_user("LINUX02", "MSGNOH LINUX01 hello").0, 0);
        let console = |text: &str| Effect::Console {
            user: id("LINUX01"),
            text: text.into(),
        };
        let effects: Vec<_> = f.system.take_effects().collect();
        assert_eq!(
            effects,
            [
                console("00:00:00  * MSG FROM OPERATOR: hello"),
                console("hello")
            ]
        );
        f.as_user("LINUX01", "SET MSG IUCV");
        f.as_operator("MSG LINUX01 hello");
        assert_eq!(f.service.delivered.len(), 1);
        f.as_user("LINUX01", "SET MSG OFF");
        assert_eq!(
            f.as_operator("MSG LINUX01 hello").1,
            "HCPMFS057E LINUX01 not receiving; MSG OFF"
        );
    }

    #[test]
    fn several_commands_in_one_buffer() {
        let mut f = Fixture::new();
        let (rc, text) = f.as_user("LINUX01", "QUERY USERID\nNONSENSE\n\n QUERY V STOR");
        let lines = [
            "LINUX01  AT COOPMEM",
            "HCPCMD001E Unknown CP command: NONSENSE",
            "STORAGE = 512M",
        ];
        assert_eq!((rc, text), (1, lines.join("\n")));
    }

    #[test]
    fn without_tmem_its_name_is_that_of_a_user() {
        let mut f = Fixture::new();
        assert_eq!(
            f.as_user("LINUX01", "QUERY TMEM"),
            (45, "HCPCQU045E TMEM not logged on".into())
        );
    }

    #[test]
    fn only_the_operator_forces() {
        let mut f = Fixture::new();
        assert_eq!(
            f.as_user("LINUX02", "FORCE LINUX01"),
            (1, "HCPCMD001E Unknown CP command: FORCE".into())
        );
        assert_eq!(
            f.as_operator("FORCE LINUX09"),
            (45, "HCPFRC045E LINUX09 not logged on".into())
        );
        assert_eq!(f.system.take_effects().count(), 0);
        assert_eq!(f.as_operator("FORCE LINUX01").0, 0);
        assert!(
            matches!(f.system.take_effects().next(), Some(Effect::LogOff { user, .. }) if user == id("LINUX01"))
        );
    }

    #[test]
    fn only_the_operator_sets_the_aging_list_if_there_is_one() {
        let mut f = Fixture::new();
        let set = "SET AGELIST EARLYWRITES YES KEEPSLOT NO";
        let invalid = |module| (3, format!("HCP{module}003E Invalid option - AGELIST"));
        assert_eq!(f.as_operator(set), invalid("CFS"));
        assert_eq!(f.as_operator("Q AGELIST"), invalid("CQU"));
        f.host.age_list = Some(AgeList::new(20, false));
        let shown = |early, keep| {
            let text = format!("AGELIST  SIZE=20  EARLYWRITES={early}  KEEPSLOT={keep}");
            (0, text)
        };
        assert_eq!(f.as_user("LINUX01", set), invalid("CFS"));
        assert_eq!(f.as_user("LINUX01", "Q AGELIST"), shown("NO", "YES"));
        assert_eq!(f.as_operator(set), (0, String::new()));
        assert_eq!(f.as_operator("Q AGELIST"), shown("YES", "NO"));
        assert_eq!(
            f.as_operator(
                "SET AGELIST EARLYW NO
Q AGELIST"
            ),
            shown("NO", "NO")
        );
        assert_eq!(f.as_operator("SET AGELIST KEEPSLOT YES EARLYW MAYBE").0, 3);
        assert_eq!(f.as_operator("Q AGELIST"), shown("NO", "NO"));
    }

    #[test]
    fn settings_end_with_a_reset() {
        let mut f = Fixture::new();
        f.as_user("LINUX01", "SET SMSG IUCV\nTERM AUTOCR OFF");
        assert!(f.as_user("LINUX01", "Q TERM").1.contains("AUTOCR OFF"));
        f.system.reset(id("LINUX01"), 0);
        assert!(f.as_user("LINUX01", "Q TERM").1.contains("AUTOCR ON"));
        assert!(f.as_user("LINUX01", "Q SET").1.contains("SMSG OFF"));
    }

    #[test]
    fn what_a_balloon_is_asked_for_is_known_until_a_reset() {
        let mut f = Fixture::new();
        let asked = |f: &Fixture| {
            let user = f.system.view(&f.host).user(id("LINUX01"));
            user.unwrap().settings.asked
        };
        f.as_operator("SMSG LINUX01 CMM SHRINK 20000");
        assert_eq!(asked(&f), None);
        f.as_user("LINUX01", "SET SMSG IUCV\nSET MSG IUCV");
        f.as_operator("SMSG LINUX01 CMM  SHRINK 20000");
        assert_eq!(asked(&f), Some(20000));
        for other in [
            "SMSG LINUX01 CMM REUSE 1 2",
            "SMSG LINUX01 CMM SHRINK X",
            "SMSG LINUX02 CMM SHRINK 1",
            "MSG LINUX01 CMM SHRINK 1",
        ] {
            f.as_operator(other);
        }
        assert_eq!(asked(&f), Some(20000));
        f.system.reset(id("LINUX01"), 0);
        assert_eq!(asked(&f), None);
    }

    #[test]
    fn essa_ends_with_a_reset_and_begins_at_once() {
        let mut f = Fixture::new();
        let state = |f: &mut Fixture| {
            let (_, text) = f.as_user("LINUX01", "Q MEMASSIST");
            let mut lines = text.lines();
            (
                lines.next().unwrap().to_owned(),
                lines.nth(1).unwrap()[10..].to_owned(),
            )
        };
        let pair = |all: &str, one: &str| (format!("ALL USERS SET - {all}"), one.to_owned());
        let effect = |on| Effect::MemAssist {
            user: id("LINUX01"),
            on,
        };
        let effects = |f: &mut Fixture| f.system.take_effects().collect::<Vec<_>>();
        assert_eq!(state(&mut f), pair("ON", "ON       ACTIVE,SIMULATED"));
        assert_eq!(
            f.as_user("LINUX01", "SET MEMASSIST OFF"),
            (0, String::new())
        );
        assert_eq!(
            state(&mut f),
            pair("ON", "ON       ACTIVE,PENDING OFF,SIMULATED")
        );
        assert_eq!(effects(&mut f), []);
        f.system.reset(id("LINUX01"), 5);
        assert_eq!(effects(&mut f), [effect(false)]);
        assert_eq!(state(&mut f), pair("ON", "OFF      INACTIVE"));
        assert_eq!(f.as_operator("SET MEMASSIST ON FOR LINUX01").0, 0);
        assert_eq!(effects(&mut f), [effect(true)]);
        assert_eq!(state(&mut f), pair("ON", "ON       INACTIVE"));
        // For all: both are pending, one is reset, and both have it again.
        assert_eq!(f.as_operator("SET MEMASSIST OFF ALL").0, 0);
        assert_eq!(state(&mut f), pair("OFF", "(ON)     INACTIVE,PENDING OFF"));
        f.system.reset(id("LINUX01"), 5);
        assert_eq!(state(&mut f), pair("OFF", "(ON)     INACTIVE"));
        assert_eq!(f.as_operator("SET MEMASSIST ON ALL").0, 0);
        assert_eq!(effects(&mut f), [effect(false), effect(true)]);
        // Nobody sets, or sees, what is another one's.
        let refused = (3, "HCPCFS003E Invalid option - LINUX02".to_owned());
        assert_eq!(f.as_user("LINUX01", "SET MEMASSIST OFF LINUX02"), refused);
        assert_eq!(f.as_user("LINUX01", "SET MEMASSIST OFF ALL").0, 3);
        assert_eq!(f.as_user("LINUX01", "Q MEMASSIST LINUX02").0, 3);
        assert_eq!(f.as_operator("SET MEMASSIST OFF LINUX03").0, 45);
        assert_eq!(f.as_operator("Q MEMASSIST LINUX03").0, 45);
        assert_eq!(f.as_operator("Q MEMASSIST").1.lines().count(), 4);
        assert_eq!(f.as_operator("Q MEMASSIST LINUX02").1.lines().count(), 3);
    }

    #[test]
    fn logon_is_checked() {
        let mut f = Fixture::new();
        let mut log_on = |user: &str, bytes, cpus| {
            f.system
                .log_on(user, bytes, cpus, OffsetDateTime::UNIX_EPOCH)
        };
        assert_eq!(
            log_on("LINUX01", 4096, 1),
            Err(LogOnError::AlreadyLoggedOn(id("LINUX01")))
        );
        assert!(matches!(
            log_on("linux03", 4096, 1),
            Err(LogOnError::UserId(_))
        ));
        assert!(matches!(
            log_on("LINUX0003", 4096, 1),
            Err(LogOnError::UserId(_))
        ));
        assert_eq!(log_on("LINUX03", 0, 1), Err(LogOnError::Storage(0)));
        assert_eq!(log_on("LINUX03", 4097, 1), Err(LogOnError::Storage(4097)));
        assert_eq!(log_on("LINUX03", 4096, 0), Err(LogOnError::Cpus(0)));
        assert_eq!(log_on("LINUX03", 4096, 1), Ok(id("LINUX03")));
        f.system.log_off(id("LINUX01"));
        assert_eq!(f.as_operator("Q LINUX01").0, 45);
        assert_eq!(
            f.as_operator("Q NAMES").1,
            "LINUX02  - DSC , LINUX03  - DSC "
        );
    }

    proptest! {
        #[test]
        fn any_text_has_an_outcome(text: String, operator: bool) {
            let mut f = Fixture::new();
            let (rc, lines) = if operator { f.as_operator(&text) } else { f.as_user("LINUX01", &text) };
            prop_assert!(rc == 0 || lines.contains("HCP"));
        }
    }
}
