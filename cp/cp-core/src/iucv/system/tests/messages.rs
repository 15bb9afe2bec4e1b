// SPDX-License-Identifier: GPL-2.0

//! The life of messages: two-way, in parts, in lists of buffers, refused, taken back, and with bad buffers.

use super::*;

struct Pair {
    m: Machines,
    a: UserId,
    b: UserId,
    pa: u16,
    pb: u16,
}

fn pair() -> Pair {
    let mut m = Machines::default();
    let (a, b) = (m.boot("LINUX01"), m.boot("LINUX02"));
    let (pa, pb) = m.connect(&a, &b);
    Pair { m, a, b, pa, pb }
}

impl Pair {
    fn send(&mut self, plist: Message) -> (u8, Message) {
        self.m.message(&self.a, Function::Send, plist)
    }

    fn receive(&mut self, plist: Message) -> (u8, Message) {
        self.m.message(&self.b, Function::Receive, plist)
    }

    /// A two-way message of 16 bytes with an answer buffer of `answer` bytes, received.
    fn ask(&mut self, answer: u32) -> PendingMessage {
        let plist = Message {
            flags: Flags::NONE,
            answer_address: 0x3000.into(),
            answer_length: answer.into(),
            source_class: 77.into(),
            ..send_plist(self.pa, 0x1000, 16, 9)
        };
        assert_eq!(self.send(plist).0, 0);
        let pending = self.m.take_pending(&self.b);
        assert_eq!(pending.flags, Flags::NONE);
        assert_eq!(pending.answer_length.get(), answer);
        let (rc, received) = self.receive(receive_plist(&pending, 0x2000, 16));
        assert_eq!((rc, received.answer_length.get()), (0, answer));
        assert_eq!(self.m.interrupts[&self.a].pending(), 0);
        pending
    }

    fn reply(
        &mut self,
        to: &PendingMessage,
        flags: Flags,
        address: u32,
        length: u32,
    ) -> (u8, Message) {
        let plist = Message {
            flags,
            answer_address: address.into(),
            answer_length: length.into(),
            ..receive_plist(to, 0, 0)
        };
        self.m.message(&self.b, Function::Reply, plist)
    }

    fn write_list(&mut self, user: UserId, at: u32, entries: &[(u32, u32)]) {
        for (i, (address, length)) in entries.iter().enumerate() {
            let entry = (u64::from(*address) << 32 | u64::from(*length)).to_be_bytes();
            self.m.store(&user, at + 8 * i as u32, &entry);
        }
    }
}

#[test]
fn a_question_is_answered() {
    let mut p = pair();
    let pending = p.ask(32);
    p.m.store(&p.b, 0x5000, b"an answer");
    let (rc, replied) = p.reply(&pending, Flags::NONE, 0x5000, 9);
    assert_eq!((rc, replied.answer_length.get()), (0, 23));
    let complete = p.m.take_complete(&p.a);
    assert_eq!((complete.rcode, complete.audit), (7, [0; 3]));
    assert_eq!((complete.tag.get(), complete.source_class.get()), (9, 77));
    assert_eq!(complete.answer_length.get(), 23);
    assert_eq!(p.m.load(&p.a, 0x3000, 10), b"an answer\0");
    // Only once.
    assert_eq!(p.reply(&pending, Flags::NONE, 0x5000, 9).0, 2);
    p.m.assert_quiet();
}

#[test]
fn an_answer_is_too_long() {
    let mut p = pair();
    let pending = p.ask(4);
    p.m.store(&p.b, 0x5000, b"an answer");
    let (rc, replied) = p.reply(&pending, Flags::NONE, 0x5000, 9);
    assert_eq!((rc, replied.answer_length.get()), (5, 5));
    let complete = p.m.take_complete(&p.a);
    assert_eq!(complete.audit, [0x80, 0, 0]);
    assert_eq!(complete.answer_length.get(), 5);
    assert_eq!(p.m.load(&p.a, 0x3000, 5), b"an a\0");
}

#[test]
fn an_answer_goes_with_the_interrupt() {
    let mut p = pair();
    let pending = p.ask(0);
    let mut plist = receive_plist(&pending, 0, 0);
    plist.flags = Flags::IN_LIST | Flags::PRIORITY;
    plist.set_list_data(*b"answered");
    assert_eq!(p.m.message(&p.b, Function::Reply, plist).0, 0);
    let complete = p.m.take_complete(&p.a);
    assert_eq!((complete.rcode, complete.list_data), (6, *b"answered"));
    assert!(complete.flags.has(Flags::IN_LIST | Flags::PRIORITY));
}

