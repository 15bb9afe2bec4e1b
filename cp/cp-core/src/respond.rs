// SPDX-License-Identifier: GPL-2.0

//! CP's responses to the commands that only ask: `QUERY` and `INDICATE`.
//!
//! The layouts are those of z/VM 7.3, as programs in guests take them apart. Where CP would show what does not exist
//! here (expanded storage, spooling), the response says so in CP's own way: zeroes, dashes or `NONE`.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use crate::command::{CommandError, Indicate, Query, Target};
use crate::paging::AgeList;
use crate::system::{Authority, Caller, Settings};
use crate::user_id::UserId;
use crate::{diag, tmem};

/// The size of a page or frame, in bytes.
pub const PAGE_BYTES: u64 = 4096;

/// What responses are made from.
pub trait SystemView {
    /// The name of the system.
    fn system_name(&self) -> &str;
    /// The time of day, in UTC.
    fn now(&self) -> OffsetDateTime;
    /// When the system was started.
    fn ipl_time(&self) -> OffsetDateTime;
    /// When the Control Program was built.
    fn build_time(&self) -> OffsetDateTime;
    /// Who is logged on, in ascending order.
    fn users(&self) -> Vec<UserId>;
    /// A user who is logged on.
    fn user(&self, id: UserId) -> Option<UserView>;
    /// Whether ESSA is set for all users.
    fn mem_assist(&self) -> bool;
    /// The machine that all run on.
    fn host(&self) -> HostView;
    /// The aging list, if real memory is limited.
    fn age_list(&self) -> Option<&AgeList>;
    /// Whether there is transcendent memory.
    fn tmem(&self) -> bool;
}

/// A virtual machine that is logged on.
#[derive(Clone, Copy, Debug)]
pub struct UserView {
    /// The size of its storage.
    pub storage_bytes: u64,
    /// The number of its virtual CPUs.
    pub cpus: u32,
    /// When it logged on.
    pub log_on_time: OffsetDateTime,
    /// What it has set.
    pub settings: Settings,
    /// Whether it has ESSA.
    pub mem_assist: MemAssist,
    /// What it uses.
    pub usage: Usage,
}

/// Whether a virtual machine has ESSA.
#[derive(Clone, Copy, Debug)]
pub struct MemAssist {
    /// It is set for this user.
    pub set: bool,
    /// It has; what is set to off stays so until a reset.
    pub in_effect: bool,
    /// It has issued some since the last reset.
    pub active: bool,
}

/// What a virtual machine uses.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Pages of its storage that are resident in the host.
    pub resident_pages: u64,
    /// Pages of its storage that are on the paging volume only.
    pub preserved_pages: u64,
    /// Pages that have come back from there.
    pub page_reads: u64,
    /// Pages that have left their frames.
    pub page_writes: u64,
    /// CPU time.
    pub cpu_time: Duration,
    /// ESSA instructions it has issued.
    pub essa_calls: u64,
}

/// The machine that all run on.
#[derive(Clone, Debug, Default)]
pub struct HostView {
    /// All of its memory, in frames.
    pub frames: u64,
    /// What could be had without paging, in frames.
    pub available_frames: u64,
    /// The paging volume.
    pub paging: PagingView,
    /// How busy each of its CPUs has been lately, in percent.
    pub cpu_percent: Vec<u8>,
}

/// The paging volume; all zeroes if there is none.
#[derive(Clone, Copy, Debug, Default)]
pub struct PagingView {
    /// Its size, in pages.
    pub pages: u64,
    /// Pages in use.
    pub in_use: u64,
    /// The highest page that has been in use, counted from 1.
    pub high: u64,
    /// Reads and writes a second, lately.
    pub rate: u64,
}

type Lines = Result<Vec<String>, CommandError>;

