// SPDX-License-Identifier: GPL-2.0

//! Transcendent memory of the hypervisor: pools of pages, and the DIAGNOSE that reaches them.
//!
//! It is DIAGNOSE X'1F4', one of the codes that an installation may define. So the hypervisor is
//! first asked, by the CP command `QUERY TMEM`, whether that is what it means by it. The call has a
//! block of one page: a header and records of 64 bytes each, all of them big-endian, as this
//! machine is. `Documentation/arch/s390/coopmem/tmem-hypercall.rst` specifies it.

use crate::{
    bindings,
    cpu::{
        nr_cpu_ids,
        CpuId, //
    },
    interrupt::local_interrupt_disable,
    mm::tmem::{
        Source,
        Target,
        Wanted, //
    },
    page::{
        pfn_of,
        Page,
        PfnRange, //
    },
    prelude::*,
    s390::command::command, //
};
use core::{
    iter,
    mem::size_of,
    ops::RangeInclusive,
    slice,
    str, //
};

/// The code of the DIAGNOSE.
const CODE: u16 = 0x1f4;

/// The version of the block.
const VERSION: u16 = 1;

/// `TMEM` in ASCII.
const MAGIC: u32 = 0x544d_454d;

/// How many records a block has room for.
const ROOM: usize = 63;

/// What a call is for.
#[derive(Clone, Copy)]
enum Function {
    Query = 0,
    PoolCreate = 1,
    PoolDestroy = 2,
    Batch = 3,
    Stats = 4,
}

/// The header of a block.
#[derive(Clone, Copy)]
#[repr(C)]
struct Header {
    magic: u32,
    version: u16,
    header_len: u16,
    record_len: u16,
    nr: u16,
    done: u16,
    flags: u16,
    epoch: u64,
    reserved: [u64; 5],
}

/// A record of a block.
///
/// # Safety
///
/// It has 64 bytes, and any bytes are a valid one.
unsafe trait Record: Copy {}

/// The record of [`Function::Query`].
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Query {
    version_min: u16,
    version_max: u16,
    max_nr: u16,
    max_pools: u16,
    max_pages: u32,
    features: u32,
    reserved: [u64; 6],
}

// SAFETY: Numbers only, of 64 bytes.
unsafe impl Record for Query {}

/// The record of [`Function::PoolCreate`] and [`Function::PoolDestroy`].
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct PoolRecord {
    pool: u32,
    flags: u32,
    page_shift: u16,
    reserved1: u16,
    reserved2: u32,
    quota: u64,
    label: [u8; 16],
    reserved3: [u64; 3],
}

// SAFETY: Numbers only, of 64 bytes.
unsafe impl Record for PoolRecord {}

/// The record of [`Function::Stats`].
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct StatsRecord {
    pool: u32,
    reserved: u32,
    stats: Stats,
}

// SAFETY: Numbers only, of 64 bytes.
unsafe impl Record for StatsRecord {}

/// What the hypervisor counts of a pool, in pages since it was made if nothing else is said.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Stats {
    /// There now.
    pub pages: u64,
    /// Memory that they take, in bytes.
    pub bytes: u64,
    /// Put.
    pub puts: u64,
    /// Of puts that were rejected.
    pub rejected: u64,
    /// Got.
    pub hits: u64,
    /// Of gets that missed.
    pub misses: u64,
    /// Given up by the hypervisor.
    pub evicted: u64,
}

/// An entry of a batch: an operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
struct Entry {
    op: u16,
    rc: u16,
    pool: u32,
    object: [u64; 3],
    index: u64,
    address: u64,
    nr_pages: u32,
    flags: u32,
    cookie: u64,
}

// SAFETY: Numbers only, of 64 bytes.
unsafe impl Record for Entry {}

const _: () = assert!(
    size_of::<Header>() == 64
        && size_of::<Query>() == 64
        && size_of::<PoolRecord>() == 64
        && size_of::<StatsRecord>() == 64
        && size_of::<Entry>() == 64
);

impl Entry {
    const PUT: u16 = 1;
    const GET: u16 = 2;
    const FLUSH_RANGE: u16 = 4;
    const FLUSH_OBJECT: u16 = 5;

    /// `nr_pages` of a flush to the end of the object.
    const TO_THE_END: u32 = u32::MAX;

