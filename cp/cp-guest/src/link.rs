// SPDX-License-Identifier: GPL-2.0

//! The connections to `cpd`.
//!
//! Each virtual CPU has its own, opened when it is first needed, so that CPUs never wait for each other. One more
//! brings [`Event`]s, which a thread takes in. If `cpd` ends after it has saved the guest, that thread logs the guest on
//! to the next one.

use std::env;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use cp_core::UserId;
use cp_core::tmem::{Function, SaveId};
use cp_proto::{
    Accounting, CpuConnection, Event, GuestConnection, Iucv, Plist, ProtoError, Reply, Report,
    Request, Response, Tmem,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::process::{Signal, getpid, kill_process};
use thiserror::Error;

use crate::paging::{Mapping, PagingError};

/// How often a guest that has been saved looks for another `cpd`.
const RETURN_INTERVAL: Duration = Duration::from_millis(200);

/// What a guest asks of the system. All calls wait for the answer.
pub trait System: Send + Sync + 'static {
    /// The name of the system.
    fn name(&self) -> &str;

    /// Issues CP commands, separated by `'\n'`.
    fn command(&self, cpu: u32, text: &str) -> Result<Response, ProtoError>;

    /// Executes IUCV; the inner error is a program interruption code.
    fn iucv(&self, cpu: u32, function: u64, plist: Plist) -> Result<Result<Iucv, u16>, ProtoError>;

    /// Has a DIAGNOSE X'1F4' carried out; the inner error is a program interruption code.
    fn tmem(
        &self,
        cpu: u32,
        function: Function,
        block: Vec<u8>,
    ) -> Result<Result<Tmem, u16>, ProtoError>;

    /// Asks what one guest uses, or what all do that the caller may see.
    fn accounting(&self, cpu: u32, user_id: Option<UserId>) -> Result<Vec<Accounting>, ProtoError>;

    /// Tells something that needs no answer.
    fn report(&self, report: &Report) -> Result<(), ProtoError>;

    /// Tells that the guest was reset. Afterwards all events of before have been passed to the receiver of events.
    fn reset(&self) -> Result<(), ProtoError>;
}

/// Takes in what `cpd` tells on its own account. Called by one thread at a time.
pub trait Receiver: Send + Sync + 'static {
    /// An event has arrived.
    fn event(&self, event: Event);

    /// The connection has ended: no more events, unless the guest has been saved and shall log on to another `cpd`.
    fn lost(&self, error: &ProtoError) -> Option<SaveId>;
}

/// Why a guest cannot log on.
#[derive(Debug, Error)]
pub enum LogonError {
    /// Nobody said where `cpd` is.
    #[error("where is cpd? give the property 'socket', or set XDG_RUNTIME_DIR")]
    NoSocket,
    /// `cpd` is not there.
    #[error("no Control Program at {}: start cpd first ({error})", path.display())]
    Absent {
        /// The socket.
        path: PathBuf,
        /// Why it cannot be reached.
        error: ProtoError,
    },
    /// `cpd` does not let the guest in, or does not speak to it as it should.
    #[error("cannot log on to the Control Program: {0}")]
    Refused(PagingError),
    /// No thread.
    #[error("cannot start the thread that receives events: {0}")]
    Thread(io::Error),
}

/// The virtual machine, as `cpd` shall know it.
#[derive(Debug)]
pub struct Logon {
    /// The socket of `cpd`.
    pub path: PathBuf,
    /// Its user ID.
    pub user_id: UserId,
    /// The size of its storage, in bytes.
    pub storage: u64,
    /// The number of its CPUs.
    pub cpus: u32,
    /// The memfds of its storage, of its counters and of the states of its pages.
    pub memory: [OwnedFd; 3],
    /// Where the storage is mapped.
    pub mapping: Mapping,
}

impl Logon {
    fn connect(&self, saved: Option<SaveId>) -> Result<GuestConnection, PagingError> {
        let connection = GuestConnection::log_on(
            &self.path,
            &self.user_id.to_string(),
            self.storage,
            self.cpus,
            self.memory.each_ref().map(AsFd::as_fd),
            saved,
        )?;
        if connection.wants_paging() {
            self.mapping.offer(&connection)?;
        }
        Ok(connection)
    }
}

/// The socket of `cpd`: as given, or the default of the user.
pub fn socket_path(given: Option<PathBuf>) -> Result<PathBuf, LogonError> {
    given
        .or_else(|| Some(PathBuf::from(env::var_os("XDG_RUNTIME_DIR")?).join("coopmem/cp.sock")))
        .ok_or(LogonError::NoSocket)
}

