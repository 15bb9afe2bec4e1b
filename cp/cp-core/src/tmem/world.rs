// SPDX-License-Identifier: GPL-2.0

//! Guests and operators at a store, for tests and fuzzing. Blocks are made and read byte by byte here, as another
//! implementation would.

#![cfg_attr(
    not(test),
    allow(dead_code, reason = "tests use more of it than a fuzzer")
)]

use std::cell::RefCell;
use std::collections::HashMap;

use super::*;
use crate::UserId;

pub(super) const PAGE: u64 = PAGE_SIZE as u64;

pub(super) const QUERY: Function = Function::Query;
pub(super) const POOL_CREATE: Function = Function::PoolCreate;
pub(super) const POOL_DESTROY: Function = Function::PoolDestroy;
pub(super) const BATCH: Function = Function::Batch;
pub(super) const STATS: Function = Function::Stats;

pub(super) const PUT: u16 = 1;
pub(super) const GET: u16 = 2;
pub(super) const GET_KEEP: u16 = 3;
pub(super) const FLUSH_RANGE: u16 = 4;
pub(super) const FLUSH_OBJECT: u16 = 5;

pub(super) const OK: u16 = 0;
pub(super) const MISS: u16 = 1;
pub(super) const REJECTED: u16 = 2;
pub(super) const AGAIN: u16 = 3;
pub(super) const BAD_POOL: u16 = 0x10;
pub(super) const BAD_ADDR: u16 = 0x11;
pub(super) const BAD_LEN: u16 = 0x12;
pub(super) const BAD_FLAGS: u16 = 0x13;
pub(super) const BAD_OP: u16 = 0x14;
pub(super) const BAD_VERSION: u16 = 0x15;
pub(super) const EPOCH: u16 = 0x16;
pub(super) const DENIED: u16 = 0x17;

pub(super) const PERSISTENT: u32 = 1;
pub(super) const EPHEMERAL: u32 = 2;

/// Frames of a guest's storage.
pub(super) const FRAMES: u64 = 1024;

#[derive(Default)]
pub(super) struct Ram(pub(super) RefCell<Vec<u8>>);

impl Ram {
    pub(super) fn slot(&self, frames: Frames) -> Result<std::ops::Range<usize>, OutsideStorage> {
        self.check(frames)?;
        let start = frames.address() as usize;
        Ok(start..start + frames.bytes())
    }
}

impl Storage for Ram {
    fn check(&self, frames: Frames) -> Result<(), OutsideStorage> {
        match frames.address().checked_add(frames.bytes() as u64) {
            Some(end) if end <= self.0.borrow().len() as u64 => Ok(()),
            _ => Err(OutsideStorage),
        }
    }

    fn read(&self, frames: Frames, bytes: &mut [u8]) -> Result<(), OutsideStorage> {
        bytes.copy_from_slice(&self.0.borrow()[self.slot(frames)?]);
        Ok(())
    }

    fn write(&self, frames: Frames, bytes: &[u8]) -> Result<(), OutsideStorage> {
        let slot = self.slot(frames)?;
        self.0.borrow_mut()[slot].copy_from_slice(bytes);
        Ok(())
    }
}

/// A block in the making.
#[derive(Clone)]
pub(super) struct Bytes(pub(super) Vec<u8>);

impl Bytes {
    /// A good header.
    pub(super) fn new(epoch: u64, nr: u16) -> Self {
        let mut block = Self(vec![0; 4096]);
        block
            .set(0, b"TMEM")
            .set(4, &[0, 1, 0, 64, 0, 64])
            .set(10, &nr.to_be_bytes())
            .set(16, &epoch.to_be_bytes());
        block
    }

    pub(super) fn set(&mut self, at: usize, bytes: &[u8]) -> &mut Self {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub(super) fn half(&self, at: usize) -> u16 {
        u16::from_be_bytes(self.0[at..at + 2].try_into().unwrap())
    }

    pub(super) fn word(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.0[at..at + 4].try_into().unwrap())
    }

