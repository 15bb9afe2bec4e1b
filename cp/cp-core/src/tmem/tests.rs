// SPDX-License-Identifier: GPL-2.0

//! What guests and operators may rely on.

use std::num::NonZeroU16;

use proptest::prelude::*;

use super::world::*;
use super::*;

#[test]
fn what_there_is_can_be_asked_in_any_version() {
    let (mut store, guest, ..) = one_guest(100);
    let mut block = Bytes::new(0, 1);
    block.set(4, &[0x7f, 0xff]).set(64, &[0xee; 64]);
    assert_eq!(guest.call(&mut store, QUERY, &mut block), OK);
    assert_eq!(block.double(16), guest.epoch);
    assert_eq!(
        block.0[64..84],
        [0, 1, 0, 1, 0, 63, 0, 16, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0]
    );
    assert_eq!(block.0[84..128], [0; 44]);
}

#[test]
fn each_field_of_the_header_is_checked_and_a_bad_one_changes_nothing() {
    let (mut store, guest, pool, _) = one_guest(100);
    guest.fill(1, 3);
    let op = Op::new(PUT, pool, 0, 1, 1);
    let bad: &[(usize, &[u8], u16)] = &[
        (0, b"tMEM", BAD_VERSION),
        (4, &[0, 2], BAD_VERSION),
        (4, &[0, 0], BAD_VERSION),
        (6, &[0, 128], BAD_LEN),
        (8, &[0, 63], BAD_LEN),
        (10, &[0, 0], BAD_LEN),
        (10, &[0, 64], BAD_LEN),
        (10, &[0xff, 0xff], BAD_LEN),
        (12, &[0, 1], BAD_LEN),
        (14, &[0, 2], BAD_FLAGS),
        (14, &[0x80, 1], BAD_FLAGS),
        (24, &[1], BAD_FLAGS),
        (63, &[1], BAD_FLAGS),
        (23, &[0xff], EPOCH),
    ];
    for &(at, bytes, rc) in bad {
        let mut block = Bytes::new(guest.epoch, 1);
        block.set(64, &op.encode()).set(at, bytes);
        let before = block.0.clone();
        assert_eq!(
            guest.call(&mut store, BATCH, &mut block),
            rc,
            "{bytes:?} at {at}"
        );
        assert_eq!(block.0, before);
        assert_eq!(guest.get(&mut store, pool, 0, 2, 1), MISS);
    }
    for function in [QUERY, POOL_CREATE, POOL_DESTROY, STATS] {
        let mut block = Bytes::new(guest.epoch, 2);
        assert_eq!(guest.call(&mut store, function, &mut block), BAD_LEN);
    }
    assert!(Block::new(&[0; 4095]).is_none());
}

#[test]
fn pages_go_and_come_back_once() {
    let (mut store, guest, ephemeral, persistent) = one_guest(100);
    for pool in [ephemeral, persistent] {
        for seed in [0, 2, 3] {
            guest.fill(1, seed);
            assert_eq!(guest.put(&mut store, pool, 7, 1, 1), OK);
            guest.fill(1, 99);
            let keep = Op::new(GET_KEEP, pool, 7, 2, 1);
            assert_eq!(guest.op(&mut store, keep), OK);
            assert!(guest.holds(2, seed));
            assert_eq!(guest.get(&mut store, pool, 7, 3, 1), OK);
            assert!(guest.holds(3, seed));
            assert_eq!(guest.get(&mut store, pool, 7, 3, 1), MISS);
            assert_eq!(guest.op(&mut store, keep), MISS);
        }
        let [pages, bytes, puts, rejected, hits, misses, evicted] = guest.stats(&mut store, pool);
        assert_eq!(
            (pages, bytes, puts, rejected, hits, misses, evicted),
            (0, 0, 3, 0, 6, 6, 0)
        );
    }
    assert_eq!(guest.stats(&mut store, u32::MAX)[2], 6);
    assert_eq!(used(&store), 0);
}

#[test]
fn several_pages_are_all_or_none() {
    let (mut store, guest, pool, _) = one_guest(2000);
    for frame in 0..256 {
        guest.fill(frame, frame);
    }
    assert_eq!(guest.put(&mut store, pool, 1000, 0, 256), OK);
    assert_eq!(guest.flush(&mut store, pool, 1100, 1), OK);
    guest.fill(300, 5);
    assert_eq!(guest.get(&mut store, pool, 1000, 300, 256), MISS);
    assert!(guest.holds(300, 5));
    assert_eq!(guest.get(&mut store, pool, 1000, 300, 100), OK);
    assert!((0..100).all(|page| guest.holds(300 + page, page)));
    assert_eq!(guest.get(&mut store, pool, 1101, 300, 155), OK);
    assert!((0..155).all(|page| guest.holds(300 + page, 101 + page)));
    assert_eq!(guest.stats(&mut store, pool)[0], 0);
}

