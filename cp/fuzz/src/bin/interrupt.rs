// SPDX-License-Identifier: GPL-2.0

//! The IUCV interrupts of a virtual machine, whatever its CPUs declare and mask and CP raises: each leaves once, to a CPU
//! that has a buffer for it.

#![no_main]

use arbitrary::{Result, Unstructured};
use cp_core::iucv::interrupt::world::{self, CPUS, STORAGE, Step};
use cp_core::iucv::plist::{Message, PLIST_LENGTH, RCODE_OFFSET, Raw};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| world::run(cp_fuzz::steps(&mut Unstructured::new(input), step)));

fn step(input: &mut Unstructured<'_>) -> Result<Step> {
    let cpu = input.int_in_range(0..=CPUS)?;
    Ok(match input.int_in_range(0..=15)? {
        0..=4 => Step::Raise(input.int_in_range(0..=2)?, interrupt(input)?),
        5 => Step::RaiseAgain(input.int_in_range(0..=255)?, interrupt(input)?),
        6 => Step::Retract(input.int_in_range(0..=255)?),
        7..=9 => Step::Take(cpu),
        10..=11 => Step::Declare(cpu, buffer(input)?),
        12 => Step::Retrieve(cpu),
        13 => Step::SetMask(cpu, input.arbitrary()?),
        14 => Step::SetControlMask(cpu, input.arbitrary()?),
        _ if input.ratio(1, 8)? => Step::Reset,
        _ => Step::Take(cpu),
    })
}

/// Of a kind that exists, on one of some paths, mostly.
fn interrupt(input: &mut Unstructured<'_>) -> Result<Raw> {
    if input.ratio(1, 8)? {
        return input.arbitrary();
    }
    let mut raw = [0; PLIST_LENGTH];
    raw[1] = input.int_in_range(0..=3)?;
    raw[RCODE_OFFSET] = input.int_in_range(0..=10)?;
    raw[PLIST_LENGTH - 1] = input.arbitrary()?;
    Ok(raw)
}

/// At an address that will do, mostly.
fn buffer(input: &mut Unstructured<'_>) -> Result<Raw> {
    let mut plist = Message::zeroed();
    plist.address = if input.ratio(1, 4)? {
        input.arbitrary::<u32>()?
    } else {
        8 * input.int_in_range(0..=STORAGE as u32 / 8)?
    }
    .into();
    Ok(plist.encode())
}