    pub(super) fn double(&self, at: usize) -> u64 {
        u64::from_be_bytes(self.0[at..at + 8].try_into().unwrap())
    }

    pub(super) fn done(&self) -> u16 {
        self.half(12)
    }

    pub(super) fn rc(&self, place: usize) -> u16 {
        self.half(64 + 64 * place + 2)
    }
}

/// An entry of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Op {
    pub(super) op: u16,
    pub(super) pool: u32,
    pub(super) object: u64,
    pub(super) index: u64,
    pub(super) frame: u64,
    pub(super) pages: u32,
}

impl Op {
    /// Of object 1.
    pub(super) const fn new(op: u16, pool: u32, index: u64, frame: u64, pages: u32) -> Self {
        Self {
            op,
            pool,
            object: 1,
            index,
            frame,
            pages,
        }
    }

    /// One that is right in itself, in a pool that is known later.
    #[must_use]
    pub const fn right(op: u16, object: u64, index: u64, frame: u64, pages: u32) -> Self {
        let whole = op == FLUSH_OBJECT;
        Self {
            op,
            pool: 0,
            object,
            index: if whole { 0 } else { index },
            frame: if op >= FLUSH_RANGE { 0 } else { frame },
            pages: if whole { 0 } else { pages },
        }
    }

    pub(super) fn encode(&self) -> [u8; 64] {
        let mut entry = Bytes(vec![0; 64]);
        entry
            .set(0, &self.op.to_be_bytes())
            .set(2, &[0xee; 2])
            .set(4, &self.pool.to_be_bytes())
            .set(24, &self.object.to_be_bytes())
            .set(32, &self.index.to_be_bytes())
            .set(40, &(self.frame * PAGE).to_be_bytes())
            .set(48, &self.pages.to_be_bytes())
            .set(56, b"a cookie");
        entry.0.try_into().unwrap()
    }
}

pub(super) fn id(text: &str) -> UserId {
    UserId::new(text).unwrap()
}

/// A guest at a store.
pub(super) struct Guest {
    pub(super) id: ClientId,
    pub(super) epoch: u64,
    pub(super) ram: Ram,
}

impl Guest {
    pub(super) fn new(store: &mut Store, user: &str) -> Self {
        Self::with_frames(store, user, FRAMES)
    }

    fn with_frames(store: &mut Store, user: &str, frames: u64) -> Self {
        let epoch = 0x0102_0304_0506_0700 + user.len() as u64;
        let ram = Ram(vec![0; (frames * PAGE) as usize].into());
        Self {
            id: store.log_on(id(user), Epoch(epoch)),
            epoch,
            ram,
        }
    }

    pub(super) fn call(&self, store: &mut Store, function: Function, bytes: &mut Bytes) -> u16 {
        let mut block = Block::new(&bytes.0).unwrap();
        let answer = store
            .execute(self.id, function, &mut block, &self.ram)
            .unwrap();
        bytes.0 = block.as_bytes().to_vec();
        answer.rc
    }

    pub(super) fn create(&self, store: &mut Store, kind: u32) -> u32 {
        let (rc, block) = self.try_create(store, kind, 0);
        assert_eq!(rc, OK);
        block.word(64)
    }

    pub(super) fn try_create(&self, store: &mut Store, kind: u32, quota: u64) -> (u16, Bytes) {
        let mut block = Bytes::new(self.epoch, 1);
        block
            .set(68, &kind.to_be_bytes())
            .set(72, &[0, 12])
            .set(80, &quota.to_be_bytes())
            .set(88, b"a file system");
        (self.call(store, POOL_CREATE, &mut block), block)
    }

    pub(super) fn destroy(&self, store: &mut Store, pool: u32) -> u16 {
        let mut block = Bytes::new(self.epoch, 1);
        block.set(64, &pool.to_be_bytes());
        self.call(store, POOL_DESTROY, &mut block)
    }