#[test]
fn a_put_that_fails_leaves_nothing() {
    let (mut store, guest, _, pool) = one_guest(100);
    let good = Op::new(PUT, pool, 10, 1, 2);
    let bad = |change: fn(&mut Op)| {
        let mut op = good;
        change(&mut op);
        op.encode()
    };
    let mut flags = good.encode();
    flags[55] = 1;
    let cases = [
        (bad(|op| op.frame = FRAMES), BAD_ADDR),
        (bad(|op| op.frame = FRAMES - 1), BAD_ADDR),
        (bad(|op| op.frame = u64::MAX / PAGE), BAD_ADDR),
        (bad(|op| op.pages = 257), BAD_LEN),
        (bad(|op| op.pages = u32::MAX), BAD_LEN),
        (flags, BAD_FLAGS),
    ];
    let mut unaligned = good.encode();
    unaligned[47] = 8;
    for (entry, rc) in cases.into_iter().chain([(unaligned, BAD_ADDR)]) {
        assert_eq!(guest.op(&mut store, good), OK);
        let mut block = Bytes::new(guest.epoch, 1);
        block.set(64, &entry);
        assert_eq!(guest.call(&mut store, BATCH, &mut block), OK);
        assert_eq!(block.rc(0), rc, "{entry:?}");
        assert_eq!(guest.stats(&mut store, pool)[0], 0, "{rc:#x}");
    }
    // Of no pages, nothing is to go.
    assert_eq!(guest.op(&mut store, good), OK);
    assert_eq!(guest.put(&mut store, pool, 10, 1, 0), BAD_LEN);
    assert_eq!(guest.stats(&mut store, pool)[0], 2);
    // Behind the last index there is none.
    assert_eq!(guest.put(&mut store, pool, u64::MAX, 1, 1), OK);
    assert_eq!(guest.put(&mut store, pool, u64::MAX, 1, 2), BAD_LEN);
    assert_eq!(guest.stats(&mut store, pool)[0], 2);
    store.set(None, Setting::Frozen(true)).unwrap();
    assert_eq!(guest.op(&mut store, good), REJECTED);
    assert_eq!(guest.stats(&mut store, pool)[0], 0);
}

#[test]
fn a_get_that_fails_leaves_frames_and_pages() {
    let (mut store, guest, pool, _) = one_guest(100);
    guest.fill(1, 3);
    assert_eq!(guest.put(&mut store, pool, 0, 1, 2), OK);
    guest.fill(FRAMES - 1, 5);
    assert_eq!(guest.get(&mut store, pool, 0, FRAMES - 1, 2), BAD_ADDR);
    assert!(guest.holds(FRAMES - 1, 5));
    assert_eq!(guest.get(&mut store, pool, 0, 1, 257), BAD_LEN);
    let rc = guest.get(&mut store, pool, 5, FRAMES, 1);
    assert_eq!(rc, BAD_ADDR, "whether the page is there or not");
    assert_eq!(guest.get(&mut store, pool, 0, 2, 2), OK);
    assert!(guest.holds(2, 3));
}

#[test]
fn flushes() {
    let (mut store, guest, pool, _) = one_guest(100);
    let put = |store: &mut Store, object, index| {
        let op = Op {
            op: PUT,
            pool,
            object,
            index,
            frame: 0,
            pages: 1,
        };
        assert_eq!(guest.op(store, op), OK);
    };
    let left = |store: &mut Store| guest.stats(store, pool)[0];
    for index in [0, 1, 2, u64::MAX] {
        put(&mut store, 1, index);
        put(&mut store, 2, index);
    }
    assert_eq!(guest.flush(&mut store, pool, 1, 1), OK);
    assert_eq!(left(&mut store), 7);
    assert_eq!(guest.flush(&mut store, pool, 1, u32::MAX - 1), OK);
    assert_eq!(left(&mut store), 6);
    assert_eq!(guest.flush(&mut store, pool, 1, u32::MAX), OK);
    assert_eq!(left(&mut store), 5);
    assert_eq!(guest.flush(&mut store, pool, 1, 0), BAD_LEN);
    let object = Op {
        op: FLUSH_OBJECT,
        pool,
        object: 2,
        index: 0,
        frame: 0,
        pages: 0,
    };
    assert_eq!(guest.op(&mut store, Op { pages: 1, ..object }), BAD_LEN);
    assert_eq!(guest.op(&mut store, Op { index: 1, ..object }), BAD_LEN);
    assert_eq!(guest.op(&mut store, Op { frame: 1, ..object }), BAD_ADDR);
    assert_eq!(guest.op(&mut store, Op { op: 6, ..object }), BAD_OP);
    assert_eq!(guest.op(&mut store, Op { op: 0, ..object }), BAD_OP);
    assert_eq!(left(&mut store), 5);
    assert_eq!(guest.op(&mut store, object), OK);
    assert_eq!(left(&mut store), 1);
}

