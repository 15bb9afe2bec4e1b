// SPDX-License-Identifier: GPL-2.0

//! Whatever bytes arrive, decoding ends in a message or an error, and a message survives the way there and back.

use cp_core::UserId;
use cp_core::page_state::Usage;
use cp_core::tmem::{Epoch, Function, SaveId};
use cp_proto::{
    Event, Hello, MAX_MESSAGE, Plist, Reply, Report, Request, Response, Role, Selection, Session,
    Welcome, decode, encode,
};
use proptest::prelude::*;

fn texts() -> impl Strategy<Value = String> {
    "[ -~]{0,80}"
}

fn plists() -> impl Strategy<Value = Plist> {
    any::<[[u8; 8]; 5]>().prop_map(Plist::from)
}

fn hellos() -> impl Strategy<Value = Hello> {
    prop_oneof![
        (texts(), any::<u64>(), any::<u32>(), saves()).prop_map(
            |(user_id, storage_bytes, cpus, saved)| Role::Guest {
                user_id,
                storage_bytes,
                cpus,
                saved,
            }
        ),
        (any::<[u8; 16]>(), any::<u32>()).prop_map(|(session, cpu)| Role::Cpu {
            session: Session(session),
            cpu
        }),
        texts().prop_map(|user_id| Role::Operator { user_id }),
    ]
    .prop_map(Hello::new)
}

fn saves() -> impl Strategy<Value = Option<SaveId>> {
    any::<Option<(u64, u64)>>().prop_map(|save| {
        let (epoch, number) = save?;
        let epoch = Epoch(epoch);
        Some(SaveId { epoch, number })
    })
}

fn requests() -> impl Strategy<Value = Request> {
    prop_oneof![
        texts().prop_map(|text| Request::Command { text }),
        (any::<u64>(), plists()).prop_map(|(function, plist)| Request::Iucv { function, plist }),
        Just(Request::Accounting { user_id: None }),
        selections().prop_map(|selection| Request::Take {
            user_id: UserId::new("LINUX01").unwrap(),
            selection
        }),
        proptest::collection::vec(any::<u8>(), 0..80).prop_map(|block| Request::Tmem {
            function: Function::Batch,
            block
        }),
        Just(Request::Reset),
        texts().prop_map(|path| Request::Save {
            user_id: UserId::new("LINUX01").unwrap(),
            path: path.into(),
        }),
    ]
}

fn selections() -> impl Strategy<Value = Selection> {
    any::<(u64, bool, u16, Option<u64>)>().prop_map(|(pages, volatile, volatile_share, random)| {
        Selection {
            pages,
            only: volatile.then_some(Usage::Volatile),
            volatile_share,
            random,
        }
    })
}

fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        (any::<u64>(), plists()).prop_map(|(id, buffer)| Event::Interrupt { id, buffer }),
        any::<u64>().prop_map(|id| Event::Retract { id }),
        texts().prop_map(|text| Event::Console { text }),
        texts().prop_map(|reason| Event::Logoff { reason }),
        any::<bool>().prop_map(|on| Event::MemAssist { on }),
        (any::<u64>(), selections()).prop_map(|(id, selection)| Event::Take { id, selection }),
        saves().prop_map(|save| save.map_or(Event::Hold, |save| Event::Saved { save })),
    ]
}

proptest! {
    #[test]
    fn hostile_bytes_are_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = decode::<Hello>(&bytes);
        let _ = decode::<Welcome>(&bytes);
        let _ = decode::<Request>(&bytes);
        let _ = decode::<Reply>(&bytes);
        let _ = decode::<Event>(&bytes);
        let _ = decode::<Report>(&bytes);
    }

    #[test]
    fn damaged_messages_are_no_panic(event in events(), request in requests(), at: usize, byte: u8, cut: usize) {
        for bytes in [encode(&event)?, encode(&request)?] {
            let mut damaged = bytes.clone();
            damaged[at % bytes.len()] = byte;
            let _ = decode::<Event>(&damaged);
            let _ = decode::<Request>(&damaged);
            let _ = decode::<Event>(&bytes[..cut % bytes.len()]);
            let _ = decode::<Request>(&bytes[..cut % bytes.len()]);
        }
    }

    #[test]
    fn messages_round_trip(hello in hellos(), request in requests(), event in events()) {
        prop_assert_eq!(decode::<Hello>(&encode(&hello)?)?, hello);
        prop_assert_eq!(decode::<Request>(&encode(&request)?)?, request);
        prop_assert_eq!(decode::<Event>(&encode(&event)?)?, event);
    }

    #[test]
    fn nothing_may_follow_a_message(request in requests(), rest in proptest::collection::vec(any::<u8>(), 1..16)) {
        let mut bytes = encode(&request)?;
        bytes.extend(rest);
        prop_assert!(decode::<Request>(&bytes).is_err());
    }
}

#[test]
fn the_largest_response_fits_and_a_larger_one_does_not() {
    let response = |lines| {
        Reply::Command(Response {
            rc: 0,
            lines: vec!["x".repeat(80); lines],
        })
    };
    assert!(encode(&response(800)).is_ok());
    assert!(encode(&response(MAX_MESSAGE / 80 + 1)).is_err());
}
