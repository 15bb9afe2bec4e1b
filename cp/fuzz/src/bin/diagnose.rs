// SPDX-License-Identifier: GPL-2.0

//! The operands of DIAGNOSE, IUCV and ESSA: what passes is what the codes promise.

#![no_main]

use arbitrary::Arbitrary;
use cp_core::diag::command::{Command, Destination, MAX_LENGTH};
use cp_core::diag::release::PageRange;
use cp_core::diag::{Diagnose, Register, accounting, monitor, partition, segment, timing, tmem};
use cp_core::iucv::plist::{self, ADDRESS_LIMIT, Function, PLIST_LENGTH};
use cp_core::page_state::Operation;
use libfuzzer_sys::fuzz_target;

const PAGE: u64 = 4096;

#[derive(Debug, Arbitrary)]
struct Input {
    rx: u8,
    ry: u8,
    storage_pages: u32,
    x: u64,
    y: u64,
    registers: [u64; 16],
    monitor: [u8; monitor::PARAMETER_LENGTH],
    accounting: [u8; accounting::PARAMETER_LENGTH],
}

fuzz_target!(|input: Input| {
    let [rx, ry] = [input.rx, input.ry].map(|number| (number % 16).into());
    let mut registers = input.registers;
    (registers[rx as usize], registers[ry as usize]) = (input.x, input.y);
    let number = |number| Register::new(number).expect("below 16");
    let diagnose = Diagnose {
        rx: number(rx),
        ry: number(ry),
        registers: &registers,
    };
    let storage = u64::from(input.storage_pages) * PAGE;
    let (x, y) = (diagnose.x(), diagnose.y());

    if let Ok(command) = Command::decode(&diagnose) {
        assert!(command.text.length <= MAX_LENGTH);
        assert_eq!((command.text.address, command.rc), (x, diagnose.ry));
        if let Destination::Buffer { length, .. } = command.destination {
            assert_eq!(length.index(), diagnose.ry.index() + 1);
            assert!(length != diagnose.rx && length.index() != diagnose.rx.index() + 1);
        }
    }
    if let Ok(range) = PageRange::decode(&diagnose, storage) {
        let end = range.start() + range.bytes();
        assert!(2 * PAGE <= range.start() && range.start() < end && end <= storage);
        assert_eq!((range.start(), end), (x, y + PAGE));
        assert_eq!((x % PAGE, range.pages() * PAGE), (0, range.bytes()));
    }
    if let Ok(call) = tmem::Call::decode(&diagnose) {
        assert_eq!((call.address, x % PAGE, rx % 2), (x, 0, 0));
        assert_eq!(
            (call.rc.index(), call.function as u64),
            (rx as usize + 1, y)
        );
        assert!(diagnose.ry != diagnose.rx && diagnose.ry != call.rc);
    }
    if let Ok(query) = partition::Query::decode(&diagnose) {
        assert_eq!((query.address % PAGE, query.rc), (0, diagnose.ry));
        assert!(y == 4 && registers[query.pages.index()] > 0 && query.pages != query.rc);
    }
    if let Ok(address) = timing::decode(&diagnose) {
        assert_eq!((address, address % 8), (x, 0));
    }
    if segment::Function::decode(&diagnose).is_ok() {
        assert!(y <= 0x38 && y % 4 == 0);
    }
    if let Ok(request) = monitor::Request::decode(&input.monitor) {
        let stop = request.function == monitor::Function::Stop;
        assert!(request.buffer_length <= 4024 && (stop || request.buffer_length > 0));
    }
    if let Some(query) = accounting::Query::decode(&input.accounting)
        && let accounting::Whose::One(user) = query.whose
    {
        assert_eq!(user.as_ebcdic(), input.accounting[..8]);
    }
    if let Ok(function) = Function::try_from(y) {
        assert_eq!(function as u64, y);
    }
    if plist::check_address(x, storage).is_ok() {
        let end = x + PLIST_LENGTH as u64;
        assert!(x % 8 == 0 && end <= storage && end <= ADDRESS_LIMIT);
    }
    for no_dat in [false, true] {
        if let Ok(operation) = Operation::decode(y as u32, no_dat) {
            assert_eq!(operation as u32, y as u32);
            assert!(no_dat || operation != Operation::SetStableNoDat);
        }
    }
});
