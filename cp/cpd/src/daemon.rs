// SPDX-License-Identifier: GPL-2.0

//! One system and those who are connected to it. A thread serves each connection.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use cp_core::UserId;
use cp_core::iucv::system as iucv;
use cp_core::paging::AgeList;
use cp_core::respond::{HostView, Usage};
use cp_core::system::{Authority, Caller, Effect, Host, System};
use cp_core::tmem::{ClientId, Function, SaveId};
use cp_proto::{
    Event, Listener, MAX_COMMAND, Pools, ProtoError, Reply, Report, Request, Response, Role,
    Selection, Session, Socket, TAKE_LIMIT, Welcome,
};
use rustix::rand::{GetRandomFlags, getrandom};
use thiserror::Error;
use time::OffsetDateTime;

use crate::accounting;
use crate::guest::{Guest, Resources};
use crate::host::Machine;
use crate::overview;
use crate::ram::RamError;
use crate::real::{Guests, RealMemory};
use crate::tmem::{self, TmemStore};

/// How long a client may take to say who it is, and how long a reply may stay unread.
const CLIENT_LIMIT: Duration = Duration::from_secs(5);

/// How long accepting rests after it failed: there are no descriptors or no memory left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const NO_TMEM: &str = "there is no transcendent memory: cpd was started with --tmem off";

/// How many of VMRM's decisions are kept to be shown.
const DECISIONS: usize = 8;

/// How long guests may take to read that the system shuts down.
const FAREWELL_LIMIT: Duration = Duration::from_secs(1);

/// A system.
#[derive(Debug)]
pub struct Daemon {
    core: Mutex<Core>,
}

/// Everything there is one of. No call under its lock waits for anybody.
#[derive(Debug)]
pub struct Core {
    pub system: System,
    iucv: iucv::System,
    pub machine: Machine,
    /// `None` if there is no transcendent memory.
    pub tmem: Option<Arc<TmemStore>>,
    /// `None` if real memory is the host's, with all that it can do to get more.
    pub real: Option<Arc<RealMemory>>,
    pub guests: BTreeMap<UserId, Guest>,
    /// What VMRM has decided lately, the oldest first.
    pub decisions: VecDeque<String>,
}

