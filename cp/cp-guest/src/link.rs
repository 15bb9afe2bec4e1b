// SPDX-License-Identifier: GPL-2.0

//! The connections to `cpd`.
//!
//! Each virtual CPU has its own, opened when it is first needed, so that CPUs never wait for each other. One more
//! brings [`Event`]s, which a thread takes in.

use std::env;
use std::io;
use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use cp_core::UserId;
use cp_core::tmem::Function;
use cp_proto::{
    Accounting, CpuConnection, Event, GuestConnection, Iucv, Plist, ProtoError, Reply, Report,
    Request, Response, Session, Tmem,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use thiserror::Error;

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

    /// The connection has ended: no more events.
    fn lost(&self, error: &ProtoError);
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
    Refused(ProtoError),
    /// No thread.
    #[error("cannot start the thread that receives events: {0}")]
    Thread(io::Error),
}

/// The virtual machine, as `cpd` shall know it.
#[derive(Debug)]
pub struct Logon<'a> {
    /// Its user ID.
    pub user_id: UserId,
    /// The size of its storage, in bytes.
    pub storage: u64,
    /// The number of its CPUs.
    pub cpus: u32,
    /// The memfd of its storage.
    pub ram: BorrowedFd<'a>,
    /// The memfd of its counters.
    pub counters: BorrowedFd<'a>,
    /// The memfd of the states of its pages.
    pub page_states: BorrowedFd<'a>,
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
    path: PathBuf,
    session: Session,
    cpus: Box<[Mutex<Option<CpuConnection>>]>,
    events: Arc<Events>,
    thread: Option<JoinHandle<()>>,
}

/// A connection on which only the holder of `taking` takes events off: whoever holds it knows that none is between
/// the socket and the receiver.
struct Events {
    connection: GuestConnection,
    receiver: Arc<dyn Receiver>,
    taking: Mutex<()>,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events")
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}

impl Events {
    /// Waits until there is an event, or the end; or looks only.
    fn wait(&self, limit: Option<&Timespec>) -> bool {
        let mut fds = [PollFd::new(&self.connection, PollFlags::IN)];
        // An error other than EINTR cannot happen; taking the event would show it.
        retry_on_intr(|| poll(&mut fds, limit)) != Ok(0)
    }

    fn take(&self, _taking: &MutexGuard<'_, ()>) -> Result<(), ProtoError> {
        self.receiver.event(self.connection.event()?);
        Ok(())
    }

    /// Takes all events that have arrived.
    fn drain(&self) -> Result<(), ProtoError> {
        let taking = lock(&self.taking);
        while self.wait(Some(&Timespec::default())) {
            self.take(&taking)?;
        }
        Ok(())
    }

    fn run(&self) {
        loop {
            self.wait(None);
            if let Err(error) = self.drain() {
                return self.receiver.lost(&error);
            }
        }
    }
}

impl Link {
    /// Logs a guest on.
    pub fn log_on(
        path: &Path,
        logon: &Logon<'_>,
        receiver: Arc<dyn Receiver>,
    ) -> Result<Self, LogonError> {
        let connection = GuestConnection::log_on(
            path,
            &logon.user_id.to_string(),
            logon.storage,
            logon.cpus,
            [logon.ram, logon.counters, logon.page_states],
        )
        .map_err(|error| match error {
            ProtoError::Io {
                what: "connect", ..
            } => LogonError::Absent {
                path: path.into(),
                error,
            },
            error => LogonError::Refused(error),
        })?;
        let session = connection.session();
        let events = Arc::new(Events {
            connection,
            receiver,
            taking: Mutex::new(()),
        });
        let thread = thread::Builder::new()
            .name("cp-events".into())
            .spawn({
                let events = Arc::clone(&events);
                move || {
                    let run = AssertUnwindSafe(|| events.run());
                    if catch_unwind(run).is_err() {
                        events.receiver.lost(&ProtoError::Refused(
                            "internal error in the receiver of events".into(),
                        ));
                    }
                }
            })
            .map_err(LogonError::Thread)?;
        Ok(Self {
            path: path.into(),
            session,
            cpus: (0..logon.cpus).map(|_| Mutex::new(None)).collect(),
            events,
            thread: Some(thread),
        })
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
            none => none.insert(CpuConnection::open(&self.path, self.session, cpu)?),
        };
        call(connection)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl System for Link {
    fn name(&self) -> &str {
        self.events.connection.system()
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
        self.events.connection.report(report)
    }

    fn reset(&self) -> Result<(), ProtoError> {
        match self.on_cpu(0, |connection| connection.call(&Request::Reset))? {
            // cpd sent whatever it had to say about the old paths before it replied.
            Reply::Done => self.events.drain(),
            Reply::Failed { reason } => Err(ProtoError::Refused(reason)),
            _ => Err(ProtoError::UnexpectedReply),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.events.connection.shut_down();
        if let Some(thread) = self.thread.take() {
            // It catches its panics.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

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
            fn lost(&self, _: &ProtoError) {}
        }
        let counters = crate::counters::Counters::new().unwrap();
        let logon = Logon {
            user_id: UserId::new("LINUX01").unwrap(),
            storage: 4096,
            cpus: 1,
            ram: counters.as_fd(),
            counters: counters.as_fd(),
            page_states: counters.as_fd(),
        };
        let path = Path::new("/nonexistent/cp.sock");
        let error = Link::log_on(path, &logon, Arc::new(Nobody)).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("no Control Program at /nonexistent/cp.sock: start cpd first"),
            "{text}"
        );
    }
}
