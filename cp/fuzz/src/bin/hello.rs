// SPDX-License-Identifier: GPL-2.0

//! The first packet on a connection: a hello in this version of the protocol, with all the descriptors that came along, or
//! an error that says what is wrong.

#![no_main]

use std::io::stderr;
use std::os::fd::AsFd;

use cp_core::UserId;
use cp_proto::{Hello, PROTOCOL_VERSION, ProtoError, Role, Socket, decode, encode};
use libfuzzer_sys::fuzz_target;
use serde::ser::{Serialize, SerializeTuple, Serializer};

fuzz_target!(|input: (u8, &[u8])| {
    let (descriptors, bytes) = (usize::from(input.0 % 4), input.1);
    let stderr = stderr();
    let (client, server) = Socket::pair().expect("sockets");
    client
        .send_with(&Packet(bytes), &vec![stderr.as_fd(); descriptors])
        .expect("room for a packet");
    match server.receive_hello() {
        Ok((hello, came)) => {
            assert_eq!(hello.version, PROTOCOL_VERSION);
            assert_eq!(came.len(), descriptors);
            let again = encode(&hello).expect("it was short enough");
            assert!(again.len() <= bytes.len(), "{hello:?}");
            assert_eq!(decode::<Hello>(&again).expect("a hello"), hello);
            user_id(&hello.role);
        }
        Err(ProtoError::Version { theirs }) => assert_ne!(theirs, PROTOCOL_VERSION),
        Err(ProtoError::Closed) => assert!(bytes.is_empty()),
        Err(_) => assert!(decode::<Hello>(bytes).is_err()),
    }
});

/// Whose hello it is: a name that is taken is one that can be told to others.
fn user_id(role: &Role) {
    let (Role::Guest { user_id, .. } | Role::Operator { user_id }) = role else {
        return;
    };
    if let Ok(user) = UserId::new(user_id) {
        assert_eq!(UserId::new(&user.to_string()).ok(), Some(user));
    }
}

/// Bytes that are sent as they are.
struct Packet<'a>(&'a [u8]);

impl Serialize for Packet<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(self.0.len())?;
        for byte in self.0 {
            tuple.serialize_element(byte)?;
        }
        tuple.end()
    }
}
