// SPDX-License-Identifier: GPL-2.0

//! DIAGNOSE X'1F4': a store is a map that may forget what is ephemeral, whatever a stranger's blocks are.

#![no_main]

use std::num::NonZeroU16;

use arbitrary::{Result, Unstructured};
use cp_core::tmem::world::{Op, Step, World};
use cp_core::tmem::{Function, MAX_ENTRIES, Setting};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut input = Unstructured::new(input);
    let mut world = World::new(input.int_in_range(1..=60).unwrap_or(1));
    for step in cp_fuzz::steps(&mut input, |input| step(&world, input)) {
        world.step(step);
    }
    world.check_contents();
});

fn step(world: &World, input: &mut Unstructured<'_>) -> Result<Step> {
    let choice = input.int_in_range(0..=15)?;
    let guest = input.choose_index(2)?;
    Ok(match choice {
        0 => Step::Set(guest, setting(input)?),
        1 => Step::Flush(guest),
        2 => Step::Reset(guest),
        3 => Step::SaveAndRestore(guest),
        4..=7 => block(world, input)?,
        _ => Step::Op {
            guest,
            persistent: input.arbitrary()?,
            op: op(input)?,
            seeds: input.int_in_range(0..=255)?,
        },
    })
}

fn setting(input: &mut Unstructured<'_>) -> Result<Setting> {
    Ok(match input.int_in_range(0..=4)? {
        0 => Setting::Weight(NonZeroU16::MIN.saturating_add(input.arbitrary()?)),
        1 => Setting::Cap(Some(input.int_in_range(0..=30)?)),
        2 => Setting::Cap(None),
        3 => Setting::Compress(input.arbitrary()?),
        _ => Setting::Frozen(input.arbitrary()?),
    })
}

fn op(input: &mut Unstructured<'_>) -> Result<Op> {
    let op = input.int_in_range(1..=5)?;
    let (object, index) = (input.int_in_range(0..=1)?, input.int_in_range(0..=11)?);
    let (frame, pages) = (input.int_in_range(0..=59)?, input.int_in_range(1..=4)?);
    Ok(Op::right(op, object, index, frame, pages))
}

/// One that is nearly right, so that all of the decoder is reached.
fn block(world: &World, input: &mut Unstructured<'_>) -> Result<Step> {
    let function = Function::from_subcode(input.int_in_range(0..=4)?);
    let function = function.unwrap_or(Function::Query);
    let batch = function == Function::Batch;
    let most = if batch { MAX_ENTRIES } else { 1 };
    let mut block = world.block(input.int_in_range(1..=most as u16)?);
    for record in block[64..].chunks_exact_mut(64).take(most.min(4)) {
        let pool = [
            0,
            input.int_in_range(0..=3)?,
            0,
            input.int_in_range(0..=16)?,
        ];
        match function {
            Function::Query => {}
            Function::PoolCreate => (record[7], record[9]) = (input.int_in_range(0..=3)?, 12),
            Function::PoolDestroy | Function::Stats => record[..4].copy_from_slice(&pool),
            Function::Batch => {
                record[1] = input.int_in_range(0..=6)?;
                record[4..8].copy_from_slice(&pool);
                record[39] = input.int_in_range(0..=15)?;
                record[45..47]
                    .copy_from_slice(&(u16::from(input.arbitrary::<u8>()?) << 4).to_be_bytes());
                record[50..52].copy_from_slice(&input.int_in_range(0..=300_u16)?.to_be_bytes());
            }
        }
    }
    for _ in 0..input.int_in_range(0..=4)? {
        let place = input.choose_index(block.len())?;
        block[place] = input.arbitrary()?;
    }
    Ok(Step::Block(function, block))
}