/// Why a client is not let in.
#[derive(Debug, Error)]
enum Refusal {
    #[error(transparent)]
    LogOn(#[from] cp_core::system::LogOnError),
    #[error(transparent)]
    UserId(#[from] cp_core::user_id::UserIdError),
    #[error(transparent)]
    Memory(#[from] RamError),
    #[error("{0}")]
    Hello(#[from] ProtoError),
    #[error(
        "{0} file descriptors came with the hello of a guest, which needs 3: storage, counters and page states"
    )]
    Descriptors(usize),
    #[error("no guest with this session is logged on")]
    Session,
    #[error("CPU {0} is not one of the guest's, or is connected already")]
    Cpu(u32),
    #[error("no thread to serve the guest: {0}")]
    Thread(#[from] std::io::Error),
    #[error("no random number for the session: {0}")]
    Random(rustix::io::Errno),
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub enum Client {
    /// A virtual CPU.
    Cpu {
        /// Of this guest.
        user: UserId,
        /// Of this session of the guest.
        session: Session,
        /// At this address.
        cpu: u32,
    },
    /// An operator who acts as this user.
    Operator(UserId),
}

impl Client {
    pub fn caller(self) -> Caller {
        match self {
            Self::Cpu { user, .. } => Caller {
                user,
                authority: Authority::General,
            },
            Self::Operator(user) => Caller {
                user,
                authority: Authority::Operator,
            },
        }
    }
}

impl Daemon {
    /// A system nobody is logged on to.
    pub fn new(name: UserId, tmem: Option<Arc<TmemStore>>, real: Option<Arc<RealMemory>>) -> Self {
        let system = System::new(name, OffsetDateTime::now_utc());
        Self {
            core: Mutex::new(Core {
                system,
                iucv: iucv::System::new(),
                machine: Machine::new(),
                tmem,
                real,
                guests: BTreeMap::new(),
                decisions: VecDeque::new(),
            }),
        }
    }

    /// Keeps frames available, if they are limited.
    pub fn scan(self: &Arc<Self>) -> io::Result<()> {
        let real = self.lock().real.clone();
        if let Some(real) = real {
            let daemon = Arc::clone(self);
            thread::Builder::new()
                .name("demand scan".into())
                .spawn(move || real.scan(&*daemon))?;
        }
        Ok(())
    }

    /// Serves all who connect, for ever.
    pub fn serve(self: &Arc<Self>, listener: &Listener) -> ! {
        loop {
            match listener.accept() {
                Ok(socket) => {
                    let daemon = Arc::clone(self);
                    let served = thread::Builder::new().spawn(move || daemon.serve_client(socket));
                    if let Err(error) = served {
                        tracing::warn!("a connection is given up: {error}");
                    }
                }
                Err(error) => {
                    tracing::warn!("{error}");
                    thread::sleep(ACCEPT_PAUSE);
                }
            }
        }
    }

    /// Logs all guests off but those that have been saved, which wait for another `cpd`.
    pub fn shut_down(&self, reason: &str) {
        let mut core = self.lock();
        let users: Vec<_> = core
            .guests
            .keys()
            .copied()
            .filter(|&user| !core.is_saved(user))
            .collect();
        let told: Vec<_> = users
            .into_iter()
            .filter_map(|user| core.log_off(user, reason))
            .collect();
        drop(core);
        // They stop even if they are not told, since their connections end with this process.
        let end = Instant::now() + FAREWELL_LIMIT;
        while Instant::now() < end && !told.iter().all(JoinHandle::is_finished) {
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// A thread that panicked is a bug, but no reason to log everybody off.
    pub fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve_client(self: &Arc<Self>, socket: Socket) {
        let limited = socket
            .set_receive_timeout(Some(CLIENT_LIMIT))
            .and_then(|()| socket.set_send_timeout(Some(CLIENT_LIMIT)));
        if limited.is_err() {
            return;
        }
        let socket = Arc::new(socket);
        match self.admit(&socket) {
            Ok(Admitted::Guest(user, session)) => self.watch_guest(&socket, user, session),
            Ok(Admitted::Client(client)) => {
                let served = self.serve_requests(&socket, client);
                tracing::debug!("{client:?}: {served:?}");
                if let Client::Cpu { user, session, cpu } = client {
                    self.lock().forget_cpu(user, session, cpu);
                }
            }
            // Somebody only looked whether we are there.
            Err(Refusal::Hello(ProtoError::Closed)) => {}
            Err(refusal) => {
                tracing::warn!("refused: {refusal}");
                // It is refused whether it gets to know it or not.
                let _ = socket.send(&Welcome::Refused {
                    reason: refusal.to_string(),
                });
            }
        }
    }

    /// Reads the hello; if all is well, says welcome.
    fn admit(&self, socket: &Arc<Socket>) -> Result<Admitted, Refusal> {
        let (hello, fds) = socket.receive_hello()?;
        let (admitted, session) = match hello.role {
            Role::Guest {
                user_id,
                storage_bytes,
                cpus,
                saved,
            } => {
                let fds: [OwnedFd; 3] = fds
                    .try_into()
                    .map_err(|fds: Vec<_>| Refusal::Descriptors(fds.len()))?;
                let resources = Resources::new(fds, storage_bytes, socket.peer_pid()?)?;
                let session = new_session()?;
                let mut core = self.lock();
                let user =
                    core.system
                        .log_on(&user_id, storage_bytes, cpus, OffsetDateTime::now_utc())?;
                // Under the lock, so that the welcome is before all events. A fresh socket has room for it.
                let welcome = Welcome::Accepted {
                    system: core.system.name().into(),
                    session,
                    paging: core.real.is_some(),
                };
                let guest = socket
                    .send(&welcome)
                    .map_err(Refusal::from)
                    .and_then(|()| Ok(Guest::new(user, session, resources, Arc::clone(socket))?));
                match guest {
                    Ok(guest) => core.add(user, guest, saved),
                    Err(refusal) => {
                        core.system.log_off(user);
                        return Err(refusal);
                    }
                };
                tracing::info!("{user} logged on: {} MiB, {cpus} CPUs", storage_bytes >> 20);
                return Ok(Admitted::Guest(user, session));
            }
            Role::Cpu { session, cpu } => {
                let user = self.lock().add_cpu(session, cpu, socket)?;
                (
                    Admitted::Client(Client::Cpu { user, session, cpu }),
                    session,
                )
            }
            Role::Operator { user_id } => (
                Admitted::Client(Client::Operator(UserId::new(&user_id)?)),
                new_session()?,
            ),
        };
        let system = self.lock().system.name().into();
        socket.send(&Welcome::Accepted {
            system,
            session,
            paging: false,
        })?;
        Ok(admitted)
    }

    /// Takes in what a guest reports, until its connection ends.
    fn watch_guest(self: &Arc<Self>, socket: &Socket, user: UserId, session: Session) {
        let ended = socket.set_receive_timeout(None).and_then(|()| {
            loop {
                let (report, fds) = socket.receive_with()?;
                if let Report::Paging { address } = report {
                    if let Err(reason) = self.page(user, session, address, fds) {
                        return Err(ProtoError::Refused(reason));
                    }
                    continue;
                }
                let mut core = self.lock();
                if let Some(guest) = core
                    .guests
                    .get_mut(&user)
                    .filter(|guest| guest.session == session)
                {
                    guest.reported(&report);
                }
            }
        });
        let reason = match ended {
            Ok(never) => never,
            Err(ProtoError::Closed) => "its process has ended".into(),
            Err(error) => error.to_string(),
        };
        let mut core = self.lock();
        if core
            .guests
            .get(&user)
            .is_some_and(|guest| guest.session == session)
        {
            core.log_off(user, &reason);
            core.deliver();
        }
    }

    /// Pages the storage of a guest from now on.
    fn page(
        self: &Arc<Self>,
        user: UserId,
        session: Session,
        address: u64,
        fds: Vec<OwnedFd>,
    ) -> Result<(), String> {
        let core = self.lock();
        let guest = core
            .guests
            .get(&user)
            .filter(|guest| guest.session == session);
        let (Some(real), Some(guest)) = (&core.real, guest) else {
            return Err("its storage is not paged".into());
        };
        let guests = Arc::clone(self) as _;
        let pager = real
            .admit(user, &guest.resources, address, fds, guests)
            .map_err(|error| error.to_string())?;
        guest.resources.ram.set_pager(pager);
        Ok(())
    }

    /// Takes pages of a guest. Only who asks for them waits until the guest has given them up.
    fn take(&self, client: Client, user: UserId, selection: Selection) -> Reply {
        if matches!(client, Client::Cpu { .. }) {
            return failed("only operators take pages");
        }
        let resident = |core: &Core| {
            let guest = core.guests.get(&user)?;
            Some(guest.resources.ram.resident_pages())
        };
        let mut core = self.lock();
        let Some(before) = resident(&core) else {
            return not_logged_on(user);
        };
        let Some(taken) = core
            .guests
            .get_mut(&user)
            .and_then(|guest| guest.take(selection))
        else {
            return failed(format!("{user} does not read its events"));
        };
        drop(core);
        match taken.recv_timeout(TAKE_LIMIT) {
            Ok(taken) => Reply::Taken {
                taken,
                before,
                after: resident(&self.lock()).unwrap_or_default(),
            },
            Err(RecvTimeoutError::Disconnected) => not_logged_on(user),
            Err(RecvTimeoutError::Timeout) => failed(format!(
                "{user} has not given the pages up within {} s; it does when it can",
                TAKE_LIMIT.as_secs()
            )),
        }
    }

    /// DIAGNOSE X'1F4'.
    fn tmem(&self, client: Client, function: Function, block: &[u8]) -> Reply {
        let Client::Cpu { user, session, .. } = client else {
            return failed("transcendent memory is for virtual machines only");
        };
        let core = self.lock();
        let guest = core
            .guests
            .get(&user)
            .filter(|guest| guest.session == session);
        let Some(store) = core.tmem.clone() else {
            return tmem::absent();
        };
        let Some((client, ram)) =
            guest.and_then(|guest| Some((guest.tmem?, Arc::clone(&guest.resources.ram))))
        else {
            return no_longer(user);
        };
        drop(core);
        // It may log off in between: then its pools are gone.
        store
            .call(client, function, block, &ram)
            .unwrap_or_else(|| no_longer(user))
    }

    /// What an operator does with transcendent memory.
    fn pools(&self, client: Client, request: Pools) -> Reply {
        let store = self.lock().tmem.clone();
        match (client, store) {
            (Client::Cpu { .. }, _) => failed("pools are for operators only"),
            (_, None) => failed(NO_TMEM),
            (_, Some(store)) => store
                .control(request)
                .unwrap_or_else(|refusal| failed(refusal.to_string())),
        }
    }

    /// The store and who a guest is there, for an operator.
    fn pools_of(&self, client: Client, user: UserId) -> Result<(Arc<TmemStore>, ClientId), Reply> {
        let core = self.lock();
        match (client, &core.tmem, core.guests.get(&user)) {
            (Client::Cpu { .. }, ..) => Err(failed("pools are for operators only")),
            (_, None, _) => Err(failed(NO_TMEM)),
            (_, Some(store), Some(&Guest { tmem: Some(id), .. })) => Ok((Arc::clone(store), id)),
            (_, Some(_), _) => Err(not_logged_on(user)),
        }
    }

    /// Stops a guest and saves its pools. It stays stopped if that succeeds.
    fn save(&self, client: Client, user: UserId, path: &Path) -> Reply {
        let (store, client) = match self.pools_of(client, user) {
            Ok(found) => found,
            Err(reply) => return reply,
        };
        let saved = self
            .hold(user)
            .and_then(|()| store.save(client, path).map_err(|error| error.to_string()))
            .and_then(|(save, pages)| {
                // If this cpd ends next, the guest must know what to do.
                self.tell_now(user, Event::Saved { save })?;
                Ok(Reply::Saved { pages })
            });
        saved.unwrap_or_else(|reason| {
            // One that has been saved before stays as it is. One that is too slow goes on as soon as it stops.
            if !store.is_saved(client) {
                let _ = self.tell_now(user, Event::Release);
            }
            failed(reason)
        })
    }

    /// Waits until a guest has stopped that can be saved.
    fn hold(&self, user: UserId) -> Result<(), String> {
        let not_any_more = || format!("{user} is not logged on any more");
        let held = self.lock().guests.get_mut(&user).and_then(Guest::hold);
        match held.ok_or_else(not_any_more)?.recv_timeout(TAKE_LIMIT) {
            Ok(()) if self.lock().real.is_some() => Err(format!(
                "{user} cannot be saved: pages of it are on this system's paging volume"
            )),
            Ok(()) if self.lock().iucv.is_declared(&user) => Err(format!(
                "{user} uses IUCV, whose paths cannot be saved: unload what uses it (cmm and smsgiucv, af_iucv) first"
            )),
            Ok(()) => Ok(()),
            Err(RecvTimeoutError::Disconnected) => Err(not_any_more()),
            Err(RecvTimeoutError::Timeout) => Err(format!(
                "{user} has not stopped within {} s",
                TAKE_LIMIT.as_secs()
            )),
        }
    }

    /// Tells a guest something, and waits until that is on its way.
    fn tell_now(&self, user: UserId, event: Event) -> Result<(), String> {
        let marked = self
            .lock()
            .guests
            .get(&user)
            .and_then(|guest| guest.tell(event).then(|| guest.mark()));
        marked
            .and_then(|marked| marked.recv_timeout(CLIENT_LIMIT).ok())
            .ok_or_else(|| format!("{user} does not read its events"))
    }

    /// Gives a guest that has been saved its pools again, and lets it go on.
    fn restore(&self, client: Client, user: UserId, path: &Path) -> Reply {
        let restored = self.pools_of(client, user).and_then(|(store, client)| {
            store
                .restore(client, path)
                .map_err(|error| failed(error.to_string()))
        });
        restored
            .and_then(|reply| match self.tell_now(user, Event::Release) {
                Ok(()) => Ok(reply),
                Err(reason) => Err(failed(reason)),
            })
            .unwrap_or_else(|reply| reply)
    }

    /// Answers what is done under the lock.
    fn answer(&self, client: Client, request: Request) -> Reply {
        let reset = request == Request::Reset;
        let mut core = self.lock();
        let reply = core.answer(client, request);
        core.deliver();
        let guest = core.guests.get(&client.caller().user);
        let marked = guest.filter(|_| reset).map(Guest::mark);
        drop(core);
        // A guest that is reset goes on when it has been told all that concerns its past. Only its own CPU waits.
        if let Some(marked) = marked {
            let _ = marked.recv_timeout(CLIENT_LIMIT);
        }
        reply
    }

    fn serve_requests(&self, socket: &Socket, client: Client) -> Result<(), ProtoError> {
        socket.set_receive_timeout(None)?;
        loop {
            let reply = match socket.receive()? {
                Request::Take { user_id, selection } => self.take(client, user_id, selection),
                Request::Tmem { function, block } => self.tmem(client, function, &block),
                Request::Pools(request) => self.pools(client, request),
                Request::Save { user_id, path } => self.save(client, user_id, &path),
                Request::Restore { user_id, path } => self.restore(client, user_id, &path),
                Request::Overview => overview::reply(self, client.caller()),
                request => self.answer(client, request),
            };
            match socket.send(&reply) {
                Err(error @ ProtoError::TooLong { .. }) => socket.send(&Reply::Failed {
                    reason: error.to_string(),
                })?,
                sent => sent?,
            }
        }
    }
}

impl Guests for Daemon {
    fn take(&self, pages: &[(UserId, u64)], limit: Duration) {
        let mut core = self.lock();
        let asked: Vec<_> = pages
            .iter()
            .filter_map(|&(user, pages)| {
                let selection = Selection {
                    pages,
                    only: None,
                    volatile_share: Selection::ALL,
                    random: None,
                };
                core.guests.get_mut(&user)?.take(selection)
            })
            .collect();
        drop(core);
        let end = Instant::now() + limit;
        for taken in asked {
            // One that is too slow gives them up when it can.
            let _ = taken.recv_timeout(end.saturating_duration_since(Instant::now()));
        }
    }

    fn sweep(&self) {
        for guest in self.lock().guests.values() {
            // One that does not listen is noticed by others.
            let _ = guest.tell(Event::Sweep);
        }
    }

    fn fail(&self, user: UserId, reason: &str) {
        tracing::error!("{user} cannot be paged: {reason}");
        let mut core = self.lock();
        core.log_off(user, reason);
        core.deliver();
    }
}

enum Admitted {
    Guest(UserId, Session),
    Client(Client),
}

impl Core {
    fn answer(&mut self, client: Client, request: Request) -> Reply {
        if let Client::Cpu { user, session, .. } = client
            && self
                .guests
                .get(&user)
                .is_none_or(|guest| guest.session != session)
        {
            return no_longer(user);
        }
        match request {
            Request::Command { text } => self.command(client.caller(), &text),
            Request::Iucv { function, plist } => match client {
                Client::Cpu { user, .. } => {
                    crate::iucv::call(&mut self.iucv, &self.guests, user, function, plist)
                }
                Client::Operator(_) => failed("IUCV is for virtual machines only"),
            },
            Request::Accounting { user_id } => accounting::reply(self, client.caller(), user_id),
            Request::Counters { user_id } => match (client, self.guests.get(&user_id)) {
                (Client::Cpu { .. }, _) => failed("counters are for operators only"),
                (Client::Operator(_), None) => not_logged_on(user_id),
                (Client::Operator(_), Some(guest)) => Reply::Counters(
                    guest
                        .resources
                        .counters()
                        .into_iter()
                        .map(|(counter, value)| (counter.name().into(), value))
                        .chain(guest.resources.paged())
                        .collect(),
                ),
            },
            Request::States { user_id } => match (client, self.guests.get(&user_id)) {
                (Client::Cpu { .. }, _) => failed("page states are for operators only"),
                (Client::Operator(_), None) => not_logged_on(user_id),
                (Client::Operator(_), Some(guest)) => Reply::States(guest.resources.states()),
            },
            // These need time, so they are done without the lock.
            Request::Take { .. }
            | Request::Tmem { .. }
            | Request::Pools(_)
            | Request::Save { .. }
            | Request::Restore { .. }
            | Request::Overview => failed("not under this lock"),
            Request::Reset => match client {
                Client::Cpu { user, .. } => {
                    self.reset(user);
                    Reply::Done
                }
                Client::Operator(_) => failed("only a virtual machine can be reset"),
            },
        }
    }

    /// Issues a command. What others are to hear of waits for [`Self::deliver`].
    pub fn command(&mut self, caller: Caller, text: &str) -> Reply {
        let length = text.chars().count();
        if length > MAX_COMMAND {
            return failed(format!(
                "a command of {length} characters is too long: at most {MAX_COMMAND} are allowed"
            ));
        }
        if let Some(c) = text.chars().find(|&c| u32::from(c) > 0xff) {
            return failed(format!(
                "the command has the character {c:?}, which EBCDIC 037 lacks"
            ));
        }
        let Self {
            system,
            iucv,
            machine,
            tmem,
            real,
            guests,
            ..
        } = self;
        let facts = Facts {
            machine,
            real: real.as_deref(),
            guests,
            tmem: tmem.is_some(),
        };
        let outcome = system.execute(caller, text, &facts, iucv);
        Reply::Command(Response {
            rc: outcome.rc,
            lines: outcome.lines,
        })
    }

    /// Carries out what others are to hear of.
    ///
    /// Logging a guest off makes more of it: its partners' paths are severed. It ends, since there is one less each time.
    pub fn deliver(&mut self) {
        loop {
            let mut leaving = BTreeMap::new();
            for effect in self.system.take_effects() {
                match effect {
                    Effect::Console { user, text } => {
                        tell(&self.guests, &mut leaving, user, Event::Console { text })
                    }
                    Effect::MemAssist { user, on } => {
                        tell(&self.guests, &mut leaving, user, Event::MemAssist { on });
                    }
                    Effect::LogOff { user, reason } => {
                        leaving.insert(user, reason);
                    }
                }
            }
            for (user, event) in self.iucv.events() {
                tell(&self.guests, &mut leaving, user, crate::iucv::event(event));
            }
            if leaving.is_empty() {
                return;
            }
            for (user, reason) in leaving {
                self.log_off(user, &reason);
            }
        }
    }

    fn add(&mut self, user: UserId, mut guest: Guest, saved: Option<SaveId>) {
        self.iucv.log_on(user);
        guest.tmem = self.tmem.as_ref().map(|store| store.log_on(user, saved));
        self.guests.insert(user, guest);
    }

    fn reset(&mut self, user: UserId) {
        let essa_calls = self
            .guests
            .get(&user)
            .map_or(0, |guest| guest.resources.usage().essa_calls);
        self.system.reset(user, essa_calls);
        if let Some(guest) = self.guests.get_mut(&user) {
            guest.resets += 1;
        }
        self.iucv.reset(&user);
        if let Some((store, client)) = self.tmem_of(user) {
            store.reset(client);
        }
    }

    /// Keeps a decision of VMRM to be shown, and forgets those of long ago.
    pub fn note_decision(&mut self, decision: String) {
        if self.decisions.len() == DECISIONS {
            self.decisions.pop_front();
        }
        self.decisions.push_back(decision);
    }

    /// What its views are made from.
    pub fn facts(&self) -> Facts<'_> {
        Facts {
            machine: &self.machine,
            real: self.real.as_deref(),
            guests: &self.guests,
            tmem: self.tmem.is_some(),
        }
    }

    fn tmem_of(&self, user: UserId) -> Option<(&TmemStore, ClientId)> {
        Some((self.tmem.as_ref()?, self.guests.get(&user)?.tmem?))
    }

    fn is_saved(&self, user: UserId) -> bool {
        self.tmem_of(user)
            .is_some_and(|(store, client)| store.is_saved(client))
    }

    /// The thread ends when the guest has been told.
    fn log_off(&mut self, user: UserId, reason: &str) -> Option<JoinHandle<()>> {
        self.system.log_off(user);
        self.iucv.log_off(&user);
        if let Some((store, client)) = self.tmem_of(user) {
            store.log_off(client);
        }
        let guest = self.guests.remove(&user)?;
        tracing::info!("{user} logged off: {reason}");
        Some(guest.dismiss(reason))
    }

    fn add_cpu(
        &mut self,
        session: Session,
        cpu: u32,
        socket: &Arc<Socket>,
    ) -> Result<UserId, Refusal> {
        let (&user, guest) = self
            .guests
            .iter_mut()
            .find(|(_, guest)| guest.session == session)
            .ok_or(Refusal::Session)?;
        if cpu >= self.system.cpus(user) || guest.cpus.contains_key(&cpu) {
            return Err(Refusal::Cpu(cpu));
        }
        guest.cpus.insert(cpu, Arc::clone(socket));
        Ok(user)
    }

    fn forget_cpu(&mut self, user: UserId, session: Session, cpu: u32) {
        if let Some(guest) = self
            .guests
            .get_mut(&user)
            .filter(|guest| guest.session == session)
        {
            guest.cpus.remove(&cpu);
        }
    }
}

/// Tells a guest something; one that does not listen is to leave.
fn tell(
    guests: &BTreeMap<UserId, Guest>,
    leaving: &mut BTreeMap<UserId, String>,
    user: UserId,
    event: Event,
) {
    if guests.get(&user).is_some_and(|guest| !guest.tell(event)) {
        leaving.insert(user, "it does not read its events".into());
    }
}

pub fn failed(reason: impl Into<String>) -> Reply {
    Reply::Failed {
        reason: reason.into(),
    }
}

fn no_longer(user: UserId) -> Reply {
    failed(format!("{user} is not logged on any more"))
}

fn not_logged_on(user: UserId) -> Reply {
    failed(format!("{user} is not logged on"))
}

fn new_session() -> Result<Session, Refusal> {
    let mut session = [0; 16];
    // Never short: up to 256 bytes come at once.
    getrandom(&mut session, GetRandomFlags::empty()).map_err(Refusal::Random)?;
    Ok(Session(session))
}

/// What commands need to know of the host.
pub struct Facts<'a> {
    pub machine: &'a Machine,
    /// If it is limited.
    pub real: Option<&'a RealMemory>,
    pub guests: &'a BTreeMap<UserId, Guest>,
    /// Whether there is transcendent memory.
    pub tmem: bool,
}

impl Host for Facts<'_> {
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }

    fn build_time(&self) -> OffsetDateTime {
        self.machine.build_time()
    }

    fn usage(&self, user: UserId) -> Usage {
        self.guests
            .get(&user)
            .map_or_else(Usage::default, |guest| guest.resources.usage())
    }

    fn machine(&self) -> HostView {
        let host = self.machine.view();
        match self.real {
            Some(real) => real.view(host),
            None => host,
        }
    }

    fn tmem(&self) -> bool {
        self.tmem
    }

    fn age_list(&self) -> Option<&AgeList> {
        self.real.map(RealMemory::age_list)
    }
}