    /// A put or a get.
    fn transfer(op: u16, pool: PoolId, object: Object, index: u64, frames: PfnRange) -> Self {
        Self {
            op,
            pool: pool.0,
            object: object.0,
            index,
            address: frames.first().phys(),
            // CAST: At most `MAX_PAGES`.
            nr_pages: frames.len() as u32,
            ..Self::default()
        }
    }

    /// A flush. More than the block can count goes to the end of the object.
    fn flush(pool: PoolId, object: Object, pages: RangeInclusive<u64>) -> Self {
        let more = pages.end().saturating_sub(*pages.start());
        Self {
            op: Self::FLUSH_RANGE,
            pool: pool.0,
            object: object.0,
            index: *pages.start(),
            nr_pages: u32::try_from(more)
                .ok()
                .and_then(|more| more.checked_add(1))
                .unwrap_or(Self::TO_THE_END),
            ..Self::default()
        }
    }

    fn flush_object(pool: PoolId, object: Object) -> Self {
        Self {
            op: Self::FLUSH_OBJECT,
            pool: pool.0,
            object: object.0,
            ..Self::default()
        }
    }
}

/// What becomes of pages in a pool.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// They stay.
    Persistent = 1,
    /// The hypervisor may drop them at any time.
    Ephemeral = 2,
}

/// A pool. Its name is never that of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolId(u32);

impl PoolId {
    /// Returns the number that the hypervisor's operator sees.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The pool of a number that [`number`](Self::number) returned.
    pub const fn from_number(number: u32) -> Self {
        Self(number)
    }
}

/// The name of an object, a set of pages, in a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object(pub [u64; 3]);

/// Why something was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The hypervisor does not have all the pages.
    Miss,
    /// It has no room.
    Rejected,
    /// There is no such pool any more.
    NoPool,
    /// Something else: its code, or that of the kernel for there being no such call any more.
    Other(c_long),
}

const OK: c_long = 0;
const MISS: c_long = 1;
const REJECTED: c_long = 2;
const AGAIN: c_long = 3;
const BAD_POOL: c_long = 0x10;

impl Failure {
    fn check(code: c_long) -> Result<(), Self> {
        match code {
            OK => Ok(()),
            MISS => Err(Self::Miss),
            REJECTED => Err(Self::Rejected),
            BAD_POOL => Err(Self::NoPool),
            other => Err(Self::Other(other)),
        }
    }
}

/// The way to the pools.
///
/// # Context
///
/// All but [`find`](Self::find) can be called in any context. A call of DIAGNOSE takes as long as
/// the hypervisor needs to copy the pages, with interrupts off.
pub struct Tmem {
    epoch: u64,
    max_pages: usize,
    max_nr: usize,
    /// A block for each CPU.
    blocks: KVec<Page>,
}

/// Reads the version from the answer to `QUERY TMEM`.
fn parse(answer: &[u8]) -> Option<u16> {
    let answer = str::from_utf8(answer).ok()?.trim_ascii();
    let (code, version) = answer
        .strip_prefix("TMEM: DIAGNOSE ")?
        .split_once(" VERSION ")?;
    let known = u16::from_str_radix(code, 16).ok()? == CODE;
    version.parse().ok().filter(|_| known)
}

impl Tmem {
    /// Asks the hypervisor for it. May sleep.
    ///
    /// # Errors
    ///
    /// - `ENODEV` if there is no such thing, or one of another version.
    /// - `ENOMEM`
    pub fn find() -> Result<Self> {
        let answer = command(c"QUERY TMEM").map_err(|error| match error {
            ENOMEM => ENOMEM,
            _ => ENODEV,
        })?;
        if answer.code() != 0 {
            return Err(ENODEV);
        }
        if parse(answer.text()).ok_or(ENODEV)? < VERSION {
            return Err(ENODEV);
        }
        let mut blocks = KVec::with_capacity(nr_cpu_ids() as usize, GFP_KERNEL)?;
        for _ in 0..nr_cpu_ids() {
            blocks.push(Page::alloc_page(GFP_KERNEL | __GFP_ZERO)?, GFP_KERNEL)?;
        }
        let mut tmem = Self {
            epoch: 0,
            max_pages: 0,
            max_nr: 1,
            blocks,
        };
        let (header, query) = tmem
            .call(Function::Query, Query::default())
            .map_err(|_| ENODEV)?;
        if !(query.version_min..=query.version_max).contains(&VERSION) {
            return Err(ENODEV);
        }
        tmem.epoch = header.epoch;
        tmem.max_pages = query.max_pages as usize;
        tmem.max_nr = query.max_nr as usize;
        Ok(tmem)
    }