/// The response to `QUERY`.
pub fn query(query: Query, caller: Caller, view: &dyn SystemView) -> Lines {
    let myself = |module| logged_on(view, caller.user, module);
    Ok(match query {
        Query::UserId => vec![format!("{:8} AT {}", caller.user, view.system_name())],
        Query::Names => names(&view.users()),
        Query::Users => vec![format!(
            "{:6} USERS, {:5} DIALED, {:5} NET",
            view.users().len(),
            0,
            0
        )],
        // To a CP without it, this is a user ID like any other.
        Query::User(id) if view.tmem() && id.to_string() == "TMEM" => {
            vec![format!(
                "TMEM: DIAGNOSE {:04X} VERSION {}",
                diag::tmem::CODE,
                tmem::VERSION
            )]
        }
        Query::User(id) => {
            logged_on(view, id, "CQU")?;
            vec![entry(id)]
        }
        Query::CpLevel => vec![
            "z/VM Version 7 Release 3.0, service level 2201 (64-bit)".into(),
            format!("Generated at {}", stamp(view.build_time())),
            format!("IPL at {}", stamp(view.ipl_time())),
        ],
        Query::Set => set(&myself("CQU")?.settings),
        Query::Console => console(caller.user),
        Query::Terminal => terminal(&myself("CQU")?.settings),
        Query::VirtualStorage => vec![format!("STORAGE = {}", size(myself("CQU")?.storage_bytes))],
        Query::VirtualCpus => (0..myself("CQU")?.cpus).map(virtual_cpu).collect(),
        Query::Storage => {
            let all = size(view.host().frames * PAGE_BYTES);
            vec![format!(
                "STORAGE = {all} CONFIGURED = {all} INC = 1M STANDBY = 0 RESERVED = 0"
            )]
        }
        Query::Frames => frames(&view.host()),
        Query::AgeList => age_list(view.age_list().ok_or_else(|| CommandError::InvalidOption {
            module: "CQU",
            option: "AGELIST".into(),
        })?),
        Query::AllocPage => alloc_page(view.host().paging),
        Query::MemAssist(whose) => mem_assist(whose, caller, view)?,
        Query::Time => connect_time(view.now(), &myself("CQU")?),
    })
}

/// The response to `INDICATE`. Other users' figures are for the operator only.
pub fn indicate(indicate: Indicate, caller: Caller, view: &dyn SystemView) -> Lines {
    let about = |target: Target| {
        let id = target.resolve(caller.user);
        if id != caller.user && caller.authority == Authority::General {
            return Err(CommandError::InvalidOption {
                module: "IND",
                option: id.to_string(),
            });
        }
        Ok((id, logged_on(view, id, "IND")?))
    };
    match indicate {
        Indicate::Load => Ok(load(&view.host(), view.users().len())),
        Indicate::User(target) => {
            about(target).map(|(id, user)| indicate_user(id, &user, view.now()))
        }
        Indicate::Spaces(target) => about(target).map(|(id, user)| spaces(id, &user)),
    }
}

fn logged_on(
    view: &dyn SystemView,
    user: UserId,
    module: &'static str,
) -> Result<UserView, CommandError> {
    view.user(user)
        .ok_or(CommandError::NotLoggedOn { module, user })
}

/// All virtual machines run disconnected: their consoles are QEMU's.
fn entry(id: UserId) -> String {
    format!("{id:8} - DSC ")
}

fn names(users: &[UserId]) -> Vec<String> {
    users
        .chunks(4)
        .map(|row| {
            row.iter()
                .map(|&id| entry(id))
                .collect::<Vec<_>>()
                .join(", ")
        })
        .collect()
}

fn set(settings: &Settings) -> Vec<String> {
    let (msg, smsg) = (settings.msg.keyword(), settings.smsg.keyword());
    vec![
        format!("MSG {msg:4}, WNG ON  , EMSG ON  , ACNT OFF, RUN ON"),
        "LINEDIT ON , TIMER OFF , ISAM OFF, ECMODE ON".into(),
        "ASSIST OFF          , PAGEX OFF, AUTOPOLL OFF".into(),
        format!("IMSG ON  , SMSG {smsg:4}, AFFINITY NONE   , NOTRAN OFF"),
        "VMSAVE OFF, 370E OFF".into(),
        "STBYPASS OFF , STMULTI OFF 00/000".into(),
        "MIH OFF , VMCONIO OFF , CPCONIO OFF , SVCACCL OFF , CONCEAL OFF".into(),
        "MACHINE Z, SVC76 CP, NOPDATA OFF, IOASSIST OFF".into(),
        "CCWTRAN ON , 370ACCOM OFF".into(),
    ]
}