    /// One entry; its return code.
    pub(super) fn op(&self, store: &mut Store, op: Op) -> u16 {
        let mut block = Bytes::new(self.epoch, 1);
        block.set(64, &op.encode());
        let rc = self.call(store, BATCH, &mut block);
        assert_eq!(block.0[120..128], *b"a cookie");
        assert_eq!(rc == AGAIN, block.rc(0) == AGAIN);
        block.rc(0)
    }

    pub(super) fn put(
        &self,
        store: &mut Store,
        pool: u32,
        index: u64,
        frame: u64,
        pages: u32,
    ) -> u16 {
        self.op(store, Op::new(PUT, pool, index, frame, pages))
    }

    pub(super) fn get(
        &self,
        store: &mut Store,
        pool: u32,
        index: u64,
        frame: u64,
        pages: u32,
    ) -> u16 {
        self.op(store, Op::new(GET, pool, index, frame, pages))
    }

    pub(super) fn flush(&self, store: &mut Store, pool: u32, index: u64, pages: u32) -> u16 {
        self.op(store, Op::new(FLUSH_RANGE, pool, index, 0, pages))
    }

    pub(super) fn fill(&self, frame: u64, seed: u64) {
        self.ram.0.borrow_mut()[(frame * PAGE) as usize..][..PAGE_SIZE]
            .copy_from_slice(&content(seed));
    }

    pub(super) fn holds(&self, frame: u64, seed: u64) -> bool {
        self.ram.0.borrow()[(frame * PAGE) as usize..][..PAGE_SIZE] == content(seed)
    }

    /// Pages, bytes, puts, rejected, hits, misses, evicted.
    pub(super) fn stats(&self, store: &mut Store, pool: u32) -> [u64; 7] {
        let mut block = Bytes::new(self.epoch, 1);
        block.set(64, &pool.to_be_bytes());
        assert_eq!(self.call(store, STATS, &mut block), OK);
        std::array::from_fn(|place| block.double(72 + 8 * place))
    }
}

