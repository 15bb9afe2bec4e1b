// SPDX-License-Identifier: GPL-2.0

//! `SOCK_SEQPACKET` sockets that carry messages and file descriptors.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::io::{Errno, retry_on_intr};
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_peercred};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, SocketAddrUnix, SocketFlags,
    SocketType, accept_with, bind, connect, listen, recvmsg, sendmsg, shutdown, socket_with,
    socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::ProtoError;
use crate::frame::{MAX_MESSAGE, decode, decode_hello, encode};
use crate::wire::Hello;

/// The most file descriptors that one message may carry.
const MAX_DESCRIPTORS: usize = 3;

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 64;

/// One end of a connection. All calls block, and may be made by several threads at once.
#[derive(Debug)]
pub struct Socket(OwnedFd);

impl Socket {
    /// Connects to the socket at `path`.
    pub fn connect(path: &Path) -> Result<Self, ProtoError> {
        let address = SocketAddrUnix::new(path).map_err(ProtoError::io("name the socket"))?;
        let fd = new_socket()?;
        retry_on_intr(|| connect(&fd, &address)).map_err(ProtoError::io("connect"))?;
        Ok(Self(fd))
    }

    /// Two ends, connected to each other.
    pub fn pair() -> Result<(Self, Self), ProtoError> {
        let (a, b) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(ProtoError::io("make a pair of sockets"))?;
        Ok((Self(a), Self(b)))
    }

    /// Limits how long each receive may wait; `None` for no limit. Running out is [`ProtoError::TimedOut`].
    pub fn set_receive_timeout(&self, limit: Option<Duration>) -> Result<(), ProtoError> {
        set_socket_timeout(&self.0, Timeout::Recv, limit)
            .map_err(ProtoError::io("set the time limit"))
    }

    /// Limits how long each send may wait for room; `None` for no limit. Running out is [`ProtoError::TimedOut`].
    pub fn set_send_timeout(&self, limit: Option<Duration>) -> Result<(), ProtoError> {
        set_socket_timeout(&self.0, Timeout::Send, limit)
            .map_err(ProtoError::io("set the time limit"))
    }

    /// The process at the other end, as the kernel knows it.
    pub fn peer_pid(&self) -> Result<u32, ProtoError> {
        let credentials =
            socket_peercred(&self.0).map_err(ProtoError::io("ask for the peer's process"))?;
        Ok(credentials.pid.as_raw_nonzero().get().unsigned_abs())
    }

    /// Ends the connection in both directions; whoever waits on it, on either side, stops waiting.
    pub fn shut_down(&self) {
        // The connection may be gone already, which is what is wanted.
        let _ = shutdown(&self.0, Shutdown::Both);
    }

    /// Sends a message.
    pub fn send<M: Serialize>(&self, message: &M) -> Result<(), ProtoError> {
        self.send_with(message, &[])
    }

    /// Sends a message together with at most 3 file descriptors.
    pub fn send_with<M: Serialize>(
        &self,
        message: &M,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), ProtoError> {
        self.send_bytes(&encode(message)?, fds)
    }