#[test]
fn a_name_of_a_pool_is_never_used_again() {
    let (mut store, guest, first, _) = one_guest(100);
    assert_eq!(guest.put(&mut store, first, 0, 1, 1), OK);
    assert_eq!(guest.destroy(&mut store, first), OK);
    assert_eq!(guest.destroy(&mut store, first), BAD_POOL);
    assert_eq!(used(&store), 0);
    let second = guest.create(&mut store, EPHEMERAL);
    assert_eq!((first & 0xffff, second & 0xffff), (0, 0));
    assert_ne!(first, second);
    for rc in [
        guest.get(&mut store, first, 0, 1, 1),
        guest.put(&mut store, first, 0, 1, 1),
        guest.flush(&mut store, first, 0, 1),
        guest.get(&mut store, 0, 0, 1, 1),
        guest.get(&mut store, u32::MAX, 0, 1, 1),
    ] {
        assert_eq!(rc, BAD_POOL);
    }
    assert_eq!(guest.get(&mut store, second, 0, 1, 1), MISS);
}

#[test]
fn pools_are_made_as_they_are_wanted_or_not_at_all() {
    let mut store = Store::new(100);
    let guest = Guest::new(&mut store, "LINUX01");
    let attempt = |store: &mut Store, at: usize, bytes: &[u8]| {
        let mut block = Bytes::new(guest.epoch, 1);
        block.set(71, &[1]).set(72, &[0, 12]).set(at, bytes);
        guest.call(store, POOL_CREATE, &mut block)
    };
    for (at, byte, rc) in [
        (71, 0, BAD_FLAGS),
        (71, 3, BAD_FLAGS),
        (68, 0x80, BAD_FLAGS),
        (73, 13, BAD_LEN),
        (67, 1, BAD_FLAGS),
        (75, 1, BAD_FLAGS),
        (79, 1, BAD_FLAGS),
        (127, 1, BAD_FLAGS),
    ] {
        assert_eq!(attempt(&mut store, at, &[byte]), rc, "{byte} at {at}");
    }
    assert_eq!(guest.try_create(&mut store, EPHEMERAL, 5).0, BAD_LEN);
    store.set(None, Setting::Cap(Some(0))).unwrap();
    assert_eq!(guest.try_create(&mut store, PERSISTENT, 5).0, DENIED);
    store.set(None, Setting::Cap(None)).unwrap();

    let (rc, block) = guest.try_create(&mut store, PERSISTENT, 5);
    assert_eq!((rc, block.double(80)), (OK, 5));
    let pool = block.word(64);
    assert_eq!(guest.put(&mut store, pool, 0, 0, 5), OK);
    assert_eq!(
        guest.put(&mut store, pool, 0, 0, 5),
        OK,
        "in place of the old ones"
    );
    assert_eq!(guest.put(&mut store, pool, 5, 0, 1), REJECTED);
    assert_eq!(
        guest.try_create(&mut store, PERSISTENT, 0).1.double(80),
        u64::MAX
    );
    for _ in 2..16 {
        guest.create(&mut store, EPHEMERAL);
    }
    assert_eq!(guest.try_create(&mut store, EPHEMERAL, 0).0, REJECTED);
    let listing = store.list(Some(id("LINUX01"))).unwrap();
    let pools = &listing.guests[0].pools;
    assert_eq!(
        (pools.len(), pools[0].label.as_str()),
        (16, "a.file.system")
    );
    assert_eq!((pools[0].quota, pools[1].quota), (Some(5), None));
}

/// A call does so much and no more; the same block goes on where it ended.
#[test]
fn work_is_bounded_and_goes_on() {
    let (mut store, guest, pool, _) = one_guest(10_000);
    let entry = |op, index, pages| Op::new(op, pool, index, 0, pages).encode();
    let mut puts = Bytes::new(guest.epoch, 5);
    for place in 0..5 {
        let entry = entry(PUT, 256 * place, 256);
        puts.set(64 + 64 * place as usize, &entry);
    }
    let mut calls = Vec::new();
    while guest.call(&mut store, BATCH, &mut puts) == AGAIN {
        assert_eq!(puts.rc(puts.done().into()), AGAIN);
        calls.push(puts.done());
    }
    assert_eq!((calls, puts.done()), (vec![2, 4], 5));
    assert_eq!(guest.stats(&mut store, pool)[0], 1280);
    assert_eq!(
        guest.call(&mut store, BATCH, &mut puts),
        BAD_LEN,
        "nothing is left to do"
    );

    // A flush of whatever length, and a put that is none but must empty as much.
    for (last, rc) in [
        (entry(FLUSH_OBJECT, 0, 0), OK),
        (entry(PUT, 0, 1 << 20), BAD_LEN),
    ] {
        for place in 0..5 {
            assert_eq!(guest.put(&mut store, pool, 256 * place, 0, 256), OK);
        }
        let mut block = Bytes::new(guest.epoch, 1);
        block.set(64, &last);
        let mut left = vec![];
        while guest.call(&mut store, BATCH, &mut block) == AGAIN {
            left.push(guest.stats(&mut store, pool)[0]);
        }
        assert_eq!((left, block.rc(0)), (vec![768, 256], rc));
        assert_eq!(guest.stats(&mut store, pool)[0], 0);
    }
}

