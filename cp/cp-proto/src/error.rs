// SPDX-License-Identifier: GPL-2.0

use rustix::io::Errno;
use thiserror::Error;

use crate::wire::PROTOCOL_VERSION;

/// What can go wrong on a connection.
#[derive(Debug, Error)]
pub enum ProtoError {
    /// A system call failed.
    #[error("cannot {what}: {errno}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        errno: Errno,
    },
    /// The other side closed the connection.
    #[error("the connection was closed by the other side")]
    Closed,
    /// Nothing came within the time allowed.
    #[error("the other side did not answer in time")]
    TimedOut,
    /// A message is larger than a packet may be.
    #[error("a message of {length} bytes is too long: at most {limit} are allowed")]
    TooLong {
        /// The length of the message; for a received one that was cut off, what is known of it.
        length: usize,
        /// [`crate::MAX_MESSAGE`].
        limit: usize,
    },
    /// A message cannot be decoded.
    #[error("a malformed message: {0}")]
    Malformed(#[from] postcard::Error),
    /// A message goes on after its end.
    #[error("a malformed message: {0} bytes after its end")]
    TrailingBytes(usize),
    /// The other side speaks another version of the protocol.
    #[error(
        "protocol version {theirs} is not spoken here, only {PROTOCOL_VERSION}: build both sides from one tree"
    )]
    Version {
        /// The version that the other side named.
        theirs: u32,
    },
    /// `cpd` does not let us in.
    #[error("{0}")]
    Refused(String),
    /// A message came with the wrong number of file descriptors.
    #[error("{got} file descriptors came with a message that needs {want}")]
    Descriptors {
        /// How many are needed.
        want: usize,
        /// How many there were.
        got: usize,
    },
    /// The reply is none to our request.
    #[error("the reply does not fit the request")]
    UnexpectedReply,
}

impl ProtoError {
    /// Turns an error number into the error of `what`.
    pub(crate) fn io(what: &'static str) -> impl FnOnce(Errno) -> Self {
        move |errno| match errno {
            Errno::PIPE | Errno::CONNRESET => Self::Closed,
            Errno::AGAIN => Self::TimedOut,
            errno => Self::Io { what, errno },
        }
    }
}