#[test]
fn one_way_messages_are_not_answered() {
    let mut p = pair();
    assert_eq!(p.send(send_plist(p.pa, 0, 8, 0)).0, 0);
    let pending = p.m.take_pending(&p.b);
    assert_eq!(p.reply(&pending, Flags::NONE, 0, 0).0, 2);
}

#[test]
fn a_message_is_received_in_parts() {
    let mut p = pair();
    let text: Vec<u8> = (0..100).collect();
    p.m.store(&p.a, 0x1000, &text);
    assert_eq!(p.send(send_plist(p.pa, 0x1000, 100, 3)).0, 0);
    let pending = p.m.take_pending(&p.b);
    let (rc, part) = p.receive(receive_plist(&pending, 0x2000, 30));
    assert_eq!((rc, part.length.get()), (5, 70));
    assert_eq!(part.address.get(), 0x2000 + 30);
    assert!(
        part.flags
            .has(Flags::BY_PATH | Flags::BY_MESSAGE | Flags::BY_CLASS)
    );
    assert_eq!(p.m.interrupts[&p.a].pending(), 0);
    // The list is ready for the next part but for the length.
    let (rc, part) = p.receive(Message {
        length: 30.into(),
        ..part
    });
    assert_eq!((rc, part.length.get()), (5, 40));
    let (rc, part) = p.receive(Message {
        length: 50.into(),
        ..part
    });
    assert_eq!((rc, part.length.get()), (0, 10));
    assert_eq!(p.m.load(&p.b, 0x2000, 100), text);
    assert_eq!(p.m.take_complete(&p.a).tag.get(), 3);
    p.m.assert_quiet();
}

#[test]
fn lists_of_buffers_are_walked_on_both_sides() {
    let mut p = pair();
    let (a, b) = (p.a, p.b);
    let text: Vec<u8> = (0..=255).collect();
    p.m.store(&a, 0x1000, &text[..100]);
    p.m.store(&a, 0x1800, &text[100..]);
    p.write_list(a, 0x800, &[(0x1000, 100), (0, 0), (0x1800, 200)]);
    let plist = Message {
        flags: Flags::ONE_WAY | Flags::BUFFER_LIST,
        ..send_plist(p.pa, 0x800, 256, 1)
    };
    assert_eq!(p.send(plist).0, 0);
    let pending = p.m.take_pending(&b);
    assert_eq!(pending.length(), 256);
    p.write_list(b, 0x800, &[(0x4000, 8), (0x4100, 150), (0x4200, 400)]);
    let mut plist = receive_plist(&pending, 0x800, 256);
    plist.flags |= Flags::BUFFER_LIST;
    let (rc, received) = p.receive(plist);
    assert_eq!((rc, received.length.get()), (0, 0));
    let parts = [(0x4000, 8), (0x4100, 150), (0x4200, 98)];
    let got: Vec<u8> = parts
        .into_iter()
        .flat_map(|(address, length)| p.m.load(&b, address, length))
        .collect();
    assert_eq!(got, text);
    assert_eq!(p.m.take_complete(&a).audit, [0; 3]);
}

#[test]
fn bad_lists_are_refused() {
    let mut p = pair();
    let (a, b) = (p.a, p.b);
    assert_eq!(p.send(send_plist(p.pa, 0x1000, 64, 1)).0, 0);
    let pending = p.m.take_pending(&b);
    let mut try_list = |at: u32, entries: &[(u32, u32)]| {
        p.write_list(b, at, entries);
        let mut plist = receive_plist(&pending, at, 64);
        plist.flags |= Flags::BUFFER_LIST;
        p.receive(plist).0
    };
    assert_eq!(try_list(0x804, &[]), 22);
    assert_eq!(try_list(0x800, &[(0x4000, 8), (0x4000, 0x8000_0000)]), 24);
    assert_eq!(try_list(0x6000, &[]), 25);
    let mut plist = receive_plist(&pending, STORAGE_BYTES as u32, 64);
    plist.flags |= Flags::BUFFER_LIST;
    assert_eq!(p.receive(plist).0, 23);
    // The message is still there.
    assert_eq!(p.receive(receive_plist(&pending, 0x2000, 64)).0, 0);
    p.m.take_complete(&a);
    let mut plist = send_in_list(p.pa, [0; 8]);
    plist.flags |= Flags::BUFFER_LIST;
    assert_eq!(p.send(plist).0, 26);
}