/// Linux takes the device number at offset 5 and the subchannel after `SUBCHANNEL = ` (`arch/s390/kernel/setup.c`).
fn console(user: UserId) -> Vec<String> {
    vec![
        "CONS 0009 DISCONNECTED  TERM START".into(),
        "     0009 CL T NOCONT NOHOLD COPY 001    READY FORM STANDARD".into(),
        format!("     0009 TO {user:8} RDR DIST SYSTEM    FLASHC 000 DEST OFF"),
        "     0009 FLASH      CHAR      MDFY      0 FCB      LPP OFF".into(),
        "     0009 3215   NOEOF CLOSED    NOKEEP NOMSG NONAME".into(),
        "     0009 SUBCHANNEL = 0000".into(),
    ]
}

/// CONMODE is left out: told one, Linux would open a console on a channel that there is none of. Without it, it
/// takes the SCLP console, which there is.
fn terminal(settings: &Settings) -> Vec<String> {
    let on = |switch| if switch { "ON " } else { "OFF" };
    let line_size = match settings.line_size {
        0 => "OFF".into(),
        size => format!("{size:03}"),
    };
    let (more, clear) = settings.more;
    vec![
        "LINEND # , LINEDEL \u{a2}, CHARDEL @ , ESCAPE \" , TABCHAR ON".into(),
        format!("LINESIZE {line_size}, ATTN OFF, APL OFF, TEXT OFF, MODE VM, HILIGHT OFF"),
        "BREAKIN IMMED , BRKKEY PA1 , SCRNSAVE OFF".into(),
        format!(
            "AUTOCR {}, MORE {more:03} {clear:03}, HOLD {}, TIMESTAMP OFF, SYS3270 OFF",
            on(settings.auto_cr),
            on(settings.hold)
        ),
    ]
}

fn virtual_cpu(cpu: u32) -> String {
    let base = if cpu == 0 { "(BASE)" } else { "      " };
    format!("CPU {cpu:02X}  {base} CP   CPUAFF ON")
}

fn frames(host: &HostView) -> Vec<String> {
    let HostView {
        frames,
        available_frames,
        ..
    } = host;
    vec![
        "All Frames:".into(),
        format!("  Configured={frames}  Real={frames}  Usable={frames}  Offline=0"),
        format!("  Pageable={frames}  NotInit=0  GlobalClearedAvail={available_frames}"),
        "  LocalClearedAvail=0  LocalUnclearedAvail=0".into(),
    ]
}

/// What z/VM shows of it is not known; these are the words that `SET AGELIST` takes.
fn age_list(list: &AgeList) -> Vec<String> {
    let yes = |on| if on { "YES" } else { "NO" };
    vec![format!(
        "AGELIST  SIZE={}  EARLYWRITES={}  KEEPSLOT={}",
        list.size(),
        yes(list.early_writes()),
        yes(list.keep_slot())
    )]
}

/// The volume is a file, so its extent counts pages, and it has no device number.
fn alloc_page(volume: PagingView) -> Vec<String> {
    let PagingView {
        pages,
        in_use,
        high,
        ..
    } = volume;
    let percent = format!("{}%", (in_use * 100).checked_div(pages).unwrap_or(0));
    let last = pages.saturating_sub(1);
    let (all, used, high) = (count(pages), count(in_use), count(high));
    let mut lines = vec![
        "                EXTENT     EXTENT  TOTAL  PAGES   HIGH    %".into(),
        "VOLID  RDEV      START        END  PAGES IN USE   PAGE USED".into(),
        "------ ---- ---------- ---------- ------ ------ ------ ----".into(),
    ];
    if pages > 0 {
        lines.push(format!(
            "PAGE01 0000 {:>10} {last:>10} {all:>6} {used:>6} {high:>6} {percent:>4}",
            0
        ));
    }
    lines.push(format!("{:34}------ ------        ----", ""));
    for name in ["SUMMARY", "USABLE"] {
        lines.push(format!(
            "{name:34}{all:>6} {used:>6} {:>6} {percent:>4}",
            ""
        ));
    }
    lines
}