    /// Calls the hypervisor, again and again as long as it has not done all of it.
    fn call<R: Record>(&self, function: Function, record: R) -> Result<(Header, R), Failure> {
        loop {
            let (code, header, record) = self.call_once(function, record);
            if code != AGAIN {
                return Failure::check(code).map(|()| (header, record));
            }
        }
    }

    fn call_once<R: Record>(&self, function: Function, record: R) -> (c_long, Header, R) {
        self.exchange(function, iter::once(record), |code, header, records| {
            (code, *header, records[0])
        })
    }

    /// Issues a call for records, of which there are no more than a block has room for, and has
    /// `read` look at the return code and at what the hypervisor has stored.
    fn exchange<R: Record, T>(
        &self,
        function: Function,
        records: impl Iterator<Item = R>,
        read: impl FnOnce(c_long, &Header, &[R]) -> T,
    ) -> T {
        // The block is this CPU's as long as nothing else can run here.
        let _off = local_interrupt_disable();
        let frame = pfn_of(self.blocks[CpuId::current().as_u32() as usize].as_ptr());
        // SAFETY: The page is ours, is mapped as all memory is, and nobody else uses it now: it is
        // that of this CPU, which does not run anything else. A header and so many records fit.
        unsafe {
            let block = bindings::phys_to_virt(frame.phys()).cast::<Header>();
            let places = block.add(1).cast::<R>();
            let mut nr = 0;
            for record in records.take(ROOM) {
                places.add(nr).write(record);
                nr += 1;
            }
            block.write(Header {
                magic: MAGIC,
                version: VERSION,
                header_len: 64,
                record_len: 64,
                // CAST: At most `ROOM`.
                nr: nr as u16,
                done: 0,
                flags: 0,
                epoch: self.epoch,
                reserved: [0; 5],
            });
            // The frames of an entry are those of a `Source`, `Target` or `Wanted`, so they may be
            // read or written; the call does not touch others.
            let code = bindings::diag_tmem(function as c_ulong, frame.phys() as c_ulong);
            read(code, &*block, slice::from_raw_parts(places, nr))
        }
    }

    fn carry_out(&self, entry: Entry) -> Result<(), Failure> {
        let (_, entry) = self.call(Function::Batch, entry)?;
        // CAST: It has room for 16 bits.
        Failure::check(entry.rc as c_long)
    }

    /// Makes a pool.
    ///
    /// # Errors
    ///
    /// There can be no more pools.
    pub fn create(&self, kind: Kind, label: [u8; 16]) -> Result<PoolId, Failure> {
        let record = PoolRecord {
            flags: kind as u32,
            page_shift: bindings::PAGE_SHIFT as u16,
            label,
            ..PoolRecord::default()
        };
        let (_, record) = self.call(Function::PoolCreate, record)?;
        Ok(PoolId(record.pool))
    }

    /// Unmakes a pool, with the pages that it has. If there is none that is all right.
    pub fn destroy(&self, pool: PoolId) {
        let record = PoolRecord {
            pool: pool.0,
            ..PoolRecord::default()
        };
        self.call(Function::PoolDestroy, record).ok();
    }

    /// Asks what became of the pages of a pool.
    ///
    /// # Errors
    ///
    /// There is no such pool.
    pub fn stats(&self, pool: PoolId) -> Result<Stats, Failure> {
        let record = StatsRecord {
            pool: pool.0,
            ..StatsRecord::default()
        };
        let (_, record) = self.call(Function::Stats, record)?;
        Ok(record.stats)
    }

    /// Puts a copy of pages into a pool, in place of what is there.
    ///
    /// # Errors
    ///
    /// Any: then nothing is there.
    pub fn put(
        &self,
        pool: PoolId,
        object: Object,
        index: u64,
        pages: &Source<'_>,
    ) -> Result<(), Failure> {
        let frames = pages.frames();
        if frames.len() > self.max_pages {
            let last = index + frames.len() as u64 - 1;
            self.flush(pool, object, index..=last)?;
            return Err(Failure::Rejected);
        }
        self.carry_out(Entry::transfer(Entry::PUT, pool, object, index, frames))
    }