/// A logged-on guest's connections. Dropping it logs the guest off.
#[derive(Debug)]
pub struct Link {
    /// The name of the system.
    name: String,
    connections: Arc<Connections>,
    thread: Option<JoinHandle<()>>,
}

/// The connections. Only the holder of `taking` takes events off: whoever holds it knows that none is between the
/// socket and the receiver.
struct Connections {
    logon: Logon,
    events: Mutex<Arc<GuestConnection>>,
    cpus: Box<[Mutex<Option<CpuConnection>>]>,
    receiver: Arc<dyn Receiver>,
    taking: Mutex<()>,
    closing: AtomicBool,
}

impl std::fmt::Debug for Connections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connections")
            .field("logon", &self.logon)
            .field("events", &self.events)
            .finish_non_exhaustive()
    }
}

impl Connections {
    fn events(&self) -> Arc<GuestConnection> {
        Arc::clone(&lock(&self.events))
    }

    /// Takes all events that have arrived.
    fn drain(&self) -> Result<(), ProtoError> {
        let _taking = lock(&self.taking);
        let events = self.events();
        while wait(&events, Some(&Timespec::default())) {
            match events.event()? {
                Event::Sweep => {
                    // What cannot be swept seems to be in use.
                    let _ = self.logon.mapping.sweep();
                    self.receiver.event(Event::Sweep);
                }
                event => self.receiver.event(event),
            }
        }
        Ok(())
    }

    fn run(&self) {
        while !self.closing.load(Ordering::SeqCst) {
            wait(&self.events(), None);
            if let Err(error) = self.drain() {
                match self.receiver.lost(&error) {
                    Some(save) => self.come_back(save),
                    None => {
                        if self.events().wants_paging() {
                            end_process();
                        }
                        return;
                    }
                }
            }
        }
    }

    /// Logs a guest that has been saved on to the next `cpd`.
    fn come_back(&self, save: SaveId) {
        self.tell("is stopped and waits for the next Control Program");
        let mut refusal = String::new();
        while !self.closing.load(Ordering::SeqCst) {
            match self.logon.connect(Some(save)) {
                Ok(connection) => {
                    for cpu in &self.cpus {
                        *lock(cpu) = None;
                    }
                    *lock(&self.events) = Arc::new(connection);
                    return;
                }
                // It may be another guest of that name, and leave.
                Err(PagingError::Proto(ProtoError::Refused(reason))) if reason != refusal => {
                    self.tell(&format!("cannot come back yet: {reason}"));
                    refusal = reason;
                }
                Err(_) => {}
            }
            thread::sleep(RETURN_INTERVAL);
        }
    }

    fn tell(&self, text: &str) {
        self.receiver.event(Event::Console { text: text.into() });
    }

    /// Does something on a CPU's connection. The lock is only ever contended at reset.
    fn on_cpu<T>(
        &self,
        cpu: u32,
        call: impl FnOnce(&mut CpuConnection) -> Result<T, ProtoError>,
    ) -> Result<T, ProtoError> {
        let slot = self
            .cpus
            .get(cpu as usize)
            .ok_or(ProtoError::UnexpectedReply)?;
        let mut slot = lock(slot);
        let connection = match &mut *slot {
            Some(connection) => connection,
            none => none.insert(CpuConnection::open(
                &self.logon.path,
                self.events().session(),
                cpu,
            )?),
        };
        call(connection)
    }
}

/// Ends QEMU here and now. Whoever waits for a page waits for ever, and an orderly end would wait for him.
fn end_process() {
    // Nobody may signal himself less than this.
    let _ = kill_process(getpid(), Signal::KILL);
}

/// Waits until there is an event, or the end; or looks only.
fn wait(events: &GuestConnection, limit: Option<&Timespec>) -> bool {
    let mut fds = [PollFd::new(events, PollFlags::IN)];
    // An error other than EINTR cannot happen; taking the event would show it.
    retry_on_intr(|| poll(&mut fds, limit)) != Ok(0)
}