#[test]
fn bad_buffers_hurt_whom_they_belong_to() {
    let mut p = pair();
    let beyond = STORAGE_BYTES as u32 - 8;
    // The receiver's own: an interruption, and nothing has happened.
    assert_eq!(p.send(send_plist(p.pa, 0x1000, 16, 1)).0, 0);
    let pending = p.m.take_pending(&p.b);
    for bad in [beyond, 0x8000_0000, u32::MAX] {
        let plist = receive_plist(&pending, bad, 16);
        let mut raw = plist.encode();
        assert_eq!(
            p.m.call(&p.b, Function::Receive, &mut raw),
            Err(ProgramInterruption::Addressing)
        );
        assert_eq!(raw, plist.encode());
    }
    assert_eq!(p.receive(receive_plist(&pending, 0x2000, 16)).0, 0);
    p.m.take_complete(&p.a);

    // The sender's: the message is over, and both know.
    assert_eq!(p.send(send_plist(p.pa, beyond, 16, 2)).0, 0);
    let pending = p.m.take_pending(&p.b);
    assert_eq!(p.receive(receive_plist(&pending, 0x2000, 16)).0, 7);
    let complete = p.m.take_complete(&p.a);
    assert_eq!((complete.tag.get(), complete.audit), (2, [0x20, 0, 0]));

    // The answer buffer.
    let plist = Message {
        flags: Flags::NONE,
        answer_address: beyond.into(),
        answer_length: 16.into(),
        ..send_plist(p.pa, 0x1000, 0, 3)
    };
    assert_eq!(p.send(plist).0, 0);
    let pending = p.m.take_pending(&p.b);
    assert_eq!(p.reply(&pending, Flags::NONE, 0x2000, 16).0, 7);
    assert_eq!(p.m.take_complete(&p.a).audit, [0x08, 0, 0]);

    let negative = send_plist(p.pa, 0, 0x8000_0000, 0);
    assert_eq!(p.send(negative).0, 10);
    p.m.assert_quiet();
}

#[test]
fn a_message_is_refused() {
    let mut p = pair();
    assert_eq!(p.send(send_plist(p.pa, 0, 8, 4)).0, 0);
    let pending = p.m.take_pending(&p.b);
    let reject = receive_plist(&pending, 0, 0);
    assert_eq!(p.m.message(&p.b, Function::Reject, reject).0, 0);
    let complete = p.m.take_complete(&p.a);
    assert_eq!((complete.tag.get(), complete.audit), (4, [0x04, 0, 0]));
    assert_eq!(p.m.message(&p.b, Function::Reject, reject).0, 2);
    // Received, but not answered.
    let pending = p.ask(8);
    assert_eq!(
        p.m.message(&p.b, Function::Reject, receive_plist(&pending, 0, 0))
            .0,
        0
    );
    assert_eq!(p.m.take_complete(&p.a).audit, [0x04, 0, 0]);
}

#[test]
fn a_message_is_taken_back() {
    let mut p = pair();
    let purge = |p: &mut Pair, id, class: u32| {
        let mut raw = Complete {
            path: p.pa.into(),
            flags: Flags::BY_PATH | Flags::BY_MESSAGE | Flags::BY_CLASS,
            message: id,
            source_class: class.into(),
            ..Complete::zeroed()
        }
        .encode();
        let rc = p.m.rc(&p.a, Function::Purge, &mut raw);
        (rc, Complete::decode(&raw))
    };
    // Not yet received: the receiver never hears of it.
    let (rc, sent) = p.send(send_plist(p.pa, 0, 8, 6));
    assert_eq!(rc, 0);
    assert_eq!(purge(&mut p, sent.message, 1).0, 8);
    let (rc, purged) = purge(&mut p, sent.message, 0);
    assert_eq!((rc, purged.tag.get(), purged.audit), (0, 6, [0; 3]));
    assert_eq!(purge(&mut p, sent.message, 0).0, 2);
    p.m.assert_quiet();
    // Received, but not answered: the receiver is told when it answers.
    let pending = p.ask(8);
    assert_eq!(purge(&mut p, pending.message, 77).0, 0);
    assert_eq!(p.reply(&pending, Flags::NONE, 0, 8).0, 9);
    assert_eq!(p.reply(&pending, Flags::NONE, 0, 8).0, 2);
    // Begun.
    assert_eq!(p.send(send_plist(p.pa, 0, 8, 0)).0, 0);
    let pending = p.m.take_pending(&p.b);
    assert_eq!(p.receive(receive_plist(&pending, 0x2000, 3)).0, 5);
    assert_eq!(purge(&mut p, pending.message, 0).0, 0);
    assert_eq!(p.receive(receive_plist(&pending, 0x2000, 8)).0, 9);
    p.m.assert_quiet();
}

