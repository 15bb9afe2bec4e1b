// SPDX-License-Identifier: GPL-2.0

//! A real `cpd` with guests that are only a connection and some memory.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use cp_core::page_state::{Content, Usage};
use cp_core::tmem::{Frames, Function};
use cp_core::{UserId, ebcdic, tmem};
use cp_proto::counters::COUNTERS_BYTES;
use cp_proto::{
    Connection, CpuConnection, Event, GuestConnection, Hello, Iucv, Overview, Plist, Pools,
    ProtoError, Reply, Report, Request, Role, Selection, Session, Socket, Taken, Tmem, Welcome,
};
use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, ftruncate, memfd_create};
use rustix::io::{pread, pwrite};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

const STORAGE: u64 = 16 << 20;

/// How long an event may take to come.
const EVENT_LIMIT: Duration = Duration::from_secs(60);

/// A system of its own.
struct Cpd {
    child: Child,
    path: PathBuf,
}

impl Cpd {
    fn start(path: &Path) -> Self {
        Self::start_with(path, &[])
    }

    fn start_with(path: &Path, options: &[&str]) -> Self {
        let mut child = command(path)
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(
            line,
            format!("cpd: system COOPMEM ready on {}\n", path.display())
        );
        Self {
            child,
            path: path.into(),
        }
    }

    fn signal(&mut self, signal: Signal) -> Option<i32> {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
        self.child.wait().unwrap().code()
    }

    fn operator(&self) -> Connection {
        Connection::operator(&self.path, "OPERATOR").unwrap()
    }
}

impl Drop for Cpd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(path: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cpd"));
    command.arg("--socket").arg(path).stderr(Stdio::piped());
    command
}

fn system() -> (TempDir, Cpd) {
    let directory = tempfile::tempdir().unwrap();
    let cpd = Cpd::start(&directory.path().join("cp/cp.sock"));
    (directory, cpd)
}

/// A guest, as far as `cpd` can tell.
#[derive(Debug)]
struct Guest {
    ram: OwnedFd,
    states: OwnedFd,
    connection: GuestConnection,
    path: PathBuf,
}

fn memory(bytes: u64) -> OwnedFd {
    let fd = memfd_create("guest", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&fd, bytes).unwrap();
    fd
}

impl Guest {
    fn try_log_on(cpd: &Cpd, user: &str) -> Result<Self, ProtoError> {
        let ram = memory(STORAGE);
        let counters = memory(COUNTERS_BYTES as u64);
        let states = memory(STORAGE / 4096);
        let connection = GuestConnection::log_on(
            &cpd.path,
            user,
            STORAGE,
            2,
            [ram.as_fd(), counters.as_fd(), states.as_fd()],
            None,
        )?;
        // What does not come is a failure, and no reason to wait for ever.
        set_socket_timeout(&connection, Timeout::Recv, Some(EVENT_LIMIT)).unwrap();
        Ok(Self {
            ram,
            states,
            connection,
            path: cpd.path.clone(),
        })
    }

    fn log_on(cpd: &Cpd, user: &str) -> Self {
        Self::try_log_on(cpd, user).unwrap()
    }

    fn cpu(&self, cpu: u32) -> CpuConnection {
        CpuConnection::open(&self.path, self.connection.session(), cpu).unwrap()
    }
}

/// Waits until a command gives that return code.
fn overview(cpd: &Cpd) -> Overview {
    match cpd.operator().call(&Request::Overview).unwrap() {
        Reply::Overview(overview) => *overview,
        other => panic!("{other:?}"),
    }
}