/// What just as many evictions make room for is stored.
#[test]
fn as_many_evictions_as_are_allowed_are_made() {
    let (mut store, guest, pool, _) = one_guest(200);
    // 3057 pages of zeros at 192 bytes and 100 others at 4288 are 1023.7 pages of zeros too many for 200 frames.
    for (index, count) in (0..).step_by(256).zip([256; 11].into_iter().chain([241])) {
        assert_eq!(guest.put(&mut store, pool, index, 0, count), OK);
    }
    for frame in 0..100 {
        guest.fill(frame, 2 * frame + 1);
    }
    assert_eq!(guest.put(&mut store, pool, 1 << 20, 0, 100), OK);
    assert_eq!(guest.stats(&mut store, pool)[6], store::MOST_EVICTIONS);
}

/// Small pages in plenty do not make a large one wait: it is refused until so many have gone.
#[test]
fn few_pages_are_evicted_at_once() {
    let (mut store, guest, pool, _) = one_guest(200);
    for index in 0..16 {
        assert_eq!(guest.put(&mut store, pool, 256 * index, 0, 256), OK);
    }
    for frame in 0..100 {
        guest.fill(frame, 2 * frame + 1);
    }
    let mut evicted = 0;
    let mut refused = 0;
    while guest.put(&mut store, pool, 1 << 20, 0, 100) == REJECTED {
        refused += 1;
        let now = guest.stats(&mut store, pool)[6];
        assert_eq!(now - evicted, store::MOST_EVICTIONS);
        evicted = now;
    }
    assert_eq!(refused, 2);
    assert!(guest.get(&mut store, pool, 1 << 20, 200, 100) == OK && guest.holds(299, 199));
}

#[test]
fn a_batch_goes_on_after_an_error_or_stops() {
    let (mut store, guest, pool, _) = one_guest(100);
    let op = |op, index| Op::new(op, pool, index, 1, 1).encode();
    for (flags, rc, done, last) in [(0, OK, 3, OK), (1, MISS, 1, 0xeeee)] {
        let mut block = Bytes::new(guest.epoch, 3);
        block
            .set(14, &[0, flags])
            .set(64, &op(PUT, 0))
            .set(128, &op(GET, 1))
            .set(192, &op(GET, 0));
        assert_eq!(guest.call(&mut store, BATCH, &mut block), rc);
        assert_eq!(block.done(), done);
        assert_eq!([block.rc(0), block.rc(1), block.rc(2)], [OK, MISS, last]);
    }
}

#[test]
fn the_frames_that_were_stored_to_are_named() {
    let (mut store, guest, pool, _) = one_guest(100);
    assert_eq!(guest.put(&mut store, pool, 0, 1, 2), OK);
    let mut bytes = Bytes::new(guest.epoch, 2);
    for (place, index) in [(0, 0), (1, 5)] {
        let op = Op::new(GET, pool, index, 8, 2);
        bytes.set(64 + 64 * place, &op.encode());
    }
    let mut block = Block::new(&bytes.0).unwrap();
    let answer = store
        .execute(guest.id, BATCH, &mut block, &guest.ram)
        .unwrap();
    assert_eq!(answer.stored, [Frames::new(8 * PAGE, 2).unwrap()]);
}

#[test]
fn a_frozen_guest_gets_and_flushes_but_puts_nothing() {
    let (mut store, guest, pool, _) = one_guest(100);
    for index in 0..3 {
        assert_eq!(guest.put(&mut store, pool, index, 1, 1), OK);
    }
    store
        .set(Some(id("LINUX01")), Setting::Frozen(true))
        .unwrap();
    assert_eq!(guest.put(&mut store, pool, 0, 1, 1), REJECTED);
    assert_eq!(guest.get(&mut store, pool, 0, 1, 1), MISS);
    assert_eq!(guest.put(&mut store, pool, 9, 1, 1), REJECTED);
    assert_eq!(guest.get(&mut store, pool, 1, 1, 1), OK);
    assert_eq!(guest.flush(&mut store, pool, 2, 1), OK);
    assert_eq!(guest.stats(&mut store, pool)[0], 0);
    // Later guests only if it is for all.
    let other = Guest::new(&mut store, "LINUX02");
    let other_pool = other.create(&mut store, EPHEMERAL);
    assert_eq!(other.put(&mut store, other_pool, 0, 1, 1), OK);
    store
        .set(Some(id("LINUX01")), Setting::Frozen(false))
        .unwrap();
    assert_eq!(guest.put(&mut store, pool, 0, 1, 1), OK);
    store.set(None, Setting::Frozen(true)).unwrap();
    let third = Guest::new(&mut store, "LINUX03");
    let third_pool = third.create(&mut store, EPHEMERAL);
    assert_eq!(third.put(&mut store, third_pool, 0, 1, 1), REJECTED);
}