impl Link {
    /// Logs a guest on.
    pub fn log_on(logon: Logon, receiver: Arc<dyn Receiver>) -> Result<Self, LogonError> {
        let connection = logon.connect(None).map_err(|error| match error {
            PagingError::Proto(
                error @ ProtoError::Io {
                    what: "connect", ..
                },
            ) => LogonError::Absent {
                path: logon.path.clone(),
                error,
            },
            error => LogonError::Refused(error),
        })?;
        let name = connection.system().into();
        let connections = Arc::new(Connections {
            cpus: (0..logon.cpus).map(|_| Mutex::new(None)).collect(),
            logon,
            events: Mutex::new(Arc::new(connection)),
            receiver,
            taking: Mutex::new(()),
            closing: AtomicBool::new(false),
        });
        let thread = thread::Builder::new()
            .name("cp-events".into())
            .spawn({
                let connections = Arc::clone(&connections);
                move || {
                    let run = AssertUnwindSafe(|| connections.run());
                    if catch_unwind(run).is_err() {
                        connections.receiver.event(Event::Logoff {
                            reason: "internal error in the receiver of events".into(),
                        });
                    }
                }
            })
            .map_err(LogonError::Thread)?;
        Ok(Self {
            name,
            connections,
            thread: Some(thread),
        })
    }

    fn on_cpu<T>(
        &self,
        cpu: u32,
        call: impl FnOnce(&mut CpuConnection) -> Result<T, ProtoError>,
    ) -> Result<T, ProtoError> {
        self.connections.on_cpu(cpu, call)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl System for Link {
    fn name(&self) -> &str {
        &self.name
    }

    fn command(&self, cpu: u32, text: &str) -> Result<Response, ProtoError> {
        self.on_cpu(cpu, |connection| connection.command(text))
    }

    fn iucv(&self, cpu: u32, function: u64, plist: Plist) -> Result<Result<Iucv, u16>, ProtoError> {
        self.on_cpu(cpu, |connection| connection.iucv(function, plist))
    }

    fn tmem(
        &self,
        cpu: u32,
        function: Function,
        block: Vec<u8>,
    ) -> Result<Result<Tmem, u16>, ProtoError> {
        let request = Request::Tmem { function, block };
        match self.on_cpu(cpu, |connection| connection.call(&request))? {
            Reply::Tmem(outcome) => Ok(Ok(outcome)),
            Reply::Program { code } => Ok(Err(code)),
            Reply::Failed { reason } => Err(ProtoError::Refused(reason)),
            _ => Err(ProtoError::UnexpectedReply),
        }
    }

    fn accounting(&self, cpu: u32, user_id: Option<UserId>) -> Result<Vec<Accounting>, ProtoError> {
        let request = Request::Accounting { user_id };
        match self.on_cpu(cpu, |connection| connection.call(&request))? {
            Reply::Accounting(records) => Ok(records),
            Reply::Failed { reason } => Err(ProtoError::Refused(reason)),
            _ => Err(ProtoError::UnexpectedReply),
        }
    }

    fn report(&self, report: &Report) -> Result<(), ProtoError> {
        self.connections.events().report(report)
    }

    fn reset(&self) -> Result<(), ProtoError> {
        match self.on_cpu(0, |connection| connection.call(&Request::Reset))? {
            // cpd sent whatever it had to say about the old paths before it replied.
            Reply::Done => self.connections.drain(),
            Reply::Failed { reason } => Err(ProtoError::Refused(reason)),
            _ => Err(ProtoError::UnexpectedReply),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.connections.closing.store(true, Ordering::SeqCst);
        self.connections.events().shut_down();
        if let Some(thread) = self.thread.take() {
            // It catches its panics.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_is_given_is_taken() {
        let given = PathBuf::from("/run/cp.sock");
        assert_eq!(socket_path(Some(given.clone())).unwrap(), given);
    }

    #[test]
    fn an_absent_cpd_is_named() {
        struct Nobody;
        impl Receiver for Nobody {
            fn event(&self, _: Event) {}
            fn lost(&self, _: &ProtoError) -> Option<SaveId> {
                None
            }
        }
        let memory = || std::fs::File::open("/dev/null").unwrap().into();
        let logon = Logon {
            path: "/nonexistent/cp.sock".into(),
            user_id: UserId::new("LINUX01").unwrap(),
            storage: 4096,
            cpus: 1,
            memory: [memory(), memory(), memory()],
            // SAFETY: Nothing is done with it, since nobody is there to ask for it.
            mapping: unsafe { Mapping::new(std::ptr::NonNull::dangling(), 4096) },
        };
        let error = Link::log_on(logon, Arc::new(Nobody)).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("no Control Program at /nonexistent/cp.sock: start cpd first"),
            "{text}"
        );
    }
}
