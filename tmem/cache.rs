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
        Kind,
        Object,
        PoolId,
        Tmem, //
    },
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Full,
            Relaxed,
            Release, //
        },
        Arc, //
    },
};

use crate::{
    counters::Counters,
    events,
    governor::{
        Governor,
        Totals, //
    }, //
};

/// The most file systems that have a pool. Pages of more are not put.
const MOST: usize = 16;

/// How many pages are not put after the hypervisor has refused a pool.
const REFUSED: u64 = 65536;

/// A file system that has a pool, or had one that was not worth it.
struct Place {
    /// The device number, which is not 0, and the pool's number, or that of none; or 0.
    entry: Atomic<u64>,
    governor: Governor,
}

impl Place {
    const fn new() -> Self {
        Self {
            entry: Atomic::new(0),
            governor: Governor::new(),
        }
    }

    const fn entry(device: u32, pool: PoolId) -> u64 {
        (device as u64) << 32 | pool.number() as u64
    }

    fn read(entry: u64) -> Option<(u32, PoolId)> {
        // CAST: The halves of an entry.
        let (device, pool) = ((entry >> 32) as u32, PoolId::from_number(entry as u32));
        (device != 0).then_some((device, pool))
    }

    /// Replaces an entry, unless another one has been made meanwhile.
    fn replace(&self, old: u64, new: u64) -> bool {
        self.entry.cmpxchg(old, new, Full).is_ok()
    }
}

/// All of them. Found without a lock, since reclaim asks for each folio.
struct Places([Place; MOST]);

impl Places {
    const fn new() -> Self {
        Self([const { Place::new() }; MOST])
    }

    /// The place of a file system, and its pool or [`PoolId::NONE`].
    fn find(&self, device: u32) -> Option<(&Place, PoolId)> {
        self.0.iter().find_map(|place| {
            let (of, pool) = Place::read(place.entry.load(Acquire))?;
            (of == device).then_some((place, pool))
        })
    }

    /// The pool of a file system.
    fn pool(&self, device: u32) -> Option<PoolId> {
        self.find(device)
            .map(|(_, pool)| pool)
            .filter(|&pool| pool != PoolId::NONE)
    }

    /// Adds a file system, or its pool if it had none. There may be no room. Only one caller at a
    /// time.
    fn add(&self, device: u32, pool: PoolId) -> Option<&Place> {
        let new = Place::entry(device, pool);
        if let Some((place, PoolId::NONE)) = self.find(device) {
            place.governor.restart();
            if place.replace(Place::entry(device, PoolId::NONE), new) {
                return Some(place);
            }
        }
        let place = self.0.iter().find(|place| place.entry.load(Relaxed) == 0)?;
        place.governor.reset();
        place.entry.store(new, Release);
        Some(place)
    }

    /// Removes a file system. Returns its pool if it has one.
    fn remove(&self, device: u32) -> Option<PoolId> {
        let (place, _) = self.find(device)?;
        let (_, pool) = Place::read(place.entry.xchg(0, Full))?;
        (pool != PoolId::NONE).then_some(pool)
    }

    fn all(&self) -> impl Iterator<Item = PoolId> + '_ {
        let entries = self.0.iter().map(|place| place.entry.load(Relaxed));
        entries
            .filter_map(Place::read)
            .map(|(_, pool)| pool)
            .filter(|&pool| pool != PoolId::NONE)
    }
}

/// The pools of page cache. Dropping it unmakes them.
pub(crate) struct Cache {
    tmem: Arc<Tmem>,
    places: Places,
    /// Held while a pool is made.
    making: Atomic<bool>,
    counters: &'static Counters,
}

fn object(file: File) -> Object {
    Object([file.inode, 0, 0])
}

impl Cache {
    pub(crate) fn new(tmem: Arc<Tmem>, counters: &'static Counters) -> Self {
        Self {
            tmem,
            places: Places::new(),
            making: Atomic::new(false),
            counters,
        }
    }

    /// The pool for `nr` pages that are to be put; a new one if it is time for that.
    fn pool_for(&self, fs: Fs, nr: usize) -> Option<(&Place, PoolId)> {
        match self.places.find(fs.device()) {
            Some((place, PoolId::NONE)) if !place.governor.count(nr) => None,
            Some((_, PoolId::NONE)) | None => self.make(fs),
            found => found,
        }
    }