#[test]
fn frames_that_others_need_are_had_from_ephemeral_pages() {
    let (mut store, guest, ephemeral, persistent) = one_guest(1000);
    for page in 0..20 {
        guest.fill(page, 2 * page + 1);
        let pool = if page < 5 { persistent } else { ephemeral };
        assert_eq!(guest.put(&mut store, pool, page, page, 1), OK);
    }
    let (before, persistent_frames) = (store.frames(), store.frames() - store.ephemeral_frames());
    assert!((20..=22).contains(&before) && (5..=6).contains(&persistent_frames));
    let freed = store.evict(4);
    assert!((4..=5).contains(&freed));
    assert_eq!(store.frames(), before - freed);
    // The oldest ones; persistent ones never.
    assert_eq!(guest.get(&mut store, ephemeral, 8, 30, 1), MISS);
    assert_eq!(guest.get(&mut store, ephemeral, 10, 30, 1), OK);
    store.evict(100);
    assert_eq!(store.ephemeral_frames(), 0);
    assert_eq!(guest.stats(&mut store, persistent)[0], 5);
}

#[test]
fn a_cap_is_kept() {
    let (mut store, guest, ephemeral, persistent) = one_guest(1000);
    for page in 0..20 {
        guest.fill(page, 2 * page + 1);
        assert_eq!(guest.put(&mut store, ephemeral, page, page, 1), OK);
    }
    store
        .set(Some(id("LINUX01")), Setting::Cap(Some(10)))
        .unwrap();
    assert!(store.trim(5), "in steps");
    assert!(!store.trim(100));
    assert_eq!(
        (guest.stats(&mut store, ephemeral)[0], used(&store)),
        (9, 10)
    );
    // The oldest ones went; of the others the oldest goes first.
    assert_eq!(guest.get(&mut store, ephemeral, 10, 30, 1), MISS);
    assert_eq!(guest.put(&mut store, persistent, 0, 1, 4), OK);
    let [pages, .., evicted] = guest.stats(&mut store, ephemeral);
    assert_eq!((pages, evicted), (5, 15));
    assert_eq!(guest.get(&mut store, ephemeral, 15, 30, 1), OK);
    assert!(guest.holds(30, 31));
    // What cannot fit costs nobody anything.
    assert_eq!(guest.put(&mut store, persistent, 10, 1, 6), REJECTED);
    assert_eq!(guest.stats(&mut store, ephemeral)[0], 4);
    assert_eq!(guest.put(&mut store, persistent, 10, 1, 5), OK);
    assert_eq!(guest.stats(&mut store, ephemeral)[0], 0);
    // Persistent pages stay, whatever the cap.
    store.set(None, Setting::Cap(Some(1))).unwrap();
    assert!(!store.trim(100));
    assert_eq!(guest.stats(&mut store, persistent)[0], 9);
    assert_eq!(guest.put(&mut store, ephemeral, 0, 1, 1), REJECTED);
}

#[test]
fn what_was_of_use_stays_longer() {
    let (mut store, guest, pool, _) = one_guest(1000);
    for page in 0..3 {
        guest.fill(page, 2 * page + 1);
        assert_eq!(guest.put(&mut store, pool, page, page, 1), OK);
    }
    let keep = Op::new(GET_KEEP, pool, 0, 9, 1);
    assert_eq!(guest.op(&mut store, keep), OK);
    store.set(None, Setting::Cap(Some(2))).unwrap();
    assert!(!store.trim(100));
    assert_eq!(guest.get(&mut store, pool, 1, 9, 1), MISS);
    assert_eq!(guest.get(&mut store, pool, 2, 9, 1), MISS);
    assert_eq!(guest.get(&mut store, pool, 0, 9, 1), OK);
}

/// Pages of all guests, of content that takes a frame and more.
fn fill_up(store: &mut Store, guest: &Guest, pool: u32, pages: u64) {
    for page in 0..pages {
        guest.fill(0, 2 * page + 1);
        assert_eq!(guest.put(store, pool, page, 0, 1), OK);
    }
}

#[test]
fn who_has_more_than_its_share_loses_pages_first() {
    let mut store = Store::new(90);
    let guests = ["LINUX01", "LINUX02"].map(|user| Guest::new(&mut store, user));
    let pools = guests
        .each_ref()
        .map(|guest| guest.create(&mut store, EPHEMERAL));
    let pages = |store: &mut Store| [0, 1].map(|which| guests[which].stats(store, pools[which])[0]);
    fill_up(&mut store, &guests[0], pools[0], 200);
    assert_eq!(pages(&mut store), [85, 0]);
    fill_up(&mut store, &guests[1], pools[1], 20);
    assert_eq!(pages(&mut store), [65, 20], "it is below its share");
    fill_up(&mut store, &guests[1], pools[1], 200);
    let [first, second] = pages(&mut store);
    assert!(
        first + second == 85 && first.abs_diff(second) <= 1,
        "{first} {second}"
    );
    let weight = Setting::Weight(NonZeroU16::new(300).unwrap());
    store.set(Some(id("LINUX01")), weight).unwrap();
    fill_up(&mut store, &guests[0], pools[0], 200);
    fill_up(&mut store, &guests[1], pools[1], 200);
    let [first, second] = pages(&mut store);
    assert!(
        first + second == 85 && first.abs_diff(3 * second) <= 3,
        "{first} {second}"
    );
}