/// A page of content: seed 0 is all zeroes, an even seed compresses, an odd one does not.
pub(super) fn content(seed: u64) -> [u8; PAGE_SIZE] {
    let mut state = seed;
    std::array::from_fn(|place| {
        if seed.is_multiple_of(2) {
            return seed.to_be_bytes()[place % 8];
        }
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
}

/// A store, and a guest with an ephemeral and a persistent pool.
pub(super) fn one_guest(frames: u64) -> (Store, Guest, u32, u32) {
    let mut store = Store::new(frames);
    let guest = Guest::new(&mut store, "LINUX01");
    let ephemeral = guest.create(&mut store, EPHEMERAL);
    let persistent = guest.create(&mut store, PERSISTENT);
    (store, guest, ephemeral, persistent)
}

pub(super) fn used(store: &Store) -> u64 {
    store.list(None).unwrap().used
}

/// The file that the pools of a guest make.
pub(super) fn save(store: &mut Store, guest: &Guest, number: u64) -> Vec<u8> {
    let mut saver = store.save(guest.id, number).unwrap();
    let mut file = Vec::new();
    while saver.write(store, &mut file).unwrap() {}
    store.set_saved(guest.id, saver.id());
    file
}

pub(super) fn restore(
    store: &mut Store,
    guest: &Guest,
    file: &[u8],
) -> Result<(u64, u64), Refusal> {
    let restored = store.restore(guest.id, Saved::read(file).unwrap())?;
    while store.trim(3) {}
    Ok((restored.pages, restored.dropped))
}

/// A small file with a page of each kind.
#[must_use]
pub fn small_file() -> Vec<u8> {
    let (mut store, guest, ephemeral, persistent) = one_guest(100);
    for (page, seed) in (0..).zip([0, 2, 3]) {
        guest.fill(page, seed);
    }
    assert_eq!(guest.put(&mut store, ephemeral, 0, 0, 2), OK);
    assert_eq!(guest.put(&mut store, persistent, 0, 0, 3), OK);
    save(&mut store, &guest, 7)
}

/// What guests and operators may do.
#[derive(Clone, Debug)]
pub enum Step {
    /// A guest has an entry carried out, on pages of that content.
    Op {
        guest: usize,
        persistent: bool,
        op: Op,
        seeds: u64,
    },
    Set(usize, Setting),
    Flush(usize),
    Reset(usize),
    SaveAndRestore(usize),
    /// Another guest has any block carried out.
    Block(Function, Box<[u8; BLOCK_LENGTH]>),
}

/// What a guest must find under its handles: by persistent or not, object and index.
type Model = HashMap<(bool, u64, u64), u64>;

/// A step of a guest, judged by what it may expect.
fn judge(
    store: &mut Store,
    guest: &Guest,
    model: &mut Model,
    persistent: bool,
    op: Op,
    seeds: u64,
) {
    let pages = u64::from(op.pages);
    let key = |page| (persistent, op.object, op.index + page);
    let seed = |page: u64| seeds.wrapping_add(page);
    let untouched = seed(100);
    for page in 0..pages {
        guest.fill(
            op.frame + page,
            if op.op == PUT { seed(page) } else { untouched },
        );
    }
    let rc = guest.op(store, op);
    match op.op {
        PUT => {
            assert!(rc == OK || rc == REJECTED, "{}", rc);
            for page in 0..pages {
                if rc == OK {
                    model.insert(key(page), seed(page));
                } else {
                    model.remove(&key(page));
                }
            }
        }
        GET | GET_KEEP => {
            let expected: Vec<_> = (0..pages)
                .map(|page| model.get(&key(page)).copied())
                .collect();
            let all = expected.iter().all(Option::is_some);
            assert!(rc == MISS || rc == OK && all, "{}: {:?}", rc, expected);
            assert!(!persistent || all == (rc == OK));
            for (page, seed) in (0..).zip(expected) {
                let seed = if rc == OK { seed.unwrap() } else { untouched };
                assert!(guest.holds(op.frame + page, seed));
                if rc == OK && op.op == GET {
                    model.remove(&key(page));
                }
            }
        }
        _ => {
            assert_eq!(rc, OK);
            model.retain(|&(kind, object, index), _| {
                let flushed =
                    op.op == FLUSH_OBJECT || (op.index..op.index + pages).contains(&index);
                kind != persistent || object != op.object || !flushed
            });
        }
    }
}

/// The frames that a guest of a [`World`] has.
const FEW_FRAMES: u64 = 64;

/// A store, two guests with what they may expect of it, and a third one of which nothing is known.
pub struct World {
    store: Store,
    frames: u64,
    guests: [Guest; 2],
    /// Of each guest, an ephemeral one and a persistent one.
    pools: [[u32; 2]; 2],
    models: [Model; 2],
    stranger: Guest,
}

impl World {
    /// The store has that many frames.
    #[must_use]
    pub fn new(frames: u64) -> Self {
        let mut store = Store::new(frames);
        let [a, b, stranger] = ["LINUX01", "LINUX02", "LINUX03"]
            .map(|user| Guest::with_frames(&mut store, user, FEW_FRAMES));
        let guests = [a, b];
        let pools = guests.each_ref().map(|guest| pools(&mut store, guest));
        self::pools(&mut store, &stranger);
        Self {
            store,
            frames,
            guests,
            pools,
            models: [Model::new(), Model::new()],
            stranger,
        }
    }

    /// A block of the guest of which nothing is known: its header is right, and says that there are so many entries.
    #[must_use]
    pub fn block(&self, entries: u16) -> Box<[u8; BLOCK_LENGTH]> {
        let Bytes(block) = Bytes::new(self.stranger.epoch, entries);
        block.into_boxed_slice().try_into().unwrap()
    }

    /// Something happens, and is as all may expect.
    pub fn step(&mut self, step: Step) {
        let store = &mut self.store;
        match step {
            Step::Op {
                guest,
                persistent,
                mut op,
                seeds,
            } => {
                op.pool = self.pools[guest][usize::from(persistent)];
                let model = &mut self.models[guest];
                judge(store, &self.guests[guest], model, persistent, op, seeds);
            }
            // A cap of nothing would deny the pools that a reset makes again.
            Step::Set(_, Setting::Cap(Some(0))) => {}
            Step::Set(guest, setting) => {
                let user = store.list(None).unwrap().guests[guest].user_id;
                store.set(Some(user), setting).unwrap();
                while store.trim(3) {}
            }
            Step::Flush(guest) => {
                let whose = Some(store.list(None).unwrap().guests[guest].user_id);
                let selection = Selection {
                    whose,
                    pool: None,
                    only_ephemeral: false,
                    force: true,
                };
                store.flush(&selection).unwrap();
                self.models[guest].clear();
            }
            Step::Reset(which) => {
                let guest = &mut self.guests[which];
                guest.epoch += 1 << 32;
                drop(store.reset(guest.id, Epoch(guest.epoch)));
                self.pools[which] = pools(store, guest);
                self.models[which].clear();
            }
            Step::SaveAndRestore(guest) => {
                let file = save(store, &self.guests[guest], 7);
                restore(store, &self.guests[guest], &file).unwrap();
            }
            Step::Block(function, block) => self.any_block(function, &block),
        }
        self.check();
    }

    /// What is no business of a call stays as it is, in the block and in storage; what is refused changes nothing.
    fn any_block(&mut self, function: Function, block: &[u8; BLOCK_LENGTH]) {
        let guest = &self.stranger;
        let listing = self.store.list(None);
        let storage = guest.ram.0.borrow().clone();
        let mut after = Block::new(block).unwrap();
        let called = self
            .store
            .execute(guest.id, function, &mut after, &guest.ram);
        let Answer { rc, stored, .. } = called.unwrap();
        for (at, (before, after)) in block.iter().zip(after.as_bytes()).enumerate() {
            let may_change = match function {
                BATCH => (12..14).contains(&at) || at >= 64 && (2..4).contains(&(at % 64)),
                _ if rc != OK => false,
                QUERY => (16..24).contains(&at) || (64..128).contains(&at),
                POOL_CREATE => (64..68).contains(&at) || (80..88).contains(&at),
                POOL_DESTROY => false,
                STATS => (72..128).contains(&at),
            };
            assert!(before == after || may_change, "{function:?}: byte {at}");
        }
        let stored: Vec<_> = stored.iter().flat_map(Frames::each).collect();
        let after = guest.ram.0.borrow();
        let pages = storage.chunks(PAGE_SIZE).zip(after.chunks(PAGE_SIZE));
        for (address, (before, after)) in (0..).step_by(PAGE_SIZE).zip(pages) {
            assert!(before == after || stored.contains(&address), "{address:#x}");
        }
        let refused = match function {
            // An entry may have failed with any other code.
            BATCH => [BAD_VERSION, EPOCH].contains(&rc),
            _ => rc != OK,
        };
        if refused {
            assert_eq!(self.store.list(None), listing, "{function:?}: {rc:#x}");
        }
    }

    /// What holds always.
    fn check(&mut self) {
        assert!(used(&self.store) <= self.frames);
        for (which, model) in self.models.iter().enumerate() {
            let kept = self.guests[which].stats(&mut self.store, self.pools[which][1])[0];
            assert_eq!(kept, model.keys().filter(|key| key.0).count() as u64);
        }
    }

    /// Each guest asks for all that may be there.
    pub fn check_contents(&mut self) {
        for guest in 0..self.guests.len() {
            let handles: Vec<_> = self.models[guest].keys().copied().collect();
            for (persistent, object, index) in handles {
                self.step(Step::Op {
                    guest,
                    persistent,
                    op: Op::right(GET_KEEP, object, index, 0, 1),
                    seeds: 0,
                });
            }
        }
    }
}

/// An ephemeral pool and a persistent one.
fn pools(store: &mut Store, guest: &Guest) -> [u32; 2] {
    [EPHEMERAL, PERSISTENT].map(|kind| guest.create(store, kind))
}