/// A number of pages in at most six columns.
fn count(pages: u64) -> String {
    if pages < 1_000_000 {
        pages.to_string()
    } else {
        format!("{}K", pages >> 10)
    }
}

fn mem_assist(whose: Option<Target>, caller: Caller, view: &dyn SystemView) -> Lines {
    let users = match (
        whose.map(|target| target.resolve(caller.user)),
        caller.authority,
    ) {
        (None, Authority::Operator) => view.users(),
        (Some(user), authority) if authority == Authority::Operator || user == caller.user => {
            logged_on(view, user, "CQU")?;
            vec![user]
        }
        (Some(user), _) => {
            return Err(CommandError::InvalidOption {
                module: "CQU",
                option: user.to_string(),
            });
        }
        (None, Authority::General) => vec![caller.user],
    };
    let for_all = view.mem_assist();
    let mut lines = vec![
        format!("ALL USERS SET - {}", if for_all { "ON" } else { "OFF" }),
        "USER      SETTING  STATUS".into(),
    ];
    lines.extend(users.into_iter().filter_map(|id| {
        let MemAssist {
            set,
            in_effect,
            active,
        } = view.user(id)?.mem_assist;
        let setting = match (set || in_effect, set && !for_all) {
            (false, _) => "OFF",
            (true, false) => "ON",
            (true, true) => "(ON)",
        };
        let status = match (active, in_effect && !(set && for_all)) {
            (false, false) => "INACTIVE",
            (false, true) => "INACTIVE,PENDING OFF",
            (true, false) => "ACTIVE,SIMULATED",
            (true, true) => "ACTIVE,PENDING OFF,SIMULATED",
        };
        Some(format!("{id:8}  {setting:<7}  {status}"))
    }));
    Ok(lines)
}

fn connect_time(now: OffsetDateTime, user: &UserView) -> Vec<String> {
    const FORMAT: &[BorrowedFormatItem<'_>] = format_description!(
        "TIME IS [hour]:[minute]:[second] UTC [weekday] [month]/[day]/[year repr:last_two]"
    );
    let connected = since(user.log_on_time, now).as_secs();
    let cpu = user.usage.cpu_time;
    let used = format!(
        "{:03}:{:02}.{:02}",
        cpu.as_secs() / 60,
        cpu.as_secs() % 60,
        cpu.subsec_millis() / 10
    );
    vec![
        formatted(now, FORMAT).to_uppercase(),
        format!(
            "CONNECT= {:02}:{:02}:{:02} VIRTCPU= {used} TOTCPU= {used}",
            connected / 3600,
            connected / 60 % 60,
            connected % 60
        ),
    ]
}

fn load(host: &HostView, users: usize) -> Vec<String> {
    let cpus = &host.cpu_percent;
    let average = cpus
        .iter()
        .map(|&percent| usize::from(percent))
        .sum::<usize>()
        / cpus.len().max(1);
    let mut lines = vec![
        format!("AVGPROC-{average:03}% {:02}", cpus.len()),
        "XSTORE-000000/SEC MIGRATE-0000/SEC".into(),
        "MDC READS-000000/SEC WRITES-000000/SEC HIT RATIO-000%".into(),
        format!("PAGING-{}/SEC", host.paging.rate),
        format!("Q0-00000(00000)                           DORMANT-{:05}", 0),
        "Q1-00000(00000)           E1-00000(00000)".into(),
        "Q2-00000(00000) EXPAN-000 E2-00000(00000)".into(),
        format!("Q3-{users:05}(00000) EXPAN-000 E3-00000(00000)"),
        String::new(),
    ];
    let numbered: Vec<_> = cpus.iter().enumerate().collect();
    lines.extend(numbered.chunks(2).map(|row| {
        let columns: Vec<_> = row
            .iter()
            .map(|(cpu, percent)| format!("PROC {cpu:04X}-{percent:03}% CP"))
            .collect();
        columns.join("      ")
    }));
    lines.extend([String::new(), "LIMITED-00000".into()]);
    lines
}

