// SPDX-License-Identifier: GPL-2.0

//! The client's side of each role.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use cp_core::UserId;
use cp_core::tmem::SaveId;

use crate::error::ProtoError;
use crate::socket::Socket;
use crate::wire::{
    Event, Hello, Iucv, Plist, Reply, Report, Request, Response, Role, Selection, Session, Welcome,
};

/// How long `cpd` may take to answer. It never waits for anybody, so this only ends waiting for one that hangs.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// How long a guest may take to give pages up before the operator hears that it has not.
pub const TAKE_LIMIT: Duration = Duration::from_secs(60);

/// A connection on which requests are made, one at a time.
#[derive(Debug)]
pub struct Connection {
    socket: Socket,
    system: String,
}

impl Connection {
    /// Connects as an operator who acts as `user_id`.
    pub fn operator(path: &Path, user_id: &str) -> Result<Self, ProtoError> {
        Self::open(
            path,
            Role::Operator {
                user_id: user_id.into(),
            },
        )
    }

    fn open(path: &Path, role: Role) -> Result<Self, ProtoError> {
        let socket = Socket::connect(path)?;
        let Accepted { system, .. } = introduce(&socket, role, &[])?;
        Ok(Self { socket, system })
    }

    /// The name of the system on the other side.
    #[must_use]
    pub fn system(&self) -> &str {
        &self.system
    }

    /// Makes a request and waits for its reply, at most 10 seconds.
    ///
    /// After an error the connection is out of step and must not be used again.
    pub fn call(&mut self, request: &Request) -> Result<Reply, ProtoError> {
        self.socket.send(request)?;
        self.socket.receive()
    }

    /// Makes a request that takes as long as a guest and a disk do, and waits for its reply.
    pub fn call_patiently(&mut self, request: &Request) -> Result<Reply, ProtoError> {
        self.socket.set_receive_timeout(None)?;
        let reply = self.call(request)?;
        self.socket.set_receive_timeout(Some(ANSWER_LIMIT))?;
        Ok(reply)
    }

    /// Takes pages of a guest; waits as long as `cpd` does.
    pub fn take(&mut self, user_id: UserId, selection: Selection) -> Result<Reply, ProtoError> {
        self.socket
            .set_receive_timeout(Some(TAKE_LIMIT + ANSWER_LIMIT))?;
        let reply = self.call(&Request::Take { user_id, selection })?;
        self.socket.set_receive_timeout(Some(ANSWER_LIMIT))?;
        Ok(reply)
    }

    /// Issues CP commands.
    pub fn command(&mut self, text: &str) -> Result<Response, ProtoError> {
        match self.call(&Request::Command { text: text.into() })? {
            Reply::Command(response) => Ok(response),
            Reply::Failed { reason } => Err(ProtoError::Refused(reason)),
            _ => Err(ProtoError::UnexpectedReply),
        }
    }
}

/// The connection of a virtual CPU.
#[derive(Debug)]
pub struct CpuConnection(Connection);

impl CpuConnection {
    /// Connects a virtual CPU of the guest that was given `session`.
    pub fn open(path: &Path, session: Session, cpu: u32) -> Result<Self, ProtoError> {
        Connection::open(path, Role::Cpu { session, cpu }).map(Self)
    }

    /// Makes any request.
    pub fn call(&mut self, request: &Request) -> Result<Reply, ProtoError> {
        self.0.call(request)
    }

    /// Issues CP commands.
    pub fn command(&mut self, text: &str) -> Result<Response, ProtoError> {
        self.0.command(text)
    }

    /// Executes the IUCV instruction; the inner error is a program interruption code.
    pub fn iucv(&mut self, function: u64, plist: Plist) -> Result<Result<Iucv, u16>, ProtoError> {
        match self.0.call(&Request::Iucv { function, plist })? {
            Reply::Iucv(outcome) => Ok(Ok(outcome)),
            Reply::Program { code } => Ok(Err(code)),
            Reply::Failed { reason } => Err(ProtoError::Refused(reason)),
            _ => Err(ProtoError::UnexpectedReply),
        }
    }
}

/// The connection that logs a guest on, and off when it is dropped. Events arrive on it.
#[derive(Debug)]
pub struct GuestConnection {
    socket: Socket,
    system: String,
    session: Session,
    paging: bool,
}

impl GuestConnection {
    /// Logs a guest on.
    ///
    /// `fds` are the memfds of its storage, of its [`crate::counters::CountersPage`] and of its
    /// [`cp_core::page_state::PageStates`]. `saved` is what an earlier `cpd` saved.
    pub fn log_on(
        path: &Path,
        user_id: &str,
        storage_bytes: u64,
        cpus: u32,
        fds: [BorrowedFd<'_>; 3],
        saved: Option<SaveId>,
    ) -> Result<Self, ProtoError> {
        let socket = Socket::connect(path)?;
        let role = Role::Guest {
            user_id: user_id.into(),
            storage_bytes,
            cpus,
            saved,
        };
        let accepted = introduce(&socket, role, &fds)?;
        // Events come when they come.
        socket.set_receive_timeout(None)?;
        Ok(Self {
            socket,
            system: accepted.system,
            session: accepted.session,
            paging: accepted.paging,
        })
    }

    /// Whether [`Self::offer`] must be called before the guest touches its storage.
    #[must_use]
    pub fn wants_paging(&self) -> bool {
        self.paging
    }

    /// Lets `cpd` page the storage, which is mapped at `address`.
    pub fn offer(&self, address: u64, userfaultfd: BorrowedFd<'_>) -> Result<(), ProtoError> {
        self.socket
            .send_with(&Report::Paging { address }, &[userfaultfd])
    }

    /// The name of the system on the other side.
    #[must_use]
    pub fn system(&self) -> &str {
        &self.system
    }

    /// What the guest's virtual CPUs need to connect.
    #[must_use]
    pub fn session(&self) -> Session {
        self.session
    }

    /// Waits for the next event. [`ProtoError::Closed`] if `cpd` is gone or [`Self::shut_down`] was called: the
    /// guest cannot go on without it.
    pub fn event(&self) -> Result<Event, ProtoError> {
        self.socket.receive()
    }

    /// Tells `cpd` something.
    pub fn report(&self, report: &Report) -> Result<(), ProtoError> {
        self.socket.send(report)
    }

    /// Logs off; ends an [`Self::event`] that waits in another thread.
    pub fn shut_down(&self) {
        self.socket.shut_down();
    }
}

impl AsFd for GuestConnection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What [`Welcome::Accepted`] tells.
struct Accepted {
    system: String,
    session: Session,
    paging: bool,
}

fn introduce(socket: &Socket, role: Role, fds: &[BorrowedFd<'_>]) -> Result<Accepted, ProtoError> {
    socket.set_receive_timeout(Some(ANSWER_LIMIT))?;
    socket.set_send_timeout(Some(ANSWER_LIMIT))?;
    socket.send_with(&Hello::new(role), fds)?;
    match socket.receive()? {
        Welcome::Accepted {
            system,
            session,
            paging,
        } => Ok(Accepted {
            system,
            session,
            paging,
        }),
        Welcome::Refused { reason } => Err(ProtoError::Refused(reason)),
    }
}
