// SPDX-License-Identifier: GPL-2.0

//! Random calls by three users, also with hostile parameter lists.

use proptest::prelude::*;

use super::world::{self, Choice, MAX_CONNECTIONS, MAX_LIMIT, NAMES, Step};
use super::*;

fn user() -> impl Strategy<Value = usize> {
    0..NAMES.len()
}

/// What is done to paths; the last of them ends all paths of a user, and is rare.
fn path_step() -> impl Strategy<Value = Step> {
    let path = || any::<usize>().prop_map(Choice);
    let options = || prop::sample::select(vec![0xa0, 0x80, 0x20, 0xe0, 0]);
    prop_oneof![
        20 => (user(), user(), 1..=MAX_LIMIT, options()).prop_map(|(u, to, l, o)| Step::Connect(u, to, l, o)),
        4 => user().prop_map(Step::ConnectToService),
        40 => (user(), path(), 0..=MAX_LIMIT, options()).prop_map(|(u, p, l, o)| Step::Accept(u, p, l, o)),
        4 => (user(), path()).prop_map(|(u, p)| Step::Quiesce(u, p)),
        16 => (user(), path()).prop_map(|(u, p)| Step::Resume(u, p)),
        12 => (user(), path()).prop_map(|(u, p)| Step::Sever(u, p)),
        20 => user().prop_map(Step::Declare),
        1 => user().prop_map(Step::SeverAll),
        1 => user().prop_map(Step::Retrieve),
        1 => user().prop_map(Step::Relog),
    ]
}

fn message_step() -> impl Strategy<Value = Step> {
    // One-way, priority, in the list, in a list of buffers.
    let kind = || prop::sample::select(vec![0x10, 0x30, 0x90, 0x50, 0, 0x20, 0x80, 0x40, 0xd0]);
    let index = || any::<usize>().prop_map(Choice);
    let length = || 0..80u32;
    prop_oneof![
        16 => (user(), index(), kind(), length()).prop_map(|(u, p, k, n)| Step::Send(u, p, k, n)),
        8 => (user(), index(), length()).prop_map(|(u, i, n)| Step::Receive(u, i, n)),
        2 => (user(), length()).prop_map(|(u, n)| Step::ReceiveAny(u, n)),
        1 => user().prop_map(Step::Describe),
        6 => (user(), index(), length()).prop_map(|(u, i, n)| Step::Reply(u, i, n)),
        3 => (user(), index()).prop_map(|(u, i)| Step::Reject(u, i)),
        3 => (user(), index()).prop_map(|(u, i)| Step::Purge(u, i)),
        2 => user().prop_map(Step::TestCompletion),
        16 => user().prop_map(Step::Take),
        2 => (user(), user()).prop_map(|(u, to)| Step::Smsg(u, to)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![1 => path_step(), 3 => message_step()]
}

fn hostile_step() -> impl Strategy<Value = Step> {
    let hostile = (
        user(),
        0..Function::ALL.len() as u8,
        any::<[[u8; 8]; 5]>(),
        0..2 * MAX_CONNECTIONS,
        any::<Option<u8>>(),
    );
    prop_oneof![
        1 => path_step(),
        1 => user().prop_map(Step::Take),
        4 => hostile.prop_map(|(user, function, mut plist, path, message)| {
            // Paths and messages that exist, mostly.
            plist[0][..2].copy_from_slice(&path.to_be_bytes());
            if let Some(message) = message {
                plist[0][4..].copy_from_slice(&u32::from(message).to_be_bytes());
            }
            Step::Hostile(user, function, plist)
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn users_get_what_was_sent(steps in prop::collection::vec(step(), 0..200)) {
        world::run(steps);
    }

    #[test]
    fn hostile_lists_do_no_harm(steps in prop::collection::vec(hostile_step(), 0..200)) {
        world::run_hostile(steps);
    }
}