#[test]
fn search_flags_must_go_together() {
    let mut p = pair();
    assert_eq!(p.send(send_plist(p.pa, 0, 8, 0)).0, 0);
    for function in [
        Function::Receive,
        Function::Reject,
        Function::Purge,
        Function::TestCompletion,
    ] {
        for flags in [0x04, 0x05, 0x06] {
            let mut raw = [0; 40];
            raw[2] = flags;
            assert_eq!(
                p.m.call(&p.b, function, &mut raw),
                Err(ProgramInterruption::Specification)
            );
        }
    }
    let mut raw = [0; 40];
    assert_eq!(
        p.m.call(&p.b, Function::Purge, &mut raw),
        Err(ProgramInterruption::Specification)
    );
}

#[test]
fn priority_goes_first() {
    let mut p = pair();
    assert_eq!(p.send(send_plist(p.pa, 0, 8, 1)).0, 0);
    let mut plist = send_plist(p.pa, 0, 8, 2);
    plist.flags |= Flags::PRIORITY;
    assert_eq!(p.send(plist).0, 0);
    let pending = p.m.take_pending(&p.b);
    assert_eq!(
        (pending.kind, pending.flags),
        (8, Flags::ONE_WAY | Flags::PRIORITY)
    );
    // RECEIVE of any message takes the priority one, and its interrupt.
    let any = Message {
        address: 0x2000.into(),
        length: 8.into(),
        ..Message::zeroed()
    };
    let (rc, received) = p.receive(any);
    assert_eq!((rc, received.message), (0, pending.message));
    assert_eq!(received.path.get(), p.pb);
    let (rc, received) = p.receive(any);
    assert_eq!(rc, 0);
    assert!(!received.flags.has(Flags::PRIORITY));
    assert_eq!(p.receive(any).0, 2);
    let first = p.m.take_complete(&p.a);
    assert_eq!((first.rcode, first.tag.get()), (6, 2));
    assert_eq!(p.m.take_complete(&p.a).tag.get(), 1);
    p.m.assert_quiet();
}

#[test]
fn priority_must_be_agreed() {
    let mut m = Machines::default();
    let (a, b) = (m.boot("LINUX01"), m.boot("LINUX02"));
    let plist = Control {
        user_id: b.as_ebcdic(),
        ..Control::zeroed()
    };
    let (_, connected) = m.control(&a, Function::Connect, plist);
    // The limit that CP gives to who asks for none.
    assert_eq!(connected.message_limit.get(), 10);
    let pending = m.take_path(&b, InterruptKind::PendingConnection);
    let accept = Control {
        path: pending.path,
        ..Control::zeroed()
    };
    assert_eq!(m.control(&b, Function::Accept, accept).0, 0);
    let mut plist = send_plist(connected.path.get(), 0, 8, 0);
    plist.flags |= Flags::PRIORITY;
    assert_eq!(m.message(&a, Function::Send, plist).0, 4);
}

#[test]
fn polling_instead_of_interrupts() {
    let mut p = pair();
    let test = |p: &mut Pair, user: UserId| p.m.rc_of_test(&user);
    let (a, b) = (p.a, p.b);
    assert_eq!(test(&mut p, b), 0);
    let describe = |p: &mut Pair| p.m.message(&b, Function::Describe, Message::zeroed());
    assert_eq!(describe(&mut p).0, 2);
    assert_eq!(p.send(send_plist(p.pa, 0x1000, 8, 5)).0, 0);
    assert_eq!(test(&mut p, b), 1);
    let (rc, described) = describe(&mut p);
    assert_eq!((rc, described.length.get()), (0, 8));
    assert_eq!(p.m.interrupts[&b].pending(), 0);
    // The list of DESCRIBE is that of RECEIVE but for the buffer.
    let (rc, _) = p.receive(Message {
        address: 0x2000.into(),
        ..described
    });
    assert_eq!(rc, 0);
    assert_eq!(test(&mut p, a), 2);
    let mut raw = [0; 40];
    let done = p.m.call(&a, Function::TestCompletion, &mut raw);
    assert_eq!(done, Ok(Completion::with_cc(0)));
    assert_eq!(Complete::decode(&raw).tag.get(), 5);
    assert_eq!(p.m.rc(&a, Function::TestCompletion, &mut [0; 40]), 2);
    p.m.assert_quiet();

    assert_eq!(p.send(send_plist(p.pa, 0x1000, 8, 5)).0, 0);
    let pending = p.m.take_pending(&b);
    let reject = receive_plist(&pending, 0, 0);
    assert_eq!(p.m.message(&b, Function::Reject, reject).0, 0);
    let done = p.m.call(&a, Function::TestCompletion, &mut raw);
    assert_eq!(done, Ok(Completion::with_cc(3)));
    assert_eq!(Complete::decode(&raw).audit, [0x04, 0, 0]);
}

impl Machines {
    fn rc_of_test(&mut self, user: &UserId) -> u8 {
        self.call(user, Function::TestMessage, &mut [0; 40])
            .unwrap()
            .cc
    }
}