    fn send_bytes(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), ProtoError> {
        // Checked here, since the alignment of the buffer may leave room for one more.
        if fds.len() > MAX_DESCRIPTORS {
            return Err(ProtoError::Descriptors {
                want: MAX_DESCRIPTORS,
                got: fds.len(),
            });
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(fds));
        }
        let data = [IoSlice::new(bytes)];
        retry_on_intr(|| sendmsg(&self.0, &data, &mut control, SendFlags::NOSIGNAL))
            .map_err(ProtoError::io("send"))?;
        Ok(())
    }

    /// Receives a message. File descriptors that came with it are closed.
    pub fn receive<M: DeserializeOwned>(&self) -> Result<M, ProtoError> {
        Ok(self.receive_with()?.0)
    }

    /// Receives a [`Hello`] and what file descriptors came with it, at most 3.
    pub fn receive_hello(&self) -> Result<(Hello, Vec<OwnedFd>), ProtoError> {
        let (bytes, fds) = self.receive_bytes()?;
        Ok((decode_hello(&bytes)?, fds))
    }

    /// Receives a message and what file descriptors came with it, at most 3.
    pub fn receive_with<M: DeserializeOwned>(&self) -> Result<(M, Vec<OwnedFd>), ProtoError> {
        let (bytes, fds) = self.receive_bytes()?;
        Ok((decode(&bytes)?, fds))
    }

    fn receive_bytes(&self) -> Result<(Vec<u8>, Vec<OwnedFd>), ProtoError> {
        let mut bytes = vec![0; MAX_MESSAGE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let message = retry_on_intr(|| {
            recvmsg(
                &self.0,
                &mut [IoSliceMut::new(&mut bytes)],
                &mut control,
                RecvFlags::CMSG_CLOEXEC,
            )
        })
        .map_err(ProtoError::io("receive"))?;
        // Taken out first, so that they are closed whatever comes next.
        let fds: Vec<OwnedFd> = control
            .drain()
            .flat_map(|message| match message {
                RecvAncillaryMessage::ScmRights(fds) => fds.collect(),
                _ => Vec::new(),
            })
            .collect();
        if message.flags.contains(ReturnFlags::TRUNC) {
            return Err(ProtoError::TooLong {
                length: message.bytes,
                limit: MAX_MESSAGE,
            });
        }
        if message.flags.contains(ReturnFlags::CTRUNC) || fds.len() > MAX_DESCRIPTORS {
            return Err(ProtoError::Descriptors {
                want: MAX_DESCRIPTORS,
                got: fds.len() + 1,
            });
        }
        // An empty message does not exist: this is the end of the connection.
        if message.bytes == 0 {
            return Err(ProtoError::Closed);
        }
        bytes.truncate(message.bytes);
        Ok((bytes, fds))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A socket that clients connect to.
#[derive(Debug)]
pub struct Listener(OwnedFd);

impl Listener {
    /// Listens at `path`, where nothing may exist. [`ProtoError::Io`] with `ADDRINUSE` if something does.
    pub fn bind(path: &Path) -> Result<Self, ProtoError> {
        let address = SocketAddrUnix::new(path).map_err(ProtoError::io("name the socket"))?;
        let fd = new_socket()?;
        bind(&fd, &address).map_err(ProtoError::io("bind the socket"))?;
        listen(&fd, BACKLOG).map_err(ProtoError::io("listen"))?;
        Ok(Self(fd))
    }

    /// Waits for a client.
    pub fn accept(&self) -> Result<Socket, ProtoError> {
        loop {
            match accept_with(&self.0, SocketFlags::CLOEXEC) {
                Ok(fd) => return Ok(Socket(fd)),
                // The client gave up before we came.
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(errno) => return Err(ProtoError::io("accept")(errno)),
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn new_socket() -> Result<OwnedFd, ProtoError> {
    socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(ProtoError::io("make a socket"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Event, PROTOCOL_VERSION, Role};
    use rustix::fs::{MemfdFlags, memfd_create};

    #[test]
    fn messages_keep_their_borders() {
        let (a, b) = Socket::pair().unwrap();
        let one = Event::Console { text: "one".into() };
        let two = Event::Retract { id: 2 };
        a.send(&one).unwrap();
        a.send(&two).unwrap();
        assert_eq!(b.receive::<Event>().unwrap(), one);
        assert_eq!(b.receive::<Event>().unwrap(), two);
        drop(a);
        assert!(matches!(b.receive::<Event>(), Err(ProtoError::Closed)));
        assert!(matches!(b.send(&two), Err(ProtoError::Closed)));
    }

    #[test]
    fn descriptors_travel_with_the_hello() {
        let (a, b) = Socket::pair().unwrap();
        let ram = memfd_create("ram", MemfdFlags::CLOEXEC).unwrap();
        rustix::io::write(&ram, b"storage").unwrap();
        let hello = Hello::new(Role::Guest {
            user_id: "LINUX01".into(),
            storage_bytes: 4096,
            cpus: 1,
            saved: None,
        });
        a.send_with(&hello, &[ram.as_fd(); 3]).unwrap();
        let (received, fds) = b.receive_hello().unwrap();
        assert_eq!(received, hello);
        assert_eq!(fds.len(), 3);
        let mut text = [0; 7];
        rustix::io::pread(&fds[1], &mut text, 0).unwrap();
        assert_eq!(&text, b"storage");
        assert!(matches!(
            a.send_with(&hello, &[ram.as_fd(); 4]),
            Err(ProtoError::Descriptors { want: 3, got: 4 })
        ));
    }

    #[test]
    fn another_version_is_named_even_if_the_rest_differs() {
        let (a, b) = Socket::pair().unwrap();
        a.send(&(PROTOCOL_VERSION + 1, "a hello of the future"))
            .unwrap();
        match b.receive_hello() {
            Err(ProtoError::Version { theirs }) => assert_eq!(theirs, PROTOCOL_VERSION + 1),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn too_long_messages_are_refused_on_both_sides() {
        let (a, b) = Socket::pair().unwrap();
        let text = "x".repeat(MAX_MESSAGE);
        assert!(matches!(
            a.send(&Event::Console { text }),
            Err(ProtoError::TooLong { .. })
        ));
        a.send_bytes(&vec![0; MAX_MESSAGE + 1], &[]).unwrap();
        assert!(matches!(
            b.receive::<Event>(),
            Err(ProtoError::TooLong { .. })
        ));
        // The connection is not out of step after it.
        a.send(&Event::Retract { id: 1 }).unwrap();
        assert_eq!(b.receive::<Event>().unwrap(), Event::Retract { id: 1 });
    }

    #[test]
    fn hostile_packets_are_errors() {
        let (a, b) = Socket::pair().unwrap();
        for bytes in [
            &[0xff; 32][..],
            &[0],
            &[2, 0xff, 0xff, 0xff, 0xff, 0x0f],
            &[1, 1, 1],
        ] {
            a.send_bytes(bytes, &[]).unwrap();
            assert!(matches!(
                b.receive::<Event>(),
                Err(ProtoError::Malformed(_) | ProtoError::TrailingBytes(_))
            ));
        }
    }

    #[test]
    fn waiting_ends() {
        let (a, _b) = Socket::pair().unwrap();
        a.set_receive_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        assert!(matches!(a.receive::<Event>(), Err(ProtoError::TimedOut)));
    }

    #[test]
    fn the_peer_is_known() {
        let (a, _b) = Socket::pair().unwrap();
        assert_eq!(a.peer_pid().unwrap(), std::process::id());
    }
}