#[test]
fn persistent_pages_take_a_share_at_most_and_stay() {
    let mut store = Store::new(84);
    let guests = ["LINUX01", "LINUX02"].map(|user| Guest::new(&mut store, user));
    let [first, second] = guests;
    let swap = first.create(&mut store, PERSISTENT);
    let cache = second.create(&mut store, EPHEMERAL);
    fill_up(&mut store, &second, cache, 80);
    fill_up(&mut store, &first, swap, 40);
    first.fill(0, 81);
    assert_eq!(
        first.put(&mut store, swap, 40, 0, 1),
        REJECTED,
        "half of the store"
    );
    assert_eq!(second.stats(&mut store, cache)[0], 40);
    fill_up(&mut store, &second, cache, 200);
    for page in 0..40 {
        assert_eq!(first.get(&mut store, swap, page, 1, 1), OK);
        assert!(first.holds(1, 2 * page + 1));
    }
    let swap = second.create(&mut store, PERSISTENT);
    fill_up(&mut store, &second, swap, 40);
}

#[test]
fn guests_do_not_see_each_other() {
    let (mut store, first, pool, _) = one_guest(100);
    let second = Guest::new(&mut store, "LINUX02");
    let own = second.create(&mut store, EPHEMERAL);
    assert_eq!(pool, own, "the same name means another pool");
    first.fill(1, 3);
    assert_eq!(first.put(&mut store, pool, 0, 1, 1), OK);
    assert_eq!(second.get(&mut store, own, 0, 1, 1), MISS);
    assert_eq!(second.flush(&mut store, own, 0, 1), OK);
    assert_eq!(second.destroy(&mut store, own), OK);
    assert_eq!(second.get(&mut store, own, 0, 1, 1), BAD_POOL);
    assert_eq!(first.get(&mut store, pool, 0, 2, 1), OK);
    assert!(first.holds(2, 3));
}

#[test]
fn a_reset_or_logoff_leaves_nothing() {
    let (mut store, mut guest, pool, persistent) = one_guest(100);
    assert_eq!(guest.put(&mut store, pool, 0, 1, 1), OK);
    assert_eq!(guest.put(&mut store, persistent, 0, 1, 1), OK);
    assert_eq!(store.reset(guest.id, Epoch(5)).len(), 2);
    assert_eq!(used(&store), 0);
    let mut block = Bytes::new(guest.epoch, 1);
    assert_eq!(guest.call(&mut store, POOL_CREATE, &mut block), EPOCH);
    guest.epoch = 5;
    assert_eq!(guest.get(&mut store, pool, 0, 1, 1), BAD_POOL);
    let new = guest.create(&mut store, PERSISTENT);
    assert_ne!(new, pool);
    assert_eq!(guest.put(&mut store, new, 0, 1, 1), OK);
    assert_eq!(store.log_off(guest.id).len(), 1);
    assert_eq!(used(&store), 0);
    let block = Bytes::new(guest.epoch, 1);
    let mut block = Block::new(&block.0).unwrap();
    assert!(
        store
            .execute(guest.id, QUERY, &mut block, &guest.ram)
            .is_none()
    );
    assert_ne!(store.log_on(id("LINUX01"), Epoch(5)), guest.id);
}

#[test]
fn operators_lose_persistent_pages_only_by_force() {
    let (mut store, guest, ephemeral, persistent) = one_guest(100);
    let user = id("LINUX01");
    let pool = PoolId::from_number(persistent);
    let all = Selection {
        whose: None,
        pool: None,
        only_ephemeral: false,
        force: false,
    };
    let put = |store: &mut Store| {
        for pool in [ephemeral, persistent] {
            assert_eq!(guest.put(store, pool, 0, 1, 1), OK);
        }
    };
    let pages = |store: &mut Store| [ephemeral, persistent].map(|pool| guest.stats(store, pool)[0]);
    put(&mut store);
    let refused = Some(Refusal::Persistent {
        user,
        pool,
        pages: 1,
    });
    assert_eq!(store.flush(&all).err(), refused);
    assert_eq!(store.destroy(&all).err(), refused);
    let one = Selection {
        whose: Some(user),
        pool: Some(pool),
        ..all
    };
    assert_eq!(store.flush(&one).err(), refused);
    assert_eq!(pages(&mut store), [1, 1]);
    store
        .flush(&Selection {
            only_ephemeral: true,
            ..all
        })
        .unwrap();
    assert_eq!(pages(&mut store), [0, 1]);
    put(&mut store);
    store.flush(&Selection { force: true, ..one }).unwrap();
    assert_eq!(pages(&mut store), [1, 0]);
    assert_eq!(guest.get(&mut store, persistent, 0, 2, 1), MISS);
    // Empty, it may go.
    assert_eq!(store.destroy(&one).unwrap().len(), 1);
    assert_eq!(guest.put(&mut store, persistent, 0, 1, 1), BAD_POOL);
    assert_eq!(
        store.destroy(&one).err(),
        Some(Refusal::NoPool { user, pool })
    );
    store.destroy(&all).unwrap();
    assert_eq!(guest.get(&mut store, ephemeral, 0, 1, 1), BAD_POOL);
    assert_eq!(used(&store), 0);
    let nobody = Some(id("NOBODY"));
    let refused = Some(Refusal::NotLoggedOn(id("NOBODY")));
    assert_eq!(
        store
            .flush(&Selection {
                whose: nobody,
                ..all
            })
            .err(),
        refused
    );
    assert_eq!(store.list(nobody).err(), refused);
    assert_eq!(store.set(nobody, Setting::Frozen(true)).err(), refused);
}

