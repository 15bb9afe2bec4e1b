// SPDX-License-Identifier: GPL-2.0

//! The IUCV instruction, carried out between the guests' storages.

use std::collections::BTreeMap;

use cp_core::UserId;
use cp_core::iucv::InterruptId;
use cp_core::iucv::plist::{Function, path_of};
use cp_core::iucv::system::{self, Addressing, Memory};
use cp_proto::counters::Counter;
use cp_proto::{Event, Iucv, Plist, Reply};

use crate::guest::Guest;

/// Executes the instruction for a user. `function` is general register 0.
pub fn call(
    iucv: &mut system::System,
    guests: &BTreeMap<UserId, Guest>,
    user: UserId,
    function: u64,
    plist: Plist,
) -> Reply {
    let Plist(mut raw) = plist;
    // The message limit is that of the moment: what both ends have taken from their interrupt queues counts no more.
    let partner = iucv.partner(&user, path_of(&raw));
    for end in [Some(user), partner].into_iter().flatten() {
        if let Some(guest) = guests.get(&end) {
            iucv.taken_before(
                &end,
                InterruptId(guest.resources.counter(Counter::IucvOldestPending)),
            );
        }
    }
    let executed = Function::try_from(function)
        .and_then(|function| iucv.call(&user, function, &mut raw, &mut Storages(guests)));
    match executed {
        Ok(completion) => Reply::Iucv(Iucv {
            cc: completion.cc,
            plist: Plist(raw),
            r0: completion.r0,
            r1: completion.r1,
        }),
        Err(interruption) => Reply::Program {
            code: interruption.code(),
        },
    }
}

/// What a guest is to be told of IUCV.
pub fn event(event: system::Event) -> Event {
    match event {
        system::Event::Interrupt(interrupt) => Event::Interrupt {
            id: interrupt.id.0,
            buffer: Plist(interrupt.raw),
        },
        system::Event::Retract(id) => Event::Retract { id: id.0 },
    }
}

/// The storages of all guests.
struct Storages<'a>(&'a BTreeMap<UserId, Guest>);

impl Memory for Storages<'_> {
    fn read(&self, user: &UserId, address: u64, bytes: &mut [u8]) -> Result<(), Addressing> {
        let guest = self.0.get(user).ok_or(Addressing)?;
        guest
            .resources
            .ram
            .read(address, bytes)
            .map_err(|_| Addressing)
    }

    fn write(&mut self, user: &UserId, address: u64, bytes: &[u8]) -> Result<(), Addressing> {
        let guest = self.0.get(user).ok_or(Addressing)?;
        guest
            .resources
            .ram
            .write(address, bytes)
            .map_err(|_| Addressing)
    }

    fn check(&self, user: &UserId, address: u64, length: u64) -> Result<(), Addressing> {
        let guest = self.0.get(user).ok_or(Addressing)?;
        guest
            .resources
            .ram
            .check(address, length)
            .map_err(|_| Addressing)
    }
}