    /// Makes a pool, if nobody else is just making one: nobody waits for that.
    fn make(&self, fs: Fs) -> Option<(&Place, PoolId)> {
        if self.making.xchg(true, Acquire) {
            return None;
        }
        let device = fs.device();
        if self.places.pool(device).is_none() {
            let made = self.tmem.create(Kind::Ephemeral, label(device));
            let pool = made.unwrap_or(PoolId::NONE);
            match self.places.add(device, pool) {
                Some(place) if made.is_err() => place.governor.rest(REFUSED),
                Some(_) => (),
                None if made.is_ok() => self.tmem.destroy(pool),
                None => (),
            }
        }
        self.making.store(false, Release);
        let found = self.places.find(device);
        found.filter(|&(_, pool)| pool != PoolId::NONE)
    }

    /// Gives the pool of a file system up if it is not worth its puts.
    fn judge(&self, fs: Fs, place: &Place, pool: PoolId) {
        let Ok(stats) = self.tmem.stats(pool) else {
            return;
        };
        let totals = Totals {
            puts: stats.puts,
            hits: stats.hits,
            evicted: stats.evicted,
        };
        let Some(rest) = place.governor.judge(totals) else {
            return;
        };
        let entry = |pool| Place::entry(fs.device(), pool);
        if place.replace(entry(pool), entry(PoolId::NONE)) {
            place.governor.rest(rest);
            self.tmem.destroy(pool);
            events::rest(fs.device(), stats, rest);
        }
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
        let Some((place, pool)) = self.pool_for(file.fs, nr) else {
            self.counters.left_out(nr);
            return false;
        };
        let put = self.tmem.put(pool, object(file), index, pages).is_ok();
        events::cache_put(file, index, nr, put);
        if place.governor.count(nr) {
            self.judge(file.fs, place, pool);
        }
        self.counters.put(put, nr)
    }

    fn get(&self, file: File, wanted: &mut Wanted<'_>) {
        let Some(pool) = self.places.pool(file.fs.device()) else {
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
        if let Some(pool) = self.places.pool(file.fs.device()) {
            self.counters.flush();
            // As above.
            self.tmem.flush(pool, object(file), pages).ok();
        }
    }

    fn flush_file(&self, file: File) {
        if let Some(pool) = self.places.pool(file.fs.device()) {
            self.counters.flush();
            // As above.
            self.tmem.flush_object(pool, object(file)).ok();
        }
    }

    fn flush_fs(&self, fs: Fs) {
        if let Some(pool) = self.places.remove(fs.device()) {
            self.tmem.destroy(pool);
        }
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        for pool in self.places.all() {
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
        let places = Places::new();
        let pool = |number| PoolId::from_number(number);
        assert_eq!(places.pool(7), None);
        assert!(places.add(7, pool(0)).is_some());
        assert!(places.add(8, pool(0xffff_fffe)).is_some());
        assert_eq!(places.pool(7), Some(pool(0)));
        assert_eq!(places.pool(8), Some(pool(0xffff_fffe)));
        assert_eq!(places.remove(7), Some(pool(0)));
        assert_eq!(places.pool(7), None);
        assert_eq!(places.remove(7), None);
        assert!(places.all().eq([pool(0xffff_fffe)]));
    }

    #[test]
    fn without_a_pool_the_place_stays() {
        let places = Places::new();
        assert!(places.add(7, PoolId::NONE).is_some());
        assert!(places.find(7).is_some());
        assert_eq!(places.pool(7), None);
        assert_eq!(places.all().count(), 0);
        assert!(places.add(7, PoolId::from_number(3)).is_some());
        assert_eq!(places.pool(7), Some(PoolId::from_number(3)));
        assert_eq!(places.remove(7), Some(PoolId::from_number(3)));
        assert!(places.find(7).is_none());
    }

    #[test]
    fn there_is_a_limit() {
        let places = Places::new();
        for device in 1..=MOST as u32 {
            assert!(places.add(device, PoolId::from_number(device)).is_some());
        }
        assert!(places.add(100, PoolId::from_number(100)).is_none());
        places.remove(3);
        assert!(places.add(100, PoolId::from_number(100)).is_some());
        assert_eq!(places.all().count(), MOST);
    }

    #[test]
    fn labels_name_the_device() {
        assert_eq!(&label(0xfd_0_0010), b"cache 253:16\0\0\0\0");
        assert_eq!(&label(0x100), b"cache 0:256\0\0\0\0\0");
        assert_eq!(&label(u32::MAX), b"cache 4095:10485");
    }
}
