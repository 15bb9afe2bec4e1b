// SPDX-License-Identifier: GPL-2.0

//! Two guests talk as `net/iucv/af_iucv.c` does.

use super::*;

const NAMES: [u8; 16] = *b"SERVER..CLIENT..";
/// `iprm_shutdown`
const SHUTDOWN: [u8; 8] = [0, 0, 0, 0, 0, 0, 0, 1];

fn connect_plist(to: &UserId) -> Control {
    Control {
        flags: Flags::IN_LIST,
        // `IUCV_QUEUELEN_DEFAULT`
        message_limit: 65535.into(),
        user_id: to.as_ebcdic(),
        user_data: NAMES,
        ..Control::zeroed()
    }
}

fn on(path: u16) -> Control {
    Control {
        path: path.into(),
        ..Control::zeroed()
    }
}

#[test]
fn connecting_tells_each_side_about_the_other() {
    let mut m = Machines::default();
    let (client, server) = (m.boot("LINUX01"), m.boot("LINUX02"));
    let (rc, connected) = m.control(&client, Function::Connect, connect_plist(&server));
    assert_eq!((rc, connected.message_limit.get()), (0, 255));
    let path = connected.path.get();
    // Not before it is accepted.
    let early = send_plist(path, 0, 1, 0);
    assert_eq!(m.message(&client, Function::Send, early).0, 1);

    let pending = m.take_path(&server, InterruptKind::PendingConnection);
    assert_eq!(pending.user_id, client.as_ebcdic());
    assert_eq!(pending.user_data, NAMES);
    assert_eq!(pending.flags, Flags::IN_LIST);
    assert_eq!(pending.message_limit.get(), 255);
    let accept = Control {
        path: pending.path,
        flags: pending.flags,
        message_limit: 128.into(),
        user_data: [7; 16],
        ..Control::zeroed()
    };
    let (rc, accepted) = m.control(&server, Function::Accept, accept);
    assert_eq!((rc, accepted.message_limit.get()), (0, 128));
    assert_eq!(accepted.flags, Flags::IN_LIST);
    assert_eq!(m.control(&server, Function::Accept, accept).0, 1);
    let complete = m.take_path(&client, InterruptKind::ConnectionComplete);
    assert_eq!((complete.path.get(), complete.user_data), (path, [7; 16]));
    assert_eq!(complete.flags, Flags::IN_LIST);
    m.assert_quiet();
}

#[test]
fn a_stream_of_messages_goes_both_ways() {
    let mut m = Machines::default();
    let (client, server) = (m.boot("LINUX01"), m.boot("LINUX02"));
    let (c, s) = m.connect(&client, &server);
    for round in 0..10_u32 {
        for (from, to, path, other) in [(&client, &server, c, s), (&server, &client, s, c)] {
            let text: Vec<u8> = (0..1000).map(|i| (i * 7 + round) as u8).collect();
            m.store(from, 0x2000, b"not this");
            let plist = send_plist(path, 0x2000, 1000, round);
            assert_eq!(m.message(from, Function::Send, plist).0, 0);
            // The data stays in the sender's storage until it is received.
            m.store(from, 0x2000, &text);
            let pending = m.take_pending(to);
            assert_eq!((pending.path.get(), pending.length()), (other, 1000));
            assert_eq!(m.interrupts[from].pending(), 0);
            let plist = receive_plist(&pending, 0x4000, 1000);
            let (rc, received) = m.message(to, Function::Receive, plist);
            assert_eq!((rc, received.length.get()), (0, 0));
            assert_eq!(received.flags, Flags::ONE_WAY);
            assert_eq!(m.load(to, 0x4000, 1000), text);
            let complete = m.take_complete(from);
            assert_eq!((complete.rcode, complete.path.get()), (7, path));
            assert_eq!((complete.tag.get(), complete.audit), (round, [0; 3]));
        }
    }
    m.assert_quiet();
}