/// The times are of the whole virtual machine, not of its base CPU alone: the host counts them for its process.
fn indicate_user(id: UserId, user: &UserView, now: OffsetDateTime) -> Vec<String> {
    let usage = user.usage;
    let connected = since(user.log_on_time, now).as_secs() / 60;
    let cpu = usage.cpu_time.as_secs();
    let used = format!("{:03}:{:02}", cpu / 60, cpu % 60);
    vec![
        format!(
            "USERID={id:8} MACH=Z   STOR={} VIRT=V XSTORE=NONE",
            size(user.storage_bytes)
        ),
        "IPLSYS=DEV NONE     DEVNUM=00001".into(),
        format!(
            "PAGES: RES={0:08} WS={0:08} LOCKEDREAL=00000000 RESVD=00000000",
            usage.resident_pages
        ),
        format!(
            "NPREF={:08} PREF=00000000 READS={:08} WRITES={:08}",
            usage.preserved_pages, usage.page_reads, usage.page_writes
        ),
        format!(
            "CPU 00: CTIME={:02}:{:02} VTIME={used} TTIME={used} IO=000000",
            connected / 60,
            connected % 60
        ),
        "        RDR=000000 PRT=000000 PCH=000000 TYPE=CP CPUAFFIN=ON".into(),
    ]
}

fn spaces(id: UserId, user: &UserView) -> Vec<String> {
    let usage = user.usage;
    vec![
        format!(
            "Spaceid={id}:BASE  Owned size={} PRIVATE",
            size(user.storage_bytes)
        ),
        format!(
            "Pages: Main={} Xstore=--- Dasd={} Locked=---",
            usage.resident_pages, usage.preserved_pages
        ),
        format!("Instan={}", usage.resident_pages + usage.preserved_pages),
        "Private paging:".into(),
        "  Xstore: Reads=--- Writes=--- Migrates=---".into(),
        format!(
            "  Dasd:   Reads={} Writes={}",
            usage.page_reads, usage.page_writes
        ),
        "Shared paging:".into(),
        "  Xstore: Reads=--- Writes=--- Migrates=---".into(),
        "  Dasd:   Reads=0 Writes=0".into(),
    ]
}