    /// Gets pages, all of them, and removes them from the pool.
    ///
    /// # Errors
    ///
    /// Any: then the frames are as before.
    pub fn get(
        &self,
        pool: PoolId,
        object: Object,
        index: u64,
        pages: &Target<'_>,
    ) -> Result<(), Failure> {
        let frames = pages.frames();
        if frames.len() > self.max_pages {
            return Err(Failure::Miss);
        }
        self.carry_out(Entry::transfer(Entry::GET, pool, object, index, frames))
    }

    /// Gets what a pool has of an object's folios, and removes it from the pool.
    ///
    /// # Errors
    ///
    /// There is no such pool, and so none of the pages.
    pub fn get_all(
        &self,
        pool: PoolId,
        object: Object,
        wanted: &mut Wanted<'_>,
    ) -> Result<(), Failure> {
        for (which, _, frames) in wanted.left() {
            if frames.len() > self.max_pages {
                wanted.settle(which, false);
            }
        }
        while wanted.left().next().is_some() {
            let entries = wanted
                .left()
                .take(self.max_nr)
                .map(|(_, index, frames)| Entry::transfer(Entry::GET, pool, object, index, frames));
            let code = self.exchange(Function::Batch, entries, |code, header, entries| {
                let done = match code {
                    OK => entries.len(),
                    AGAIN => header.done as usize,
                    _ => 0,
                };
                for ((which, ..), entry) in wanted.left().zip(entries).take(done) {
                    wanted.settle(which, entry.rc as c_long == OK);
                }
                code
            });
            if code != AGAIN {
                Failure::check(code)?;
            }
        }
        Ok(())
    }

    /// Removes pages from a pool, and maybe those behind them if they are very many.
    ///
    /// # Errors
    ///
    /// There is no such pool, and so none of the pages.
    pub fn flush(
        &self,
        pool: PoolId,
        object: Object,
        pages: RangeInclusive<u64>,
    ) -> Result<(), Failure> {
        self.carry_out(Entry::flush(pool, object, pages))
    }

    /// Removes all pages of an object from a pool.
    ///
    /// # Errors
    ///
    /// There is no such pool, and so none of the pages.
    pub fn flush_object(&self, pool: PoolId, object: Object) -> Result<(), Failure> {
        self.carry_out(Entry::flush_object(pool, object))
    }
}

#[cfg(CONFIG_RUST_S390_KUNIT_TEST)]
#[macros::kunit_tests(rust_s390_tmem)]
mod tests {
    use super::*;
    use crate::page::Pfn;

    const POOL: PoolId = PoolId(0x1_0002);
    const OBJECT: Object = Object([3, 4, 5]);

    #[test]
    fn answers_are_read() {
        assert_eq!(parse(b"TMEM: DIAGNOSE 01F4 VERSION 1\n"), Some(1));
        for wrong in [
            &b""[..],
            b"HCPCQU045E TMEM not logged on",
            b"TMEM: DIAGNOSE 01F4 VERSION",
            b"TMEM: DIAGNOSE 01F4 VERSION 1 MORE",
            b"TMEM: DIAGNOSE 01F8 VERSION 1",
            b"TMEM: DIAGNOSE VERSION 1",
            b"TMEM: DIAGNOSE 01F4 VERSION -1",
        ] {
            assert_eq!(parse(wrong), None);
        }
    }

    #[test]
    fn ranges_are_counted() {
        let nr = |pages| Entry::flush(POOL, OBJECT, pages).nr_pages;
        assert_eq!(nr(7..=7), 1);
        assert_eq!(nr(7..=70), 64);
        assert_eq!(nr(0..=u64::from(u32::MAX) - 2), u32::MAX - 1);
        // As many as the block cannot count: to the end.
        assert_eq!(nr(0..=u64::from(u32::MAX) - 1), Entry::TO_THE_END);
        assert_eq!(nr(0..=u64::MAX), Entry::TO_THE_END);
    }

    #[test]
    fn frames_are_addressed() -> Result {
        let frames = PfnRange::new(Pfn::new(0x12345), 16).ok_or(EINVAL)?;
        assert_eq!(
            Entry::transfer(Entry::PUT, POOL, OBJECT, 9, frames),
            Entry {
                op: 1,
                pool: 0x1_0002,
                object: [3, 4, 5],
                index: 9,
                address: 0x1234_5000,
                nr_pages: 16,
                ..Entry::default()
            }
        );
        Ok(())
    }
}
