// SPDX-License-Identifier: GPL-2.0

//! Frames of the protocol: a message that is decoded is the same after the way there and back, and no longer than it was.

#![no_main]

use std::fmt::Debug;

use cp_proto::{Event, Hello, Reply, Report, Request, Welcome, decode, encode};
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;

fuzz_target!(|input: (u8, &[u8])| {
    let (kind, bytes) = input;
    match kind % 6 {
        0 => message::<Hello>(bytes),
        1 => message::<Welcome>(bytes),
        2 => message::<Request>(bytes),
        3 => message::<Reply>(bytes),
        4 => message::<Report>(bytes),
        _ => message::<Event>(bytes),
    }
});

fn message<M: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) {
    let Ok(message) = decode::<M>(bytes) else {
        return;
    };
    let again = encode(&message).expect("it was short enough");
    assert!(again.len() <= bytes.len(), "{message:?}");
    assert_eq!(decode::<M>(&again).expect("a message"), message);
}
