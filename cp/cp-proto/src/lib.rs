// SPDX-License-Identifier: GPL-2.0

//! The protocol between guests, `cpd` and `cpctl`.
//!
//! Messages are postcard-encoded and travel over `AF_UNIX` `SOCK_SEQPACKET`: one packet is one message. The client
//! speaks first and says a [`Hello`]; `cpd` answers with a [`Welcome`]. What follows depends on the [`Role`]:
//!
//! | role | then |
//! |---|---|
//! | [`Role::Guest`] | [`Event`]s from `cpd` and [`Report`]s to it; closing the connection logs the guest off |
//! | [`Role::Cpu`] | [`Request`] and [`Reply`] in turn; one connection a virtual CPU |
//! | [`Role::Operator`] | [`Request`] and [`Reply`] in turn |
//!
//! Nothing that arrives is believed: lengths are limited, every decoding error is a [`ProtoError`].

mod connection;
pub mod counters;
mod error;
mod frame;
mod overview;
mod place;
mod resident;
mod shared_memory;
mod socket;
mod wire;

pub use connection::{Connection, CpuConnection, GuestConnection, TAKE_LIMIT};
pub use error::ProtoError;
pub use frame::{MAX_MESSAGE, decode, encode};
pub use overview::{FrameUse, GuestUse, Overview, PagingUse};
pub use place::default_socket;
pub use resident::Resident;
pub use shared_memory::SharedMemory;
pub use socket::{Listener, Socket};
pub use wire::{
    Accounting, Event, Hello, Iucv, MAX_COMMAND, PROTOCOL_VERSION, Plist, Pools, Reply, Report,
    Request, Response, Role, Selection, Session, Taken, Tmem, Welcome,
};
