// SPDX-License-Identifier: GPL-2.0

//! Clean page cache: an ephemeral pool for each file system.

use core::ops::RangeInclusive;

use kernel::{
    mm::{
        cleancache::{
            Backend,
            File,
            Fs, //
        },
        tmem::{
            Source,
            Wanted, //
        },
    },
    s390::tmem::{
        Failure,
        Kind,
        Object,
        PoolId,
        Tmem, //
    },
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Relaxed,
            Release, //
        },
        Arc, //
    },
};

use crate::{
    counters::Counters,
    events,
    governor::Totals,
    keeper::Keeper, //
};

/// The most file systems that have a pool. Pages of more are not put.
const MOST: usize = 16;

/// The pool of each file system that has one: the device number, which is not 0, and the pool's
/// number. Found without a lock, since reclaim asks for each folio.
struct Pools([Atomic<u64>; MOST]);

impl Pools {
    const fn new() -> Self {
        Self([const { Atomic::new(0) }; MOST])
    }

    const fn entry(device: u32, pool: PoolId) -> u64 {
        (device as u64) << 32 | pool.number() as u64
    }

    fn place(&self, device: u32) -> Option<(&Atomic<u64>, PoolId)> {
        self.0.iter().find_map(|place| {
            let entry = place.load(Acquire);
            // CAST: The halves of an entry.
            (entry >> 32 == u64::from(device)).then(|| (place, PoolId::from_number(entry as u32)))
        })
    }

    fn find(&self, device: u32) -> Option<PoolId> {
        self.place(device).map(|(_, pool)| pool)
    }

    /// Adds a pool. False if there are too many. Only one caller at a time.
    fn add(&self, device: u32, pool: PoolId) -> bool {
        let free = self.0.iter().find(|place| place.load(Relaxed) == 0);
        if let Some(place) = free {
            place.store(Self::entry(device, pool), Release);
        }
        free.is_some()
    }

    /// Forgets the pool of a file system. Nothing if somebody else just has.
    fn remove(&self, device: u32) -> Option<PoolId> {
        let (place, pool) = self.place(device)?;
        let removed = place.cmpxchg(Self::entry(device, pool), 0, Relaxed);
        removed.is_ok().then_some(pool)
    }

    fn all(&self) -> impl Iterator<Item = PoolId> + '_ {
        let entries = self.0.iter().map(|place| place.load(Relaxed));
        entries
            .filter(|&entry| entry != 0)
            // CAST: The lower half of an entry.
            .map(|entry| PoolId::from_number(entry as u32))
    }
}

/// The pools of page cache. Dropping it unmakes them.
pub(crate) struct Cache {
    tmem: Arc<Tmem>,
    pools: Pools,
    /// Held while a pool is made.
    making: Atomic<bool>,
    keeper: Arc<Keeper>,
    counters: &'static Counters,
}

fn object(file: File) -> Object {
    Object([file.inode, 0, 0])
}

impl Cache {
    pub(crate) fn new(tmem: Arc<Tmem>, keeper: Arc<Keeper>, counters: &'static Counters) -> Self {
        Self {
            tmem,
            pools: Pools::new(),
            making: Atomic::new(false),
            keeper,
            counters,
        }
    }

    /// What became of the pages of all pools.
    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for stats in self
            .pools
            .all()
            .filter_map(|pool| self.tmem.stats(pool).ok())
        {
            totals.puts += stats.puts;
            totals.hits += stats.hits;
            totals.misses += stats.misses;
            totals.evicted += stats.evicted;
        }
        totals
    }

    /// The pool of a file system; a new one if it has none.
    fn pool(&self, fs: Fs) -> Option<PoolId> {
        self.pools.find(fs.device()).or_else(|| self.make(fs))
    }

    /// Makes a pool, if nobody else is just making one: nobody waits for that.
    fn make(&self, fs: Fs) -> Option<PoolId> {
        if self.making.xchg(true, Acquire) {
            return None;
        }
        let made = self.pools.find(fs.device()).or_else(|| {
            let pool = self.tmem.create(Kind::Ephemeral, label(fs.device())).ok()?;
            if !self.pools.add(fs.device(), pool) {
                self.tmem.destroy(pool);
                return None;
            }
            Some(pool)
        });
        self.making.store(false, Release);
        made
    }
}

