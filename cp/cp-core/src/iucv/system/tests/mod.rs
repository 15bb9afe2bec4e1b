// SPDX-License-Identifier: GPL-2.0

//! Virtual machines that use IUCV, each with one CPU, for the tests of the system and for fuzzing.

#![cfg_attr(
    not(test),
    allow(dead_code, reason = "tests use more of it than a fuzzer")
)]

#[cfg(test)]
mod boot;
#[cfg(test)]
mod messages;
#[cfg(test)]
mod random;
#[cfg(test)]
mod sockets;
pub mod world;

use std::collections::BTreeMap;

use super::*;
use crate::iucv::interrupt::{Declaration, Interrupts};
use crate::iucv::plist::{
    self, Complete, Control, InterruptKind, Message, PathInterrupt, PendingMessage,
};

const STORAGE_BYTES: usize = 1 << 16;
const INTERRUPT_BUFFER: u32 = 0xf000;

/// The storages, by user.
#[derive(Debug, Default)]
struct Storages(BTreeMap<UserId, Vec<u8>>);

impl Storages {
    fn range(
        &self,
        user: &UserId,
        address: u64,
        length: usize,
    ) -> Result<(usize, usize), Addressing> {
        let start = usize::try_from(address).map_err(|_| Addressing)?;
        let end = start.checked_add(length).ok_or(Addressing)?;
        let storage = self.0.get(user).ok_or(Addressing)?;
        (end <= storage.len())
            .then_some((start, end))
            .ok_or(Addressing)
    }
}

impl Memory for Storages {
    fn read(&self, user: &UserId, address: u64, bytes: &mut [u8]) -> Result<(), Addressing> {
        let (start, end) = self.range(user, address, bytes.len())?;
        bytes.copy_from_slice(&self.0[user][start..end]);
        Ok(())
    }

    fn write(&mut self, user: &UserId, address: u64, bytes: &[u8]) -> Result<(), Addressing> {
        let (start, end) = self.range(user, address, bytes.len())?;
        if let Some(storage) = self.0.get_mut(user) {
            storage[start..end].copy_from_slice(bytes);
        }
        Ok(())
    }
}

/// A system and the virtual machines on it.
#[derive(Debug, Default)]
struct Machines {
    system: System,
    storages: Storages,
    interrupts: BTreeMap<UserId, Interrupts>,
}

impl Machines {
    fn log_on(&mut self, name: &str, max_connections: u16) -> UserId {
        let user = UserId::new(name).unwrap();
        assert!(self.system.log_on_with(user, max_connections));
        self.storages.0.insert(user, vec![0; STORAGE_BYTES]);
        self.interrupts.insert(user, Interrupts::new(1));
        user
    }

    fn log_off(&mut self, user: &UserId) {
        self.system.log_off(user);
        self.storages.0.remove(user);
        self.interrupts.remove(user);
        self.pump();
    }

    /// Logged on and with a buffer.
    fn boot(&mut self, name: &str) -> UserId {
        let user = self.log_on(name, DEFAULT_MAX_CONNECTIONS);
        self.declare(&user);
        user
    }

    fn declare(&mut self, user: &UserId) {
        let mut raw = Message {
            address: INTERRUPT_BUFFER.into(),
            ..Message::zeroed()
        }
        .encode();
        let declared = self.interrupts[user].declare(0, &mut raw, STORAGE_BYTES as u64);
        if let Ok((_, Declaration::First)) = declared {
            self.system.declare(user);
        }
    }

    fn retrieve(&mut self, user: &UserId) {
        if let Ok((_, Declaration::Last)) = self.interrupts[user].retrieve(0) {
            self.system.retrieve(user);
        }
        self.pump();
    }

    /// Brings the events to the machines.
    fn pump(&mut self) {
        for (user, event) in self.system.events() {
            let interrupts = &self.interrupts[&user];
            match event {
                Event::Interrupt(Interrupt {
                    id,
                    kind,
                    path,
                    raw,
                }) => {
                    assert_eq!(InterruptKind::of(&raw), Some(kind));
                    assert_eq!(plist::path_of(&raw), path);
                    assert!(interrupts.raise(id, raw));
                }
                Event::Retract(id) => {
                    interrupts.retract(id);
                }
            }
        }
    }

    /// Tells the system what the machines have taken.
    fn acknowledge(&mut self) {
        for (user, interrupts) in &self.interrupts {
            self.system.taken_before(user, interrupts.oldest_pending());
        }
    }

    fn call(
        &mut self,
        user: &UserId,
        function: Function,
        raw: &mut Raw,
    ) -> Result<Completion, ProgramInterruption> {
        self.acknowledge();
        let result = self.system.call(user, function, raw, &mut self.storages);
        self.pump();
        result
    }

