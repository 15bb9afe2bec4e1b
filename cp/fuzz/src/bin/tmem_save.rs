// SPDX-License-Identifier: GPL-2.0

//! What `cpctl tmem save` writes: a file that is read gives pools that are written as just this file.

#![no_main]

use std::sync::LazyLock;

use arbitrary::{Arbitrary, Unstructured};
use cp_core::UserId;
use cp_core::tmem::world::small_file;
use cp_core::tmem::{Epoch, SaveId, Saved, Store};
use libfuzzer_sys::fuzz_target;

/// Room for any file that is made here.
const FRAMES: u64 = 1 << 20;

/// What is changed.
static FILE: LazyLock<Vec<u8>> = LazyLock::new(small_file);

#[derive(Debug, Arbitrary)]
enum Edit {
    Set { place: u16, byte: u8 },
    Copy { from: u16, to: u16, length: u8 },
    Cut { place: u16, length: u8 },
    Insert { place: u16, bytes: Vec<u8> },
}

fuzz_target!(|input: &[u8]| {
    let mut file = FILE[..FILE.len() - 4].to_vec();
    let mut input = Unstructured::new(input);
    for edit in cp_fuzz::steps(&mut input, |input| input.arbitrary()) {
        change(&mut file, edit);
    }
    // What is altered is found by that, whatever it is: nothing else would be reached.
    let sum = crc32fast::hash(&file);
    file.extend(sum.to_be_bytes());
    let Ok(saved) = Saved::read(&file[..]) else {
        return;
    };
    let user = UserId::from_ebcdic(field(&file, 12)).expect("a user");
    let epoch = Epoch(u64::from_be_bytes(field(&file, 20)));
    let number = u64::from_be_bytes(field(&file, 28));
    let mut store = Store::new(FRAMES);
    let guest = store.log_on(user, epoch);
    store.set_saved(guest, SaveId { epoch, number });
    let restored = store.restore(guest, saved).expect("room");
    let mut saver = store.save(guest, number).expect("a guest");
    let mut again = Vec::new();
    while saver.write(&store, &mut again).expect("a guest") {}
    assert_eq!(saver.pages(), restored.pages);
    assert!(again == file, "it is written in another way");
});

fn change(file: &mut Vec<u8>, edit: Edit) {
    let length = file.len();
    let place = |place: u16| usize::from(place) % (length + 1);
    let range =
        |start, length: u8| place(start)..file.len().min(place(start) + usize::from(length));
    match edit {
        Edit::Set { place: at, byte } => {
            if let Some(old) = file.get_mut(place(at)) {
                *old = byte;
            }
        }
        Edit::Copy { from, to, length } => {
            let bytes = file[range(from, length)].to_vec();
            let to = place(to);
            file.splice(to..to, bytes);
        }
        Edit::Cut { place, length } => drop(file.drain(range(place, length))),
        Edit::Insert { place: at, bytes } => {
            let at = place(at);
            file.splice(at..at, bytes);
        }
    }
}

fn field(file: &[u8], place: usize) -> [u8; 8] {
    file[place..place + 8].try_into().expect("8 bytes")
}