#[test]
fn small_messages_go_with_the_interrupt() {
    let mut m = Machines::default();
    let (client, server) = (m.boot("LINUX01"), m.boot("LINUX02"));
    let (c, s) = m.connect(&client, &server);
    let data = *b"hello\0\0\xfa";
    assert_eq!(
        m.message(&client, Function::Send, send_in_list(c, data)).0,
        0
    );
    let pending = m.take_pending(&server);
    assert_eq!((pending.path.get(), pending.list_data), (s, data));
    assert_eq!(pending.flags, Flags::IN_LIST | Flags::ONE_WAY);
    // The sender hears nothing, and the message is over with its interrupt.
    m.acknowledge();
    let (link, side) = m.system.users[&client].paths[&PathId(c)];
    assert!(m.system.links[&link].end(side).unwrap().sent.is_empty());
    m.assert_quiet();
}

#[test]
fn small_messages_need_both_sides() {
    let mut m = Machines::default();
    let (client, server) = (m.boot("LINUX01"), m.boot("LINUX02"));
    let (_, connected) = m.control(&client, Function::Connect, connect_plist(&server));
    let pending = m.take_path(&server, InterruptKind::PendingConnection);
    assert_eq!(
        m.control(&server, Function::Accept, on(pending.path.get()))
            .0,
        0
    );
    let complete = m.take_path(&client, InterruptKind::ConnectionComplete);
    assert_eq!(complete.flags, Flags::NONE);
    let plist = send_in_list(connected.path.get(), [0; 8]);
    assert_eq!(m.message(&client, Function::Send, plist).0, 21);
    let plist = send_in_list(pending.path.get(), [0; 8]);
    assert_eq!(m.message(&server, Function::Send, plist).0, 0);
}

#[test]
fn the_message_limit_holds_until_completions_are_taken() {
    let mut m = Machines::default();
    let (client, server) = (m.boot("LINUX01"), m.boot("LINUX02"));
    let (c, _) = m.connect(&client, &server);
    let send = |m: &mut Machines| {
        m.message(&client, Function::Send, send_plist(c, 0, 16, 0))
            .0
    };
    for _ in 0..255 {
        assert_eq!(send(&mut m), 0);
    }
    assert_eq!(send(&mut m), 3);
    let pending = m.take_pending(&server);
    assert_eq!(send(&mut m), 3);
    let plist = receive_plist(&pending, 0x1000, 16);
    assert_eq!(m.message(&server, Function::Receive, plist).0, 0);
    assert_eq!(send(&mut m), 3);
    m.take_complete(&client);
    assert_eq!(send(&mut m), 0);
    assert_eq!(send(&mut m), 3);

    // Data in the list counts, too, until the receiver takes the interrupt.
    let (c, _) = m.connect(&client, &server);
    let send = |m: &mut Machines| {
        m.message(&client, Function::Send, send_in_list(c, [0; 8]))
            .0
    };
    for _ in 0..255 {
        assert_eq!(send(&mut m), 0);
    }
    assert_eq!(send(&mut m), 3);
    while m.interrupts[&server].pending() > 0 {
        m.take(&server);
    }
    assert_eq!(send(&mut m), 0);
}

#[test]
fn shutdown_stops_one_direction() {
    let mut m = Machines::default();
    let (client, server) = (m.boot("LINUX01"), m.boot("LINUX02"));
    let (c, s) = m.connect(&client, &server);
    // SHUT_WR
    assert_eq!(
        m.message(&client, Function::Send, send_in_list(c, SHUTDOWN))
            .0,
        0
    );
    assert_eq!(m.take_pending(&server).list_data, SHUTDOWN);
    // SHUT_RD
    assert_eq!(m.control(&client, Function::Quiesce, on(c)).0, 0);
    assert_eq!(m.take_path(&server, InterruptKind::Quiesced).path.get(), s);
    assert_eq!(
        m.message(&server, Function::Send, send_in_list(s, SHUTDOWN))
            .0,
        2
    );
    assert_eq!(
        m.message(&client, Function::Send, send_in_list(c, SHUTDOWN))
            .0,
        0
    );
    assert_eq!(m.control(&client, Function::Resume, on(c)).0, 0);
    m.take_path(&server, InterruptKind::Resumed);
    assert_eq!(
        m.message(&server, Function::Send, send_in_list(s, SHUTDOWN))
            .0,
        0
    );
}