/// The name of a pool for the hypervisor's operator: `cache MAJOR:MINOR`, as far as there is room.
fn label(device: u32) -> [u8; 16] {
    let mut label = [0; 16];
    let mut rest = &mut label[..];
    let mut push = |byte| {
        if let Some((first, behind)) = core::mem::take(&mut rest).split_first_mut() {
            *first = byte;
            rest = behind;
        }
    };
    b"cache ".iter().for_each(|&byte| push(byte));
    for (number, end) in [(device >> 20, Some(b':')), (device & 0xf_ffff, None)] {
        let digits = (0..8).rev().map(|place| number / 10_u32.pow(place) % 10);
        let mut digits = digits.skip_while(|&digit| digit == 0).peekable();
        if digits.peek().is_none() {
            push(b'0');
        }
        // CAST: A digit.
        digits.for_each(|digit| push(b'0' + digit as u8));
        end.into_iter().for_each(&mut push);
    }
    label
}

impl Backend for Cache {
    fn put(&self, file: File, index: u64, pages: &Source<'_>) -> bool {
        let nr = pages.frames().len();
        let put = self.pool(file.fs).is_some_and(|pool| {
            let put = self.tmem.put(pool, object(file), index, pages);
            if put == Err(Failure::NoPool) {
                // The hypervisor's operator has unmade it. The next put makes another one.
                self.pools.remove(file.fs.device());
            }
            put.is_ok()
        });
        events::cache_put(file, index, nr, put);
        if put {
            self.keeper.count_puts(nr);
        }
        self.counters.put(put, nr)
    }

    fn get(&self, file: File, wanted: &mut Wanted<'_>) {
        let Some(pool) = self.pools.find(file.fs.device()) else {
            return;
        };
        let asked = wanted.left();
        // If there is no such pool any more the pages are gone, too.
        self.tmem.get_all(pool, object(file), wanted).ok();
        for (which, index, frames) in asked {
            let hit = self.counters.get(wanted.has(which), frames.len());
            events::cache_get(file, index, frames.len(), hit);
        }
    }

    fn flush(&self, file: File, pages: RangeInclusive<u64>) {
        if let Some(pool) = self.pools.find(file.fs.device()) {
            self.counters.flush();
            // As above.
            self.tmem.flush(pool, object(file), pages).ok();
        }
    }

    fn flush_file(&self, file: File) {
        if let Some(pool) = self.pools.find(file.fs.device()) {
            self.counters.flush();
            // As above.
            self.tmem.flush_object(pool, object(file)).ok();
        }
    }

    fn flush_fs(&self, fs: Fs) {
        if let Some(pool) = self.pools.remove(fs.device()) {
            self.tmem.destroy(pool);
        }
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        for pool in self.pools.all() {
            self.tmem.destroy(pool);
        }
    }
}

#[cfg(CONFIG_COOPMEM_TMEM_KUNIT_TEST)]
#[kernel::prelude::kunit_tests(tmem_cache)]
mod tests {
    use super::*;

    #[test]
    fn pools_are_found_and_removed() {
        let pools = Pools::new();
        let pool = |number| PoolId::from_number(number);
        assert_eq!(pools.find(7), None);
        assert!(pools.add(7, pool(0)));
        assert!(pools.add(8, pool(0xffff_ffff)));
        assert_eq!(pools.find(7), Some(pool(0)));
        assert_eq!(pools.find(8), Some(pool(0xffff_ffff)));
        assert_eq!(pools.remove(7), Some(pool(0)));
        assert_eq!(pools.find(7), None);
        assert_eq!(pools.remove(7), None);
        assert!(pools.all().eq([pool(0xffff_ffff)]));
    }

    #[test]
    fn there_is_a_limit() {
        let pools = Pools::new();
        for device in 1..=MOST as u32 {
            assert!(pools.add(device, PoolId::from_number(device)));
        }
        assert!(!pools.add(100, PoolId::from_number(100)));
        pools.remove(3);
        assert!(pools.add(100, PoolId::from_number(100)));
        assert_eq!(pools.all().count(), MOST);
    }

    #[test]
    fn labels_name_the_device() {
        assert_eq!(&label(0x0fd0_0010), b"cache 253:16\0\0\0\0");
        assert_eq!(&label(0x100), b"cache 0:256\0\0\0\0\0");
        assert_eq!(&label(u32::MAX), b"cache 4095:10485");
    }
}