fn wait_for(operator: &mut Connection, text: &str, rc: u32) {
    let end = Instant::now() + Duration::from_secs(10);
    while operator.command(text).unwrap().rc != rc {
        assert!(Instant::now() < end, "{text} does not come to {rc}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn refusal(result: Result<Guest, ProtoError>) -> String {
    match result {
        Err(ProtoError::Refused(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn guests_log_on_and_off() {
    let (directory, cpd) = system();
    assert_eq!(
        fs::metadata(&cpd.path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(
        fs::metadata(directory.path().join("cp"))
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o700
    );

    let linux01 = Guest::log_on(&cpd, "LINUX01");
    assert_eq!(linux01.connection.system(), "COOPMEM");
    let _linux02 = Guest::log_on(&cpd, "LINUX02");
    assert_eq!(
        refusal(Guest::try_log_on(&cpd, "LINUX01")),
        "user ID LINUX01 is already logged on"
    );
    assert!(refusal(Guest::try_log_on(&cpd, "linux03")).contains("lower-case"));
    assert!(refusal(Guest::try_log_on(&cpd, "LINUX0003")).contains("at most 8"));

    let mut operator = cpd.operator();
    assert_eq!(
        operator.command("query names").unwrap().lines,
        ["LINUX01  - DSC , LINUX02  - DSC "]
    );
    drop(linux01);
    wait_for(&mut operator, "query linux01", 45);
    Guest::log_on(&cpd, "LINUX01");
}

#[test]
fn memory_is_checked_at_logon() {
    let (_directory, cpd) = system();
    let log_on = |[ram, counters, states]: [&OwnedFd; 3], bytes, cpus| match GuestConnection::log_on(
        &cpd.path,
        "LINUX01",
        bytes,
        cpus,
        [ram.as_fd(), counters.as_fd(), states.as_fd()],
        None,
    ) {
        Err(ProtoError::Refused(reason)) => reason,
        other => panic!("{other:?}"),
    };
    let (ram, counters) = (memory(STORAGE), memory(COUNTERS_BYTES as u64));
    let states = memory(STORAGE / 4096);
    let null: OwnedFd = fs::File::open("/dev/null").unwrap().into();
    assert_eq!(
        log_on([&null, &counters, &states], STORAGE, 1),
        "the guest's storage is not a memfd"
    );
    assert_eq!(
        log_on([&ram, &null, &states], STORAGE, 1),
        "the guest's page of counters is not a memfd"
    );
    assert_eq!(
        log_on([&ram, &counters, &null], STORAGE, 1),
        "the guest's table of page states is not a memfd"
    );
    assert!(log_on([&ram, &counters, &memory(STORAGE)], 2 * STORAGE, 1).contains("does not fit"));
    assert!(log_on([&ram, &memory(8), &states], STORAGE, 1).contains("does not fit"));
    assert!(log_on([&ram, &counters, &memory(8)], STORAGE, 1).contains("does not fit"));
    assert!(log_on([&ram, &counters, &states], 4095, 1).contains("multiple of 4096"));
    assert!(log_on([&ram, &counters, &states], STORAGE, 0).contains("0 virtual CPUs"));

    let socket = Socket::connect(&cpd.path).unwrap();
    socket
        .send(&Hello::new(Role::Guest {
            user_id: "LINUX01".into(),
            storage_bytes: STORAGE,
            cpus: 1,
            saved: None,
        }))
        .unwrap();
    let Welcome::Refused { reason } = socket.receive().unwrap() else {
        panic!("let in without memory")
    };
    assert!(reason.starts_with("0 file descriptors"), "{reason}");
}

#[test]
fn commands_have_their_codes() {
    let (_directory, cpd) = system();
    let guest = Guest::log_on(&cpd, "LINUX01");
    let mut cpu = guest.cpu(0);
    assert_eq!(
        cpu.command("QUERY USERID").unwrap().lines,
        ["LINUX01  AT COOPMEM"]
    );
    let response = cpu.command("FROBNICATE 1\nQUERY V STOR").unwrap();
    assert_eq!(response.rc, 1);
    assert_eq!(
        response.lines,
        ["HCPCMD001E Unknown CP command: FROBNICATE", "STORAGE = 16M"]
    );
    assert_eq!(cpu.command("SMSG NOBODY HELLO").unwrap().rc, 45);
    assert_eq!(cpu.command("SMSG LINUX01 HELLO").unwrap().rc, 57);
    assert_eq!(cpu.command("SMSG LINUX01").unwrap().rc, 26);
    assert_eq!(cpu.command("FORCE LINUX01").unwrap().rc, 1);
    assert!(
        matches!(cpu.command(&"x".repeat(241)), Err(ProtoError::Refused(reason)) if reason.contains("at most 240"))
    );
    assert!(matches!(
        cpu.command("QUERY \u{20ac}"),
        Err(ProtoError::Refused(_))
    ));
    assert_eq!(cpu.command("QUERY CPLEVEL").unwrap().lines.len(), 3);
}

#[test]
fn states_are_those_of_the_guest_with_what_the_host_knows() {
    let (_directory, cpd) = system();
    let guest = Guest::log_on(&cpd, "LINUX01");
    // Stable, resident; stable and no-DAT; unused, resident; discarded; volatile; preserved.
    pwrite(&guest.states, &[0x00, 0x20, 0x04, 0x0f, 0x0c, 0x02], 0).unwrap();
    for page in [0, 2, 4] {
        pwrite(&guest.ram, b"x", page * 4096).unwrap();
    }
    let user_id = UserId::new("LINUX01").unwrap();
    let request = Request::States { user_id };
    let Reply::States(table) = cpd.operator().call(&request).unwrap() else {
        panic!("no states")
    };
    assert_eq!(table.total(), STORAGE / 4096);
    for (usage, content, pages) in [
        (Usage::Stable, Content::Resident, 1),
        (Usage::Stable, Content::Preserved, 1),
        (Usage::Stable, Content::Zero, STORAGE / 4096 - 5),
        (Usage::Unused, Content::Resident, 1),
        (Usage::Volatile, Content::Resident, 1),
        (Usage::Volatile, Content::Zero, 1),
        (Usage::PotentiallyVolatile, Content::Resident, 0),
    ] {
        assert_eq!(table[(usage, content)], pages, "{usage:?} {content:?}");
    }
    assert!(matches!(
        guest.cpu(0).call(&request).unwrap(),
        Reply::Failed { .. }
    ));
    // A table that is too short is no reason to fail.
    ftruncate(&guest.states, 0).unwrap();
    assert!(matches!(
        cpd.operator().call(&request).unwrap(),
        Reply::States(table) if table.total() == 0
    ));
    drop(guest);
    wait_for(&mut cpd.operator(), "query linux01", 45);
    assert!(matches!(
        cpd.operator().call(&request).unwrap(),
        Reply::Failed { reason } if reason == "LINUX01 is not logged on"
    ));
}

/// Who takes pages waits until the guest has given them up; nobody else does.
#[test]
fn taking_pages_waits_for_the_guest_only() {
    let (_directory, cpd) = system();
    let guest = Guest::log_on(&cpd, "LINUX01");
    let user_id = UserId::new("LINUX01").unwrap();
    let selection = Selection {
        pages: 16,
        only: Some(Usage::Volatile),
        volatile_share: Selection::ALL,
        random: None,
    };
    pwrite(&guest.ram, &[1; 8192], 0).unwrap();
    thread::scope(|scope| {
        let take = || scope.spawn(|| cpd.operator().take(user_id, selection).unwrap());
        let taker = take();
        let Event::Take { id, selection: got } = guest.connection.event().unwrap() else {
            panic!("the guest is not told")
        };
        assert_eq!(got, selection);
        // It takes its time, and everything else goes on.
        assert_eq!(cpd.operator().command("query names").unwrap().rc, 0);
        assert!(!taker.is_finished());
        let taken = Taken {
            unused: 0,
            volatile: 1,
        };
        fallocate(
            &guest.ram,
            FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
            0,
            4096,
        )
        .unwrap();
        // What nobody asked for is of no interest.
        let report = |id| {
            guest
                .connection
                .report(&Report::Taken { id, taken })
                .unwrap()
        };
        report(id + 1);
        report(id);
        report(id);
        assert_eq!(
            taker.join().unwrap(),
            Reply::Taken {
                taken,
                before: 2,
                after: 1
            }
        );
        let taker = take();
        assert!(matches!(guest.connection.event(), Ok(Event::Take { .. })));
        guest.connection.shut_down();
        assert!(matches!(taker.join().unwrap(), Reply::Failed { .. }));
    });
    let request = Request::Take { user_id, selection };
    let other = Guest::log_on(&cpd, "LINUX02");
    assert!(matches!(
        other.cpu(0).call(&request).unwrap(),
        Reply::Failed { .. }
    ));
}

/// A block of one record, and the record.
fn tmem_block(epoch: &[u8], record: &[(usize, &[u8])]) -> Vec<u8> {
    let mut block = vec![0; tmem::BLOCK_LENGTH];
    block[..12].copy_from_slice(b"TMEM\0\x01\0\x40\0\x40\0\x01");
    block[16..24].copy_from_slice(epoch);
    for &(at, bytes) in record {
        block[64 + at..64 + at + bytes.len()].copy_from_slice(bytes);
    }
    block
}

/// Return code, block and frames stored to.
fn tmem_call(cpu: &mut CpuConnection, function: Function, block: Vec<u8>) -> Tmem {
    match cpu.call(&Request::Tmem { function, block }).unwrap() {
        Reply::Tmem(outcome) => outcome,
        other => panic!("{other:?}"),
    }
}

#[test]
fn pages_go_to_the_store_and_come_back_until_a_reset() {
    let (_directory, cpd) = system();
    let guest = Guest::log_on(&cpd, "LINUX01");
    let mut cpu = guest.cpu(0);
    let query = tmem_call(&mut cpu, Function::Query, tmem_block(&[0; 8], &[]));
    let epoch = query.block[16..24].to_vec();
    let create = tmem_block(&epoch, &[(7, &[1]), (9, &[12])]);
    let created = tmem_call(&mut cpu, Function::PoolCreate, create);
    let pool = created.block[64..68].to_vec();
    let entry = |op: u8, frame: u8| {
        let op = [(1, &[op][..]), (4, &pool), (46, &[frame << 4]), (51, &[1])];
        tmem_block(&epoch, &op)
    };
    let content = [0x5a; 4096];
    pwrite(&guest.ram, &content, 0x3000).unwrap();
    let (put, get) = (entry(1, 3), entry(2, 4));
    let put = tmem_call(&mut cpu, Function::Batch, put);
    assert_eq!((put.rc, put.block[67], put.stored), (0, 0, vec![]));

    let mut operator = cpd.operator();
    let list = Request::Pools(Pools::List(None));
    let Reply::Pools(listing) = operator.call(&list).unwrap() else {
        panic!("no listing")
    };
    assert_eq!((listing.used, listing.guests[0].pools[0].pages), (1, 1));
    let Overview { frames, guests, .. } = overview(&cpd);
    assert_eq!(frames.tmem_ephemeral + frames.tmem_persistent, 1);
    assert_eq!(guests[0].tmem_frames, 1);

    let got = tmem_call(&mut cpu, Function::Batch, get.clone());
    assert_eq!((got.rc, got.block[67]), (0, 0));
    assert_eq!(got.stored, [Frames::new(0x4000, 1).unwrap()]);
    let mut bytes = [0; 4096];
    pread(&guest.ram, &mut bytes, 0x4000).unwrap();
    assert_eq!(bytes, content);

    assert_eq!(cpu.call(&Request::Reset).unwrap(), Reply::Done);
    assert_eq!(
        tmem_call(&mut cpu, Function::Batch, get).rc,
        0x16,
        "another epoch"
    );
    let Reply::Pools(listing) = operator.call(&list).unwrap() else {
        panic!("no listing")
    };
    assert_eq!((listing.used, listing.guests[0].pools.len()), (0, 0));

    // Each has its own requests, and a block is a block.
    let failed = |reply| matches!(reply, Reply::Failed { .. });
    assert!(failed(cpu.call(&list).unwrap()));
    let request = |length| Request::Tmem {
        function: Function::Query,
        block: vec![0; length],
    };
    assert!(failed(operator.call(&request(4096)).unwrap()));
    assert!(failed(cpu.call(&request(4095)).unwrap()));
    drop(guest);
    wait_for(&mut operator, "query linux01", 45);
    let Reply::Pools(listing) = operator.call(&list).unwrap() else {
        panic!("no listing")
    };
    assert!(listing.guests.is_empty());
}

#[test]
fn without_a_store_the_code_is_unknown() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cp/cp.sock");
    let cpd = Cpd::start_with(&path, &["--tmem", "off"]);
    let guest = Guest::log_on(&cpd, "LINUX01");
    let mut cpu = guest.cpu(0);
    let request = Request::Tmem {
        function: Function::Query,
        block: tmem_block(&[0; 8], &[]),
    };
    assert_eq!(cpu.call(&request).unwrap(), Reply::Program { code: 6 });
    assert_eq!(cpu.command("QUERY TMEM").unwrap().rc, 45);
    assert!(matches!(
        cpd.operator().call(&Request::Pools(Pools::List(None))).unwrap(),
        Reply::Failed { reason } if reason.contains("--tmem off")
    ));
}

#[test]
fn residency_is_what_the_host_says() {
    let (_directory, cpd) = system();
    let guest = Guest::log_on(&cpd, "LINUX01");
    let mut operator = cpd.operator();
    let mut resident = || {
        let lines = operator.command("indicate user linux01").unwrap().lines;
        let pages = lines
            .iter()
            .find_map(|line| line.strip_prefix("PAGES: RES="))
            .unwrap();
        let pages: u64 = pages[..8].parse().unwrap();
        let spaces = operator
            .command("indicate spaces user linux01")
            .unwrap()
            .lines;
        assert!(
            spaces[1].starts_with(&format!("Pages: Main={pages} ")),
            "{spaces:?}"
        );
        let user_id = Some(UserId::new("LINUX01").unwrap());
        let Reply::Accounting(records) = operator.call(&Request::Accounting { user_id }).unwrap()
        else {
            panic!()
        };
        assert_eq!(
            (records[0].resident_kib, records[0].storage_kib),
            (pages * 4, STORAGE >> 10)
        );
        pages
    };
    assert_eq!(resident(), 0);
    pwrite(&guest.ram, &vec![1; 1 << 20], 0).unwrap();
    assert_eq!(resident(), 256);
    fallocate(
        &guest.ram,
        FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
        0,
        4096 * 100,
    )
    .unwrap();
    assert_eq!(resident(), 156);
}

const QUERY: u64 = 0;
const RECEIVE: u64 = 5;
const CONNECT: u64 = 11;
const DECLARE_BUFFER: u64 = 12;

fn iucv(cpu: &mut CpuConnection, function: u64, plist: [u8; 40]) -> Iucv {
    cpu.iucv(function, Plist(plist)).unwrap().unwrap()
}

/// The parameter list that connects to *MSG.
fn msg_service() -> [u8; 40] {
    let mut connect = [0; 40];
    connect[5] = 255;
    connect[8..16].copy_from_slice(&ebcdic::padded::<8>("*MSG"));
    connect
}

/// The next interrupt; none of those before it is retracted in time.
fn interrupt(guest: &Guest) -> [u8; 40] {
    loop {
        match guest.connection.event().unwrap() {
            Event::Interrupt { buffer, .. } => return buffer.0,
            Event::Retract { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

/// What `smsgiucv` of Linux does when it is loaded, but for `SET SMSG IUCV`; gives the path.
fn connect_to_msg(guest: &Guest, cpu: &mut CpuConnection) -> [u8; 2] {
    iucv(cpu, DECLARE_BUFFER, [0; 40]);
    let connected = iucv(cpu, CONNECT, msg_service());
    assert_eq!(connected.cc, 0);
    let path = [connected.plist.0[0], connected.plist.0[1]];
    let complete = interrupt(guest);
    assert_eq!((complete[3], &complete[..2]), (2, &path[..]));
    path
}

/// Who has sent a special message, and its text, by way of the guest's storage.
fn special_message(guest: &Guest, cpu: &mut CpuConnection, path: [u8; 2]) -> String {
    let pending = interrupt(guest);
    assert_eq!(pending[3], 9, "message pending");
    let length = u32::from_be_bytes(pending[0x10..0x14].try_into().unwrap()) as usize;
    let mut receive = [0; 40];
    receive[..2].copy_from_slice(&path);
    receive[2] = 0x07;
    receive[4..8].copy_from_slice(&pending[4..8]);
    receive[8..12].copy_from_slice(&pending[8..12]);
    receive[0x0c..0x10].copy_from_slice(&0x3000_u32.to_be_bytes());
    receive[0x10..0x14].copy_from_slice(&100_u32.to_be_bytes());
    assert_eq!(iucv(cpu, RECEIVE, receive).cc, 0);
    let mut received = vec![0; length];
    pread(&guest.ram, &mut received[..], 0x3000).unwrap();
    ebcdic::to_string(&received)
}

/// What `smsgiucv` of Linux does, up to the text in the guest's storage.
#[test]
fn smsg_reaches_the_guest() {
    let (_directory, cpd) = system();
    let guest = Guest::log_on(&cpd, "LINUX01");
    let mut cpu = guest.cpu(0);
    assert_eq!(
        cpu.iucv(CONNECT, Plist([0; 40])).unwrap(),
        Err(1),
        "an operation exception without a buffer"
    );
    assert_eq!(iucv(&mut cpu, QUERY, [0; 40]).r0, Some(40));
    let path = connect_to_msg(&guest, &mut cpu);

    let mut operator = Connection::operator(&cpd.path, "VMRMSVM").unwrap();
    let mut smsg = |text| operator.command(text).unwrap().rc;
    assert_eq!(smsg("SMSG LINUX01 CMM SHRINK 20000"), 57);
    assert_eq!(cpu.command("SET SMSG IUCV").unwrap().rc, 0);
    assert_eq!(smsg("SMSG LINUX01 CMM SHRINK 20000"), 0);
    assert_eq!(
        special_message(&guest, &mut cpu, path),
        "VMRMSVM CMM SHRINK 20000"
    );

    // 255 may wait, no more.
    for n in 0..255 {
        assert_eq!(operator.command("SMSG LINUX01 X").unwrap().rc, 0, "{n}");
    }
    assert_eq!(operator.command("SMSG LINUX01 X").unwrap().rc, 57);

    assert_eq!(cpu.call(&Request::Reset).unwrap(), Reply::Done);
    // All that concerns the past has been sent by then.
    rustix::net::recv(
        &guest.connection,
        &mut [0; 256],
        rustix::net::RecvFlags::DONTWAIT,
    )
    .unwrap();
    assert_eq!(
        cpu.iucv(CONNECT, Plist(msg_service())).unwrap(),
        Err(1),
        "no buffer after a reset"
    );
    assert_eq!(
        operator.command("SMSG LINUX01 X").unwrap().lines,
        ["HCPMFS057E LINUX01 not receiving; SMSG OFF"]
    );
}

/// Frames are short, since more are to be available than there are.
#[test]
fn vmrm_tells_guests_to_release_memory() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("vmrm.conf");
    let configure = |notify: &str| {
        let text = format!(
            "ADMIN MSGUSER ADMIN\n{notify}\nMEMORY INTERVAL 1\nMEMORY FLOOR 4M\nMEMORY AVAILABLE 99 100\n"
        );
        fs::write(&file, text).unwrap();
    };
    let path = directory.path().join("cp/cp.sock");
    let options = ["--vmrm", file.to_str().unwrap()];
    configure("NOTIFY LINUX01");
    let wrong = command(&path).args(options).output().unwrap();
    let complaint = String::from_utf8(wrong.stderr).unwrap();
    assert!(
        complaint.contains("vmrm.conf: line 2: NOTIFY LINUX01 is no statement"),
        "{complaint}"
    );

    configure("NOTIFY MEMORY LINUX*");
    let mut cpd = Cpd::start_with(&path, &options);
    let mut log = BufReader::new(cpd.child.stderr.take().unwrap()).lines();
    let mut logged = |text: &str| {
        log.find(|line| line.as_ref().unwrap().contains(text))
            .unwrap()
    };
    let admin = Guest::log_on(&cpd, "ADMIN");
    let [(linux, mut cpu, msg), (other, ..)] = ["LINUX01", "DB01"].map(|user| {
        let guest = Guest::log_on(&cpd, user);
        pwrite(&guest.ram, &vec![1; STORAGE as usize / 2], 0).unwrap();
        let mut cpu = guest.cpu(0);
        let path = connect_to_msg(&guest, &mut cpu);
        assert_eq!(cpu.command("SET SMSG IUCV").unwrap().rc, 0);
        (guest, cpu, path)
    });
    // All but its floor.
    let shrink = "VMRMSVM CMM SHRINK 3072";
    assert_eq!(special_message(&linux, &mut cpu, msg), shrink);
    let Event::Console { text } = admin.connection.event().unwrap() else {
        panic!("the administrator is not told")
    };
    for line in [text, logged("SHRINK").unwrap()] {
        assert!(
            line.contains("LINUX01 CMM SHRINK 3072, was 0: constraint "),
            "{line}"
        );
        assert!(
            line.ends_with("resident=2048 preserved=0 floor=1024 share=1024"),
            "{line}"
        );
    }

    let seen = overview(&cpd);
    assert_eq!(
        (seen.system.as_str(), seen.frames.guests),
        ("COOPMEM", 4096)
    );
    assert!(seen.frames.all > seen.frames.available && seen.time_us > 0);
    let [_, db01, linux01] = &seen.guests[..] else {
        panic!("{seen:?}")
    };
    assert_eq!((linux01.storage, linux01.resident), (4096, 2048));
    assert_eq!(linux01.states[(Usage::Stable, Content::Resident)], 2048);
    assert_eq!((linux01.asked, db01.asked), (Some(3072), None));
    assert!(linux01.cpu_time_us > 0);
    let [decision] = &seen.decisions[..] else {
        panic!("{seen:?}")
    };
    assert!(decision.starts_with("LINUX01 CMM SHRINK 3072, was 0: "));
    assert!(matches!(
        cpu.call(&Request::Overview).unwrap(),
        Reply::Failed { .. }
    ));

    // A wrong file changes nothing. After a reset it has released nothing, and takes no messages.
    let hang_up = |cpd: &Cpd| {
        let pid = Pid::from_raw(i32::try_from(cpd.child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::HUP).unwrap();
    };
    configure("NOTIFY MEMORY");
    hang_up(&cpd);
    logged("line 2: the statement ends too early: it needs user IDs").unwrap();
    assert_eq!(cpu.call(&Request::Reset).unwrap(), Reply::Done);
    let msg = connect_to_msg(&linux, &mut cpu);
    assert_eq!(cpu.command("SET SMSG IUCV").unwrap().rc, 0);
    assert_eq!(special_message(&linux, &mut cpu, msg), shrink);

    // What it does not name any more, it gives back.
    configure("NOTIFY MEMORY WEB*");
    hang_up(&cpd);
    logged("was read again").unwrap();
    let shrink = "VMRMSVM CMM SHRINK 0";
    assert_eq!(special_message(&linux, &mut cpu, msg), shrink);
    rustix::net::recv(
        &other.connection,
        &mut [0; 256],
        rustix::net::RecvFlags::DONTWAIT,
    )
    .unwrap_err();
}

#[test]
fn cpus_need_the_session_of_their_guest() {
    let (_directory, cpd) = system();
    let guest = Guest::log_on(&cpd, "LINUX01");
    let open = |session, cpu| match CpuConnection::open(&cpd.path, session, cpu) {
        Err(ProtoError::Refused(reason)) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        open(Session([0; 16]), 0),
        "no guest with this session is logged on"
    );
    let session = guest.connection.session();
    assert!(open(session, 2).starts_with("CPU 2 is not one of the guest's"));
    let first = guest.cpu(0);
    assert!(open(session, 0).contains("connected already"));
    let mut second = guest.cpu(1);
    drop(first);
    drop(guest);
    // Whatever comes first, the end of the connection or the answer: CPUs do not outlive their guest.
    wait_for(&mut cpd.operator(), "query linux01", 45);
    assert!(second.command("QUERY USERID").is_err());
}

#[test]
fn force_and_messages_reach_guests() {
    let (_directory, cpd) = system();
    let guest = Guest::log_on(&cpd, "LINUX01");
    let mut operator = cpd.operator();
    operator.command("msg linux01 Hello\u{1b}[2J").unwrap();
    let Event::Console { text } = guest.connection.event().unwrap() else {
        panic!()
    };
    assert!(text.ends_with("  * MSG FROM OPERATOR: Hello [2J"), "{text}");
    assert_eq!(operator.command("force linux01").unwrap().rc, 0);
    let Event::Logoff { reason } = guest.connection.event().unwrap() else {
        panic!()
    };
    assert!(reason.contains("FORCED BY OPERATOR"), "{reason}");
    assert!(matches!(guest.connection.event(), Err(ProtoError::Closed)));
    assert_eq!(operator.command("query linux01").unwrap().rc, 45);
    // The ID is free at once, though the old process lives.
    let _again = Guest::log_on(&cpd, "LINUX01");
    drop(guest);
    assert_eq!(operator.command("query linux01").unwrap().rc, 0);
}

#[test]
fn a_guest_that_does_not_listen_is_logged_off_and_hurts_nobody() {
    let (_directory, cpd) = system();
    let _deaf = Guest::log_on(&cpd, "LINUX01");
    let mut operator = cpd.operator();
    let sent =
        (0..100_000).find(|_| operator.command("msgnoh linux01 are you there").unwrap().rc != 0);
    assert!(sent.is_some_and(|sent| sent > 1000), "{sent:?}");
    assert_eq!(operator.command("query linux01").unwrap().rc, 45);
}

#[test]
fn hostile_clients_are_refused_and_change_nothing() {
    let (_directory, cpd) = system();
    let mut operator = cpd.operator();
    let refused = |hello: &dyn Fn(&Socket)| {
        let socket = Socket::connect(&cpd.path).unwrap();
        hello(&socket);
        match socket.receive::<Welcome>() {
            Ok(Welcome::Refused { reason }) => reason,
            other => panic!("{other:?}"),
        }
    };
    assert!(refused(&|socket| socket.send(&(99_u32, "future")).unwrap()).contains("version 99"));
    assert!(refused(&|socket| socket.send(&[0xff_u8; 32]).unwrap()).contains("malformed"));
    assert!(
        refused(&|socket| socket
            .send(&Hello::new(Role::Operator {
                user_id: "*".into()
            }))
            .unwrap())
        .contains("'*'")
    );
    for _ in 0..50 {
        drop(Socket::connect(&cpd.path).unwrap());
    }
    assert!(matches!(
        operator
            .call(&Request::Iucv {
                function: 0,
                plist: Plist([0; 40])
            })
            .unwrap(),
        Reply::Failed { .. }
    ));
    assert!(matches!(
        operator.call(&Request::Reset).unwrap(),
        Reply::Failed { .. }
    ));
    assert_eq!(
        operator.command("query users").unwrap().lines,
        ["     0 USERS,     0 DIALED,     0 NET"]
    );
}

#[test]
fn one_cpd_at_a_time_and_none_is_forgotten() {
    let (directory, mut cpd) = system();
    let second = command(&cpd.path).output().unwrap();
    assert!(!second.status.success());
    assert_eq!(
        String::from_utf8(second.stderr).unwrap(),
        format!("cpd: another cpd is listening on {}\n", cpd.path.display())
    );

    // Killed: its guests see it, its socket is stale and replaced.
    let guest = Guest::log_on(&cpd, "LINUX01");
    cpd.signal(Signal::KILL);
    assert!(matches!(guest.connection.event(), Err(ProtoError::Closed)));
    assert!(cpd.path.exists());
    let mut cpd = Cpd::start(&cpd.path.clone());

    // Asked to end: guests are told, nothing is left.
    let guest = Guest::log_on(&cpd, "LINUX01");
    assert_eq!(cpd.signal(Signal::TERM), Some(0));
    assert_eq!(
        guest.connection.event().unwrap(),
        Event::Logoff {
            reason: "the system shuts down".into()
        }
    );
    assert_eq!(
        fs::read_dir(directory.path().join("cp")).unwrap().count(),
        0
    );
}
