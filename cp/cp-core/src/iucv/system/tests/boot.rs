// SPDX-License-Identifier: GPL-2.0

//! What Linux does while it boots, runs cmm and shuts down.

use super::*;
use crate::ebcdic;
use crate::system::{MessageClass, MessageService, NotTaken};

fn connect_to_msg() -> Control {
    Control {
        message_limit: 255.into(),
        user_id: ebcdic::padded("*MSG"),
        ..Control::zeroed()
    }
}

#[test]
fn query_works_before_anything_is_declared() {
    let mut m = Machines::default();
    let user = m.log_on("LINUX01", 64);
    let answer = m.call(&user, Function::Query, &mut [0; 40]).unwrap();
    assert_eq!(
        answer,
        Completion {
            cc: 0,
            r0: Some(40),
            r1: Some(64)
        }
    );
    for function in Function::ALL {
        if !matches!(function, Function::Query | Function::DeclareBuffer) {
            let mut raw = [0; 40];
            assert_eq!(
                m.call(&user, function, &mut raw),
                Err(ProgramInterruption::Operation)
            );
            assert_eq!(raw, [0; 40]);
        }
    }
    let nobody = UserId::new("NOBODY").unwrap();
    assert_eq!(
        m.call(&nobody, Function::Query, &mut [0; 40]),
        Err(ProgramInterruption::Operation)
    );
}

#[test]
fn cmm_gets_its_orders() {
    let mut m = Machines::default();
    let user = m.log_on("LINUX01", DEFAULT_MAX_CONNECTIONS);
    let from = UserId::new("VMRMSVM").unwrap();
    let text = "CMM SHRINK 20000";
    let order = |m: &mut Machines| {
        let result = m.system.deliver(MessageClass::Special, from, user, text);
        m.acknowledge();
        m.pump();
        result
    };
    assert_eq!(order(&mut m), Err(NotTaken::NotConnected));

    m.declare(&user);
    m.interrupts[&user].set_mask(0, 0xf8).unwrap();
    m.interrupts[&user].set_control_mask(0, 0xf8).unwrap();
    let (rc, path) = m.control(&user, Function::Connect, connect_to_msg());
    assert_eq!((rc, path.message_limit.get()), (0, 255));
    let complete = m.take_path(&user, InterruptKind::ConnectionComplete);
    assert_eq!((complete.path, complete.flags), (path.path, Flags::NONE));
    assert_eq!(m.control(&user, Function::Connect, connect_to_msg()).0, 13);

    order(&mut m).unwrap();
    let pending = m.take_pending(&user);
    assert_eq!((pending.kind, pending.flags), (9, Flags(0x10)));
    assert_eq!(pending.path, path.path);
    assert_eq!(pending.target_class.get(), 4);
    let length = 8 + text.len() as u32;
    assert_eq!(pending.length(), length);
    let (rc, received) = m.message(
        &user,
        Function::Receive,
        receive_plist(&pending, 0x1000, length),
    );
    assert_eq!((rc, received.length.get()), (0, 0));
    assert_eq!(
        ebcdic::to_string(&m.load(&user, 0x1000, length as usize)),
        "VMRMSVM CMM SHRINK 20000"
    );
    // It is gone now.
    let again = receive_plist(&pending, 0x1000, length);
    assert_eq!(m.message(&user, Function::Receive, again).0, 2);
    m.assert_quiet();

    // The program gets no more than 255 ahead; those it refuses make room.
    for _ in 0..255 {
        order(&mut m).unwrap();
    }
    assert_eq!(order(&mut m), Err(NotTaken::LimitReached));
    let pending = m.take_pending(&user);
    assert_eq!(order(&mut m), Err(NotTaken::LimitReached));
    let reject = receive_plist(&pending, 0, 0);
    assert_eq!(m.message(&user, Function::Reject, reject).0, 0);
    order(&mut m).unwrap();

    // The service takes nothing.
    let plist = send_plist(path.path.get(), 0x1000, 1, 0);
    assert_eq!(m.message(&user, Function::Send, plist).0, 2);

    // Reboot.
    m.interrupts[&user].set_mask(0, 0).unwrap();
    let sever = Control {
        path: path.path,
        ..Control::zeroed()
    };
    assert_eq!(m.control(&user, Function::Sever, sever).0, 0);
    assert_eq!(m.interrupts[&user].pending(), 0);
    m.retrieve(&user);
    assert_eq!(order(&mut m), Err(NotTaken::NotConnected));
    assert!(m.system.links.is_empty());
}

#[test]
fn messages_have_their_own_class() {
    let mut m = Machines::default();
    let user = m.boot("LINUX01");
    assert_eq!(m.control(&user, Function::Connect, connect_to_msg()).0, 0);
    m.take(&user);
    m.system
        .deliver(MessageClass::Message, user, user, "HELLO")
        .unwrap();
    m.pump();
    assert_eq!(m.take_pending(&user).target_class.get(), 1);
}

#[test]
fn a_quiesced_path_gets_no_messages() {
    let mut m = Machines::default();
    let user = m.boot("LINUX01");
    let plist = Control {
        flags: Flags::QUIESCED,
        ..connect_to_msg()
    };
    let (rc, path) = m.control(&user, Function::Connect, plist);
    assert_eq!(rc, 0);
    let deliver = |m: &mut Machines| m.system.deliver(MessageClass::Special, user, user, "HELLO");
    assert_eq!(deliver(&mut m), Err(NotTaken::NotConnected));
    let resume = Control {
        path: path.path,
        ..Control::zeroed()
    };
    assert_eq!(m.control(&user, Function::Resume, resume).0, 0);
    assert_eq!(deliver(&mut m), Ok(()));
}

#[test]
fn reset_and_logoff_leave_nothing_behind() {
    let mut m = Machines::default();
    let a = m.boot("LINUX01");
    let b = m.boot("LINUX02");
    assert_eq!(m.control(&a, Function::Connect, connect_to_msg()).0, 0);
    m.take(&a);
    let (_, path) = m.connect(&a, &b);
    m.interrupts[&a].reset();
    m.system.reset(&a);
    m.pump();
    assert_eq!(m.take_path(&b, InterruptKind::Severed).path.get(), path);
    assert_eq!(
        m.system.paths(&b).collect::<Vec<_>>(),
        [(PathId(path), None)]
    );
    m.declare(&a);
    let (_, path) = m.connect(&a, &b);
    assert_eq!(
        m.system.paths(&b).last(),
        Some((PathId(path), Some("LINUX01".into())))
    );
    m.log_off(&a);
    assert!(!m.system.is_logged_on(&a));
    m.take_path(&b, InterruptKind::Severed);
    let all = Control {
        flags: Flags::ALL,
        ..Control::zeroed()
    };
    assert_eq!(m.control(&b, Function::Sever, all).0, 0);
    assert!(m.system.links.is_empty());
    m.assert_quiet();
}
