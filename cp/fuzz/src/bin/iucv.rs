// SPDX-License-Identifier: GPL-2.0

//! The IUCV instruction, by three users: they get what was sent, and hostile parameter lists do no harm.

#![no_main]

use arbitrary::{Result, Unstructured};
use cp_core::iucv::plist::Function;
use cp_core::iucv::system::tests::world::{self, Choice, MAX_CONNECTIONS, MAX_LIMIT, NAMES, Step};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut input = Unstructured::new(input);
    if input.arbitrary().unwrap_or(false) {
        world::run(cp_fuzz::steps(&mut input, step));
    } else {
        world::run_hostile(cp_fuzz::steps(&mut input, hostile_step));
    }
});

fn user(input: &mut Unstructured<'_>) -> Result<usize> {
    input.choose_index(NAMES.len())
}

fn step(input: &mut Unstructured<'_>) -> Result<Step> {
    if input.ratio(1, 4)? {
        path_step(input)
    } else {
        message_step(input)
    }
}

fn path_step(input: &mut Unstructured<'_>) -> Result<Step> {
    let (user, path) = (user(input)?, Choice(input.int_in_range(0..=255)?));
    Ok(match input.int_in_range(0..=15)? {
        0..=3 => Step::Connect(
            user,
            self::user(input)?,
            input.int_in_range(1..=MAX_LIMIT)?,
            input.arbitrary()?,
        ),
        4 => Step::ConnectToService(user),
        5..=7 => Step::Accept(
            user,
            path,
            input.int_in_range(0..=MAX_LIMIT)?,
            input.arbitrary()?,
        ),
        8 => Step::Quiesce(user, path),
        9 => Step::Resume(user, path),
        10 => Step::Sever(user, path),
        11 => Step::SeverAll(user),
        12 => Step::Retrieve(user),
        13 => Step::Relog(user),
        _ => Step::Declare(user),
    })
}

fn message_step(input: &mut Unstructured<'_>) -> Result<Step> {
    let (user, choice) = (user(input)?, Choice(input.int_in_range(0..=255)?));
    let length = input.int_in_range(0..=79)?;
    Ok(match input.int_in_range(0..=15)? {
        0..=3 => {
            // One-way, priority, in the list, in a list of buffers.
            let kinds = [0x10, 0x30, 0x90, 0x50, 0, 0x20, 0x80, 0x40, 0xd0];
            Step::Send(user, choice, *input.choose(&kinds)?, length)
        }
        4..=5 => Step::Receive(user, choice, length),
        6 => Step::ReceiveAny(user, length),
        7 => Step::Describe(user),
        8 => Step::Reply(user, choice, length),
        9 => Step::Reject(user, choice),
        10 => Step::Purge(user, choice),
        11 => Step::TestCompletion(user),
        12 => Step::Smsg(user, self::user(input)?),
        _ => Step::Take(user),
    })
}

fn hostile_step(input: &mut Unstructured<'_>) -> Result<Step> {
    Ok(match input.int_in_range(0..=5)? {
        0 => path_step(input)?,
        1 => Step::Take(user(input)?),
        _ => {
            let user = user(input)?;
            let function = input.choose_index(Function::ALL.len())? as u8;
            let mut plist: [[u8; 8]; 5] = Default::default();
            // Paths and messages that exist, mostly.
            plist[0][1] = input.int_in_range(0..=2 * MAX_CONNECTIONS as u8)?;
            plist[0][2] = input.arbitrary()?;
            plist[0][7] = input.arbitrary()?;
            if input.arbitrary()? {
                plist = input.arbitrary()?;
            }
            Step::Hostile(user, function, plist)
        }
    })
}