/// Another store, on which a guest comes back that was saved.
fn next_store(frames: u64, number: u64) -> (Store, Guest) {
    let mut store = Store::new(frames);
    let guest = Guest::new(&mut store, "LINUX01");
    let epoch = Epoch(guest.epoch);
    store.set_saved(guest.id, SaveId { epoch, number });
    (store, guest)
}

#[test]
fn what_was_saved_is_there_again_in_another_store() {
    let (mut store, guest, ephemeral, persistent) = one_guest(1000);
    let gone = guest.create(&mut store, PERSISTENT);
    assert_eq!(guest.destroy(&mut store, gone), OK);
    for page in 0..600 {
        guest.fill(0, page);
        assert_eq!(guest.put(&mut store, persistent, page, 0, 1), OK);
    }
    assert_eq!(guest.put(&mut store, ephemeral, u64::MAX, 0, 1), OK);
    let file = save(&mut store, &guest, 7);
    let (mut store, guest) = next_store(1000, 7);
    assert!(store.is_saved(guest.id));
    assert_eq!(restore(&mut store, &guest, &file), Ok((601, 0)));
    assert!(!store.is_saved(guest.id));
    for page in 0..600 {
        assert_eq!(guest.get(&mut store, persistent, page, 1, 1), OK);
        assert!(guest.holds(1, page), "{page}");
    }
    assert_eq!(guest.get(&mut store, ephemeral, u64::MAX, 1, 1), OK);
    assert_eq!(guest.get(&mut store, gone, 0, 1, 1), BAD_POOL);
    assert_ne!(guest.create(&mut store, PERSISTENT), gone);
}

#[test]
fn persistent_pages_are_restored_for_nobody_but_the_guest_as_it_was_saved() {
    let (mut store, guest, ephemeral, persistent) = one_guest(100);
    for pool in [ephemeral, persistent] {
        assert_eq!(guest.put(&mut store, pool, 0, 1, 1), OK);
    }
    let user = id("LINUX01");
    let file = save(&mut store, &guest, 7);
    // It may be restored where it still is, but only once.
    assert_eq!(restore(&mut store, &guest, &file), Ok((2, 0)));
    let went_on = Err(Refusal::WentOn(user));
    assert_eq!(restore(&mut store, &guest, &file), went_on);
    let newer = save(&mut store, &guest, 8);
    assert_eq!(restore(&mut store, &guest, &file), went_on);
    assert_eq!(guest.get(&mut store, persistent, 5, 1, 1), MISS);
    assert_eq!(restore(&mut store, &guest, &newer), went_on);
    let newest = save(&mut store, &guest, 9);
    let other = Guest::new(&mut store, "LINUX02");
    let of_another = Err(Refusal::OfAnother(user));
    assert_eq!(restore(&mut store, &other, &newest), of_another);
    assert_eq!(guest.stats(&mut store, persistent)[0], 1);
    let newest = save(&mut store, &guest, 10);
    drop(store.reset(guest.id, Epoch(5)));
    let another_life = Err(Refusal::AnotherLife(user));
    assert_eq!(restore(&mut store, &guest, &newest), another_life);
    assert_eq!(used(&store), 0);
}

#[test]
fn ephemeral_pages_alone_are_dropped_if_the_guest_is_not_as_it_was_saved() {
    let (mut store, guest, pool, _) = one_guest(100);
    assert_eq!(guest.put(&mut store, pool, 0, 1, 2), OK);
    let file = save(&mut store, &guest, 7);
    assert_eq!(guest.flush(&mut store, pool, 0, 1), OK);
    assert_eq!(restore(&mut store, &guest, &file), Ok((0, 2)));
    assert_eq!(guest.stats(&mut store, pool)[0], 1, "what it has stays");
}

#[test]
fn what_is_restored_fits() {
    let (mut store, guest, ephemeral, persistent) = one_guest(100);
    fill_up(&mut store, &guest, ephemeral, 20);
    fill_up(&mut store, &guest, persistent, 20);
    let file = save(&mut store, &guest, 7);
    let (mut store, guest) = next_store(20, 7);
    let no_room = Err(Refusal::NoRoom(id("LINUX01")));
    assert_eq!(restore(&mut store, &guest, &file), no_room);
    assert_eq!(used(&store), 0);
    let (mut store, guest) = next_store(30, 7);
    assert_eq!(restore(&mut store, &guest, &file), Ok((40, 0)));
    assert!(used(&store) <= 30);
    assert_eq!(guest.stats(&mut store, persistent)[0], 20);
    assert_eq!(guest.stats(&mut store, ephemeral)[0], 8);
}