#[test]
fn quiescing_forever_fills_no_queue() {
    let mut m = Machines::default();
    let (client, server) = (m.boot("LINUX01"), m.boot("LINUX02"));
    let (c, _) = m.connect(&client, &server);
    for _ in 0..1000 {
        assert_eq!(m.control(&client, Function::Quiesce, on(c)).0, 0);
        assert_eq!(m.control(&client, Function::Resume, on(c)).0, 0);
    }
    m.take_path(&server, InterruptKind::Resumed);
    m.assert_quiet();
}

#[test]
fn closing_keeps_small_messages_and_withdraws_the_others() {
    let mut m = Machines::default();
    let (client, server) = (m.boot("LINUX01"), m.boot("LINUX02"));
    let (c, s) = m.connect(&client, &server);
    let data = *b"bye\0\0\0\0\xfc";
    assert_eq!(
        m.message(&client, Function::Send, send_plist(c, 0, 100, 1))
            .0,
        0
    );
    assert_eq!(
        m.message(&client, Function::Send, send_in_list(c, data)).0,
        0
    );
    assert_eq!(
        m.message(&server, Function::Send, send_plist(s, 0, 100, 2))
            .0,
        0
    );
    let sever = Control {
        user_data: NAMES,
        ..on(c)
    };
    assert_eq!(m.control(&client, Function::Sever, sever).0, 0);
    assert_eq!(m.control(&client, Function::Sever, sever).0, 1);
    assert_eq!(m.interrupts[&client].pending(), 0);

    let complete = m.take_complete(&server);
    assert_eq!((complete.tag.get(), complete.audit), (2, [0, 8, 0]));
    assert_eq!(m.take_pending(&server).list_data, data);
    let severed = m.take_path(&server, InterruptKind::Severed);
    assert_eq!((severed.path.get(), severed.user_data), (s, NAMES));
    m.assert_quiet();

    assert_eq!(
        m.message(&server, Function::Send, send_plist(s, 0, 1, 0)).0,
        1
    );
    assert_eq!(m.control(&server, Function::Quiesce, on(s)).0, 1);
    assert_eq!(m.control(&server, Function::Sever, on(s)).0, 0);
    assert!(m.system.links.is_empty());
    m.assert_quiet();
}

#[test]
fn a_severed_end_has_nothing_pending() {
    let mut m = Machines::default();
    let (client, server) = (m.boot("LINUX01"), m.boot("LINUX02"));
    let (c, s) = m.connect(&client, &server);
    for _ in 0..3 {
        assert_eq!(
            m.message(&client, Function::Send, send_in_list(c, [1; 8]))
                .0,
            0
        );
        assert_eq!(
            m.message(&client, Function::Send, send_plist(c, 0, 8, 0)).0,
            0
        );
    }
    assert_eq!(m.control(&client, Function::Quiesce, on(c)).0, 0);
    assert_eq!(m.control(&client, Function::Sever, on(c)).0, 0);
    // Three small messages, quiesced, severed.
    assert_eq!(m.interrupts[&server].pending(), 5);
    assert_eq!(m.control(&server, Function::Sever, on(s)).0, 0);
    m.assert_quiet();
}