/// The header that `MESSAGE` puts before its text.
#[must_use]
pub fn message_header(from: UserId, at: OffsetDateTime) -> String {
    const FORMAT: &[BorrowedFormatItem<'_>] = format_description!("[hour]:[minute]:[second]");
    format!("{}  * MSG FROM {from:8}: ", formatted(at, FORMAT))
}

fn stamp(at: OffsetDateTime) -> String {
    const FORMAT: &[BorrowedFormatItem<'_>] =
        format_description!("[month]/[day]/[year repr:last_two] [hour]:[minute]:[second] UTC");
    formatted(at, FORMAT)
}

fn formatted(at: OffsetDateTime, format: &[BorrowedFormatItem<'_>]) -> String {
    // Fails only for components that a date and time lacks; it lacks none.
    at.format(format).unwrap_or_default()
}

fn since(start: OffsetDateTime, now: OffsetDateTime) -> Duration {
    // The clock of the host may have been set back.
    (now - start).try_into().unwrap_or_default()
}

/// A storage size as CP writes it: in the largest unit that gives a whole number.
fn size(bytes: u64) -> String {
    let units = [
        (1 << 60, 'E'),
        (1 << 50, 'P'),
        (1 << 40, 'T'),
        (1 << 30, 'G'),
        (1 << 20, 'M'),
    ];
    match units
        .into_iter()
        .find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit))
    {
        Some((unit, letter)) => format!("{}{letter}", bytes / unit),
        None => format!("{}K", bytes >> 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Reception;
    use time::macros::datetime;

    struct View;

    fn id(text: &str) -> UserId {
        UserId::new(text).unwrap()
    }

    impl SystemView for View {
        fn system_name(&self) -> &str {
            "COOPMEM"
        }
        fn now(&self) -> OffsetDateTime {
            datetime!(2026-11-20 14:05:09 UTC)
        }
        fn ipl_time(&self) -> OffsetDateTime {
            datetime!(2026-11-20 12:00:00 UTC)
        }
        fn build_time(&self) -> OffsetDateTime {
            datetime!(2026-11-19 01:02:03 UTC)
        }
        fn users(&self) -> Vec<UserId> {
            ["DB01", "LINUX01", "LINUX02", "LINUX03", "VMRMSVM"]
                .map(id)
                .into()
        }
        fn user(&self, user: UserId) -> Option<UserView> {
            self.users().contains(&user).then(|| UserView {
                storage_bytes: 512 << 20,
                cpus: 2,
                log_on_time: datetime!(2026-11-20 13:00:00 UTC),
                settings: Settings {
                    smsg: Reception::Iucv,
                    ..Settings::default()
                },
                mem_assist: MemAssist {
                    set: true,
                    in_effect: true,
                    active: false,
                },
                usage: Usage {
                    resident_pages: 1234,
                    preserved_pages: 66,
                    page_reads: 7,
                    page_writes: 88,
                    cpu_time: Duration::from_millis(61_230),
                    essa_calls: 0,
                },
            })
        }
        fn mem_assist(&self) -> bool {
            true
        }
        fn tmem(&self) -> bool {
            true
        }
        fn age_list(&self) -> Option<&AgeList> {
            static LIST: AgeList = AgeList::new(10_485, true);
            Some(&LIST)
        }
        fn host(&self) -> HostView {
            HostView {
                frames: 524_288,
                available_frames: 1000,
                paging: PagingView {
                    pages: 1_048_576,
                    in_use: 20_972,
                    high: 30_000,
                    rate: 12,
                },
                cpu_percent: vec![10, 13],
            }
        }
    }

    fn general(user: &str) -> Caller {
        Caller {
            user: id(user),
            authority: Authority::General,
        }
    }

    fn ask(what: Query) -> Vec<String> {
        query(what, general("LINUX01"), &View).unwrap()
    }

    #[test]
    fn tmem_is_found_by_asking() {
        let tmem = ask(Query::User(id("TMEM")));
        assert_eq!(tmem, ["TMEM: DIAGNOSE 01F4 VERSION 1"]);
    }

    #[test]
    fn identity() {
        assert_eq!(ask(Query::UserId), ["LINUX01  AT COOPMEM"]);
        assert_eq!(ask(Query::User(id("DB01"))), ["DB01     - DSC "]);
        assert_eq!(
            ask(Query::Names),
            [
                "DB01     - DSC , LINUX01  - DSC , LINUX02  - DSC , LINUX03  - DSC ",
                "VMRMSVM  - DSC ",
            ]
        );
        assert_eq!(ask(Query::Users), ["     5 USERS,     0 DIALED,     0 NET"]);
        let missing = query(Query::User(id("NOBODY")), general("LINUX01"), &View).unwrap_err();
        assert_eq!(missing.to_string(), "HCPCQU045E NOBODY not logged on");
    }

    #[test]
    fn level_and_time() {
        assert_eq!(
            ask(Query::CpLevel)[1..],
            [
                "Generated at 11/19/26 01:02:03 UTC",
                "IPL at 11/20/26 12:00:00 UTC"
            ]
        );
        assert_eq!(
            ask(Query::Time),
            [
                "TIME IS 14:05:09 UTC FRIDAY 11/20/26",
                "CONNECT= 01:05:09 VIRTCPU= 001:01.23 TOTCPU= 001:01.23",
            ]
        );
    }

    /// What `conmode_default()` of Linux does with the response.
    #[test]
    fn linux_understands_the_console() {
        let text = ask(Query::Console).join("\n");
        assert_eq!(u32::from_str_radix(&text[5..9], 16), Ok(9));
        let at = text.find("SUBCHANNEL =").unwrap() + 13;
        assert_eq!(u32::from_str_radix(&text[at..at + 4], 16), Ok(0));
        assert!(!ask(Query::Terminal).join("\n").contains("CONMODE"));
    }

    #[test]
    fn settings_and_configuration() {
        assert!(ask(Query::Set).join("\n").contains("SMSG IUCV,"));
        assert_eq!(ask(Query::VirtualStorage), ["STORAGE = 512M"]);
        assert_eq!(ask(Query::VirtualCpus).len(), 2);
        assert_eq!(
            ask(Query::MemAssist(None))[2..],
            ["LINUX01   ON       INACTIVE"]
        );
        assert!(ask(Query::Frames)[1].contains("Usable=524288"));
        assert!(ask(Query::Storage)[0].starts_with("STORAGE = 2G "));
    }

    #[test]
    fn resident_pages_are_indicated() {
        let lines = indicate(Indicate::User(Target::Myself), general("LINUX01"), &View).unwrap();
        assert!(lines[0].starts_with("USERID=LINUX01 ") && lines[0].contains("STOR=512M"));
        assert!(lines[2].starts_with("PAGES: RES=00001234 "));
        assert!(
            lines[3].starts_with("NPREF=00000066 ")
                && lines[3].ends_with(" READS=00000007 WRITES=00000088")
        );
        assert!(lines[4].starts_with("CPU 00: CTIME=01:05 VTIME=001:01 "));
        let lines = indicate(Indicate::Spaces(Target::Myself), general("LINUX01"), &View).unwrap();
        assert_eq!(lines[1], "Pages: Main=1234 Xstore=--- Dasd=66 Locked=---");
        assert_eq!(lines[5], "  Dasd:   Reads=7 Writes=88");
    }

    #[test]
    fn the_aging_list_is_shown() {
        let list = ask(Query::AgeList);
        assert_eq!(list, ["AGELIST  SIZE=10485  EARLYWRITES=YES  KEEPSLOT=YES"]);
    }

    #[test]
    fn the_paging_volume_is_shown() {
        assert_eq!(
            ask(Query::AllocPage),
            [
                "                EXTENT     EXTENT  TOTAL  PAGES   HIGH    %",
                "VOLID  RDEV      START        END  PAGES IN USE   PAGE USED",
                "------ ---- ---------- ---------- ------ ------ ------ ----",
                "PAGE01 0000          0    1048575  1024K  20972  30000   2%",
                "                                  ------ ------        ----",
                "SUMMARY                            1024K  20972          2%",
                "USABLE                             1024K  20972          2%",
            ]
        );
        let without = alloc_page(PagingView::default());
        assert_eq!(
            without[4],
            "SUMMARY                                0      0          0%"
        );
    }

    #[test]
    fn other_users_are_the_operators_business() {
        let other = Indicate::User(Target::User(id("DB01")));
        let error = indicate(other, general("LINUX01"), &View).unwrap_err();
        assert_eq!(error.to_string(), "HCPIND003E Invalid option - DB01");
        let operator = Caller {
            user: id("OPERATOR"),
            authority: Authority::Operator,
        };
        assert!(indicate(other, operator, &View).is_ok());
        let error = indicate(Indicate::User(Target::Myself), operator, &View).unwrap_err();
        assert_eq!(error.to_string(), "HCPIND045E OPERATOR not logged on");
    }

    #[test]
    fn load_is_averaged() {
        let lines = indicate(Indicate::Load, general("LINUX01"), &View).unwrap();
        assert_eq!(lines[0], "AVGPROC-011% 02");
        assert!(lines.contains(&"PAGING-12/SEC".into()));
        assert!(lines.contains(&"PROC 0000-010% CP      PROC 0001-013% CP".into()));
    }

    #[test]
    fn sizes_are_whole() {
        for (bytes, text) in [
            (4096, "4K"),
            (1 << 20, "1M"),
            (1536 << 20, "1536M"),
            (2 << 30, "2G"),
            (0, "0K"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn headers_name_the_sender() {
        assert_eq!(
            message_header(id("OPERATOR"), View.now()),
            "14:05:09  * MSG FROM OPERATOR: "
        );
        assert_eq!(
            message_header(id("DB01"), View.now()),
            "14:05:09  * MSG FROM DB01    : "
        );
    }
}