#[test]
fn a_file_that_is_cut_or_goes_on_is_refused() {
    let mut file = small_file();
    for length in 0..file.len() {
        let read = Saved::read(&file[..length]);
        assert!(matches!(read, Err(Damage::Short)), "{length}: {read:?}");
    }
    file.push(0);
    assert!(matches!(Saved::read(&file[..]), Err(Damage::Long)));
}

/// Also if the checksum is right.
#[test]
fn a_file_that_would_not_be_written_so_is_refused() {
    let file = small_file();
    let body = file.len() - 4;
    // The first page of the first pool, which is all zeroes, once more.
    let twice = [&file[..108], &file[68..body]].concat();
    let changed = |place: usize| {
        let mut file = file[..body].to_vec();
        file[place] ^= 1;
        file
    };
    let read = |mut body: Vec<u8>| {
        let sum = crc32fast::hash(&body);
        body.extend(sum.to_be_bytes());
        Saved::read(&body[..])
    };
    read(file[..body].to_vec()).unwrap();
    // A label of the last slot, which has no pool; its quota; the kind of the end.
    for altered in [
        twice,
        changed(body - 5),
        changed(body - 21),
        changed(body - 1),
    ] {
        let read = read(altered);
        assert!(matches!(read, Err(Damage::Altered(_))), "{read:?}");
    }
}

#[test]
fn a_file_with_another_byte_is_refused() {
    let mut file = small_file();
    for place in 0..file.len() {
        for change in [1, 0x80] {
            file[place] ^= change;
            let read = Saved::read(&file[..]);
            match place {
                0..8 => assert!(matches!(read, Err(Damage::Foreign)), "{place}: {read:?}"),
                8..12 => assert!(matches!(read, Err(Damage::Version(_))), "{place}: {read:?}"),
                _ => assert!(read.is_err(), "{place}: {read:?}"),
            }
            file[place] ^= change;
        }
    }
    Saved::read(&file[..]).unwrap();
}

fn steps() -> impl Strategy<Value = Step> {
    let op = (1..=5_u16, 0..2_u64, 0..12_u64, 0..60_u64, 1..5_u32)
        .prop_map(|(op, object, index, frame, pages)| Op::right(op, object, index, frame, pages));
    let setting = prop_oneof![
        (1..500_u16).prop_map(|weight| Setting::Weight(NonZeroU16::new(weight).unwrap())),
        proptest::option::of(0..30_u64).prop_map(Setting::Cap),
        any::<bool>().prop_map(Setting::Compress),
        any::<bool>().prop_map(Setting::Frozen),
    ];
    prop_oneof![
        40 => (0..2_usize, any::<bool>(), op, any::<u64>())
            .prop_map(|(guest, persistent, op, seeds)| Step::Op { guest, persistent, op, seeds }),
        2 => (0..2_usize, setting).prop_map(|(guest, setting)| Step::Set(guest, setting)),
        1 => (0..2_usize).prop_map(Step::Flush),
        1 => (0..2_usize).prop_map(Step::Reset),
        2 => (0..2_usize).prop_map(Step::SaveAndRestore),
    ]
}

proptest! {
    /// A get gives what the last put stored, of a persistent pool always, of an ephemeral one if anything.
    #[test]
    fn a_store_is_a_map_that_may_forget_what_is_ephemeral(
        steps in proptest::collection::vec(steps(), 1..200), frames in 1..60_u64)
    {
        let mut world = World::new(frames);
        for step in steps {
            world.step(step);
        }
        world.check_contents();
    }

    #[test]
    fn any_file_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600), begin in 0..600_usize) {
        let mut file = small_file();
        file.truncate(begin);
        file.extend(bytes);
        prop_assert!(Saved::read(&file[..]).is_err());
    }

    #[test]
    fn any_block_has_an_answer(
        bytes in proptest::collection::vec(any::<u8>(), 4096), subcode in 0..5_u64, good_header: bool, good_pool: bool)
    {
        let mut world = World::new(50);
        for guest in 0..2 {
            let op = Op::right(PUT, 0, 0, 0, 4);
            world.step(Step::Op { guest, persistent: true, op, seeds: 3 });
        }
        let mut block = Bytes(bytes);
        if good_header {
            block.0[..64].copy_from_slice(&world.block(63)[..64]);
        }
        if good_pool {
            for place in 0..63 {
                block.set(64 + 64 * place, &[0, place as u8 % 7]).set(68 + 64 * place, &[0, 1, 0, 1]);
            }
        }
        let block = block.0.into_boxed_slice().try_into().unwrap();
        world.step(Step::Block(Function::from_subcode(subcode).unwrap(), block));
        world.check_contents();
    }
}