#[test]
fn nobody_listens() {
    let mut m = Machines::default();
    let (client, server) = (m.boot("LINUX01"), m.boot("LINUX02"));
    let (_, connected) = m.control(&client, Function::Connect, connect_plist(&server));
    let pending = m.take_path(&server, InterruptKind::PendingConnection);
    let sever = Control {
        user_data: *b"NO LISTENER     ",
        ..on(pending.path.get())
    };
    assert_eq!(m.control(&server, Function::Sever, sever).0, 0);
    let severed = m.take_path(&client, InterruptKind::Severed);
    assert_eq!(severed.path, connected.path);
    assert_eq!(severed.user_data, *b"NO LISTENER     ");
}

#[test]
fn the_originator_gives_up_before_it_is_accepted() {
    let mut m = Machines::default();
    let (client, server) = (m.boot("LINUX01"), m.boot("LINUX02"));
    let (_, connected) = m.control(&client, Function::Connect, connect_plist(&server));
    assert_eq!(
        m.control(&client, Function::Sever, on(connected.path.get()))
            .0,
        0
    );
    // The path ID stays in use until the target has severed it, too.
    m.take_path(&server, InterruptKind::PendingConnection);
    let severed = m.take_path(&server, InterruptKind::Severed);
    let path = severed.path.get();
    assert_eq!(m.control(&server, Function::Accept, on(path)).0, 20);
    assert_eq!(m.control(&server, Function::Sever, on(path)).0, 0);
    assert!(m.system.links.is_empty());
}

#[test]
fn connecting_fails_for_a_reason() {
    let mut m = Machines::default();
    let client = m.log_on("LINUX01", 2);
    let server = m.log_on("LINUX02", 1);
    m.declare(&client);
    let rc =
        |m: &mut Machines, to: &UserId| m.control(&client, Function::Connect, connect_plist(to)).0;
    assert_eq!(rc(&mut m, &UserId::new("NOBODY").unwrap()), 11);
    assert_eq!(rc(&mut m, &server), 12);
    m.declare(&server);
    assert_eq!(rc(&mut m, &server), 0);
    assert_eq!(rc(&mut m, &server), 14);
    // To oneself: two ends are needed, one is free.
    assert_eq!(rc(&mut m, &client), 14);
    let third = m.boot("LINUX03");
    assert_eq!(rc(&mut m, &third), 0);
    assert_eq!(rc(&mut m, &third), 13);

    let service = Control {
        user_id: crate::ebcdic::padded("*NOSUCH"),
        ..Control::zeroed()
    };
    assert_eq!(m.control(&third, Function::Connect, service).0, 16);
    let bad_name = Control::zeroed();
    assert_eq!(m.control(&third, Function::Connect, bad_name).0, 11);
}

#[test]
fn a_guest_connects_to_itself() {
    let mut m = Machines::default();
    let user = m.boot("LINUX01");
    let (a, b) = m.connect(&user, &user);
    assert_ne!(a, b);
    m.store(&user, 0x1000, b"to myself");
    assert_eq!(
        m.message(&user, Function::Send, send_plist(a, 0x1000, 9, 5))
            .0,
        0
    );
    let pending = m.take_pending(&user);
    assert_eq!(pending.path.get(), b);
    let plist = receive_plist(&pending, 0x2000, 9);
    assert_eq!(m.message(&user, Function::Receive, plist).0, 0);
    assert_eq!(m.load(&user, 0x2000, 9), b"to myself");
    assert_eq!(m.take_complete(&user).path.get(), a);
    m.retrieve(&user);
    assert!(m.system.links.is_empty());
}

#[test]
fn path_ids_are_reused_late() {
    let mut m = Machines::default();
    let (client, server) = (m.log_on("LINUX01", 4), m.boot("LINUX02"));
    m.declare(&client);
    let ids: Vec<_> = (0..6)
        .map(|_| {
            let (c, _) = m.connect(&client, &server);
            assert_eq!(m.control(&client, Function::Sever, on(c)).0, 0);
            m.take(&server);
            c
        })
        .collect();
    assert_eq!(ids, [0, 1, 2, 3, 0, 1]);
}