    /// The return code of a function with a control parameter list, and that list.
    fn control(&mut self, user: &UserId, function: Function, plist: Control) -> (u8, Control) {
        let mut raw = plist.encode();
        let rc = self.rc(user, function, &mut raw);
        (rc, Control::decode(&raw))
    }

    /// The same with a message parameter list.
    fn message(&mut self, user: &UserId, function: Function, plist: Message) -> (u8, Message) {
        let mut raw = plist.encode();
        let rc = self.rc(user, function, &mut raw);
        (rc, Message::decode(&raw))
    }

    /// What Linux makes of the outcome: the return code with condition code 1, else the condition code.
    fn rc(&mut self, user: &UserId, function: Function, raw: &mut Raw) -> u8 {
        match self.call(user, function, raw).unwrap().cc {
            1 => raw[RCODE_OFFSET],
            cc => cc,
        }
    }

    fn take(&mut self, user: &UserId) -> Option<Raw> {
        let taken = self.interrupts[user].take(0)?;
        assert_eq!(taken.buffer, INTERRUPT_BUFFER);
        Some(taken.raw)
    }

    fn take_path(&mut self, user: &UserId, kind: InterruptKind) -> PathInterrupt {
        let interrupt = PathInterrupt::decode(&self.take(user).expect("an interrupt"));
        assert_eq!(interrupt.kind, kind as u8);
        interrupt
    }

    fn take_pending(&mut self, user: &UserId) -> PendingMessage {
        let interrupt = PendingMessage::decode(&self.take(user).expect("an interrupt"));
        assert!([8, 9].contains(&interrupt.kind));
        interrupt
    }

    fn take_complete(&mut self, user: &UserId) -> Complete {
        let interrupt = Complete::decode(&self.take(user).expect("an interrupt"));
        assert!([6, 7].contains(&interrupt.rcode));
        interrupt
    }

    fn store(&mut self, user: &UserId, address: u32, bytes: &[u8]) {
        self.storages.write(user, address.into(), bytes).unwrap();
    }

    fn load(&self, user: &UserId, address: u32, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.storages
            .read(user, address.into(), &mut bytes)
            .unwrap();
        bytes
    }

    /// Connects two users as Linux's sockets do; the path IDs at both ends.
    fn connect(&mut self, from: &UserId, to: &UserId) -> (u16, u16) {
        self.connect_with(from, to, 65535)
    }

    fn connect_with(&mut self, from: &UserId, to: &UserId, limit: u16) -> (u16, u16) {
        let (rc, connected) = self.control(
            from,
            Function::Connect,
            Control {
                flags: Flags::IN_LIST | Flags::PRIORITY,
                message_limit: limit.into(),
                user_id: to.as_ebcdic(),
                ..Control::zeroed()
            },
        );
        assert_eq!(rc, 0);
        let pending = self.take_path(to, InterruptKind::PendingConnection);
        let (rc, _) = self.control(
            to,
            Function::Accept,
            Control {
                path: pending.path,
                flags: pending.flags,
                message_limit: pending.message_limit,
                ..Control::zeroed()
            },
        );
        assert_eq!(rc, 0);
        self.take_path(from, InterruptKind::ConnectionComplete);
        (connected.path.get(), pending.path.get())
    }

    fn assert_quiet(&mut self) {
        let pending: Vec<_> = self
            .interrupts
            .values()
            .filter_map(|interrupts| interrupts.take(0))
            .collect();
        assert_eq!(pending, []);
    }
}

/// RECEIVE as Linux does it: all three search flags.
fn receive_plist(pending: &PendingMessage, address: u32, length: u32) -> Message {
    Message {
        path: pending.path,
        flags: Flags::BY_PATH | Flags::BY_MESSAGE | Flags::BY_CLASS,
        message: pending.message,
        target_class: pending.target_class,
        address: address.into(),
        length: length.into(),
        ..Message::zeroed()
    }
}

/// A one-way SEND as Linux does it.
fn send_plist(path: u16, address: u32, length: u32, tag: u32) -> Message {
    Message {
        path: path.into(),
        flags: Flags::ONE_WAY,
        address: address.into(),
        length: length.into(),
        tag: tag.into(),
        ..Message::zeroed()
    }
}

/// A one-way SEND with the data in the list.
fn send_in_list(path: u16, data: [u8; 8]) -> Message {
    let mut plist = Message {
        path: path.into(),
        flags: Flags::ONE_WAY | Flags::IN_LIST,
        ..Message::zeroed()
    };
    plist.set_list_data(data);
    plist
}
