// SPDX-License-Identifier: GPL-2.0

//! The engine: moves pages between the guest and the hypervisor, as the books say.
//!
//! One kernel thread does all of it, a batch at a time, except what must be given back when memory
//! is short: that is done by the task that needs it, with a batch for that, so that it neither
//! allocates nor waits for the thread. Page reclaim takes what a guest that sees to itself needs
//! now; a guest that runs out of memory takes anything.
//!
//! A page goes through these hands: page allocator, batch, DIAGNOSE X'10', [`Balloon`], and back
//! through a batch into the page allocator. Taking back needs no call: the hypervisor gives a
//! page new storage when it is touched.

use kernel::{
    alloc::{
        flags::*,
        Flags, //
    },
    balloon::{
        Balloon,
        Operations, //
    },
    mm,
    new_condvar,
    new_mutex,
    new_spinlock_irq,
    oom,
    page::{
        PageBatch,
        Pfn,
        UnusedPages, //
    },
    prelude::*,
    ratelimit::RateLimit,
    s390::diag,
    shrinker::Shrinker,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        CondVar,
        Mutex,
        SpinLockIrq, //
    },
    time::{
        msecs_to_jiffies,
        Instant,
        Monotonic, //
    }, //
};

use crate::{
    counters::Counters,
    events,
    floor,
    ledger::{
        Account,
        Cause,
        Ledger,
        Moment,
        Owed,
        Pool,
        Request,
        State,
        Step,
        Unasked, //
    },
    load,
    message::Refusal, //
};

/// How many pages are moved at a time: 16 MiB. Enough for blocks of the largest order to lie side
/// by side, so that one DIAGNOSE takes several, and few enough to follow a new target quickly.
const BATCH: usize = 4096;

/// How many pages are given back each time that the guest runs out of memory, as in C.
const OOM_BATCH: usize = 256;

/// For single pages. Page cache may be reclaimed for them, but neither reserves be used, nor the
/// OOM killer be woken.
fn single() -> Flags {
    GFP_HIGHUSER_MOVABLE | __GFP_NOMEMALLOC | __GFP_NORETRY | __GFP_NOWARN
}

/// For blocks: only what is free already, without reclaim or compaction.
fn block() -> Flags {
    single() & !__GFP_RECLAIM
}

/// Gives pages to the hypervisor, and counts that.
fn release(pages: UnusedPages<'_>, counters: &Counters) -> Result {
    let nr = pages.len();
    diag::release_pages(pages)?;
    counters.diagnoses.add(1);
    counters.released.add(nr);
    Ok(())
}

/// Releases one page, to see whether there is a hypervisor that takes it.
pub(crate) fn trial() -> Result {
    let mut batch = PageBatch::with_capacity(1, GFP_KERNEL)?;
    if batch.alloc_bulk(GFP_KERNEL, 1) == 0 {
        return Err(ENOMEM);
    }
    batch.ranges().try_for_each(diag::release_pages)
}

/// Fills a batch with up to `wanted` pages: free blocks first, in falling order, then single pages.
fn fill(batch: &mut PageBatch, wanted: usize) {
    let wanted = wanted.min(batch.room());
    let mut order = wanted.checked_ilog2().unwrap_or(0);
    while order > 0 {
        let left = wanted - batch.len();
        if left >> order == 0 || batch.alloc_block(block(), order).is_err() {
            order -= 1;
        }
    }
    let left = wanted - batch.len();
    batch.alloc_bulk(single(), left);
}

/// What happens when Linux moves a page of the balloon.
struct Mover {
    counters: Arc<Counters>,
}

impl Operations for Mover {
    fn migrate(&self, new: UnusedPages<'_>, _old: Pfn) -> Result {
        // The old page needs nothing: it gets storage again when it is touched.
        release(new, &self.counters)?;
        self.counters.migrated.add(1);
        Ok(())
    }
}

/// The balloon with its books. See the [module](self).
#[pin_data]
pub(crate) struct Engine {
    /// Never held while pages are moved: messages come in a softirq.
    #[pin]
    ledger: SpinLockIrq<Ledger>,
    /// Tells the thread that the ledger has changed.
    #[pin]
    changed: CondVar,
    #[pin]
    balloon: Balloon<Mover>,
    /// For pages that go back because memory is short.
    #[pin]
    short_batch: Mutex<PageBatch>,
    #[pin]
    limit: RateLimit,
    /// In pages.
    floor: Atomic<usize>,
    counters: Arc<Counters>,
    start: Instant<Monotonic>,
}

impl Engine {
    /// Makes an empty balloon that leaves the guest `floor` pages.
    pub(crate) fn new(floor: usize) -> Result<Arc<Self>> {
        let counters = Arc::new(Counters::new(), GFP_KERNEL)?;
        let short_batch = PageBatch::with_capacity(OOM_BATCH, GFP_KERNEL)?;
        let mover = Mover {
            counters: counters.clone(),
        };
        Arc::pin_init(
            pin_init!(Self {
                ledger <- new_spinlock_irq!(Ledger::default()),
                changed <- new_condvar!(),
                balloon <- Balloon::new(mover),
                short_batch <- new_mutex!(short_batch),
                limit <- RateLimit::printk(),
                floor: Atomic::new(floor),
                counters,
                start: Instant::now(),
            }),
            GFP_KERNEL,
        )
    }

    /// The batch that [`Engine::run`] needs.
    pub(crate) fn batch() -> Result<PageBatch> {
        Ok(PageBatch::with_capacity(BATCH, GFP_KERNEL)?)
    }

    /// Moves pages until [`Engine::stop`].
    pub(crate) fn run(&self, mut batch: PageBatch) {
        loop {
            let now = self.now();
            let mut ledger = self.ledger.lock();
            match ledger.step(now) {
                Step::Inflate(pool, nr) => {
                    drop(ledger);
                    self.inflate(&mut batch, pool, nr);
                }
                Step::Deflate(pool, nr) => {
                    drop(ledger);
                    self.deflate(&mut batch, pool, nr);
                }
                Step::Measure => {
                    let always = ledger.unasked() == Unasked::Always;
                    drop(ledger);
                    let short = always || load::is_short();
                    let need = mm::committed_pages().saturating_add(self.floor());
                    let mut ledger = self.ledger.lock();
                    ledger.measured(need, mm::total_pages(), short, now);
                }
                Step::Sleep(Some(until)) => {
                    // A wait that is cut short, by this limit or by whatever else wakes a thread,
                    // only makes the ledger be asked once more.
                    let millis = until.0.saturating_sub(now.0);
                    let jiffies = msecs_to_jiffies(u32::try_from(millis).unwrap_or(u32::MAX));
                    let _ = self
                        .changed
                        .wait_interruptible_timeout(&mut ledger, jiffies);
                }
                Step::Sleep(None) => {
                    let _ = self.changed.wait_interruptible(&mut ledger);
                }
                Step::Stop => return,
            }
        }
    }

    /// Makes [`Engine::run`] return.
    pub(crate) fn stop(&self) {
        self.ledger.lock().stop();
        self.changed.notify_all();
    }

    /// Takes a request. May be called in any context.
    pub(crate) fn request(&self, request: Request) -> Result<(), Refusal> {
        let now = self.now();
        let mut ledger = self.ledger.lock();
        ledger
            .request(request, now)
            .map_err(|_| Refusal::Overflow)?;
        let accounts = ledger.accounts();
        drop(ledger);
        self.changed.notify_all();
        events::target(accounts);
        Ok(())
    }

    /// Whether something that others provoke may be printed once more.
    pub(crate) fn may_print(&self) -> bool {
        self.limit.allows(c"cmm")
    }

    /// What has been done so far.
    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The book of a pool.
    pub(crate) fn account(&self, pool: Pool) -> Account {
        self.ledger.lock().account(pool)
    }

    /// What the timed pool gives back at each interval: pages and seconds.
    pub(crate) fn timeout(&self) -> (usize, usize) {
        self.ledger.lock().timeout()
    }

    /// When the guest gives up unasked what it does not need.
    pub(crate) fn unasked(&self) -> Unasked {
        self.ledger.lock().unasked()
    }

    /// Lets the guest give up unasked what it does not need, or not.
    pub(crate) fn set_unasked(&self, unasked: Unasked) {
        let now = self.now();
        self.ledger.lock().set_unasked(unasked, now);
        self.changed.notify_all();
    }

    /// What the balloon is doing.
    pub(crate) fn state(&self) -> State {
        self.ledger.lock().state()
    }

    /// Pages that are being moved at the moment.
    pub(crate) fn isolated(&self) -> usize {
        self.balloon.isolated()
    }

    /// The memory that is left to the guest, in pages.
    pub(crate) fn floor(&self) -> usize {
        self.floor.load(Relaxed)
    }

    /// Changes the memory that is left to the guest, in pages.
    ///
    /// A higher floor takes nothing back: it only ends growing.
    pub(crate) fn set_floor(&self, floor: usize) {
        self.floor.store(floor, Relaxed);
        self.ledger.lock().try_again();
        self.changed.notify_all();
    }

    fn now(&self) -> Moment {
        // Time does not go backwards.
        Moment(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(0))
    }

    /// Takes a batch of up to `wanted` pages from the guest.
    fn inflate(&self, batch: &mut PageBatch, pool: Pool, wanted: usize) {
        let nr = floor::room(mm::available_pages(), self.floor(), wanted).min(BATCH);
        if nr == 0 {
            return self.pause(pool, Cause::Floor);
        }
        fill(batch, nr);
        batch.sort();
        let got = batch.len();
        let mut runs = 0;
        for run in batch.ranges() {
            if release(run, &self.counters).is_err() {
                batch.free();
                return self.pause(pool, Cause::Hypervisor);
            }
            runs += 1;
        }
        self.balloon.inflate(batch);
        events::inflate(pool, got, runs);
        let now = self.now();
        self.ledger.lock().inflated(pool, got, now);
        if got < nr {
            self.pause(pool, Cause::Exhausted);
        }
    }

    /// Gives a batch of up to `wanted` pages back to the guest.
    fn deflate(&self, batch: &mut PageBatch, pool: Pool, wanted: usize) {
        let (there, got) = self.take(batch, pool, wanted.min(BATCH));
        batch.free();
        if got < there {
            self.pause(pool, Cause::Isolated);
        }
    }

    /// Moves up to `wanted` pages of a pool into a batch. Returns how many there were, and how many
    /// of these could be had.
    fn take(&self, batch: &mut PageBatch, pool: Pool, wanted: usize) -> (usize, usize) {
        let there = self.ledger.lock().withdraw(pool, wanted);
        let got = self.balloon.deflate(batch, there);
        if got < there {
            self.ledger.lock().refund(pool, there - got);
        }
        self.counters.returned.add(got);
        if got != 0 {
            events::deflate(pool, got);
        }
        (there, got)
    }

    /// Enters that the target cannot be met for the time being, and tells who asked for it.
    fn pause(&self, pool: Pool, cause: Cause) {
        let now = self.now();
        let mut ledger = self.ledger.lock();
        let report = ledger.pause(pool, cause, now);
        let [fixed, timed] = ledger.accounts();
        drop(ledger);
        self.counters.pauses.add(1);
        events::pause(cause);
        if report && self.may_print() {
            pr_notice!(
                "holding {} of {} pages and {} of {} timed pages: {}; waiting for more\n",
                fixed.held,
                fixed.target,
                timed.held,
                timed.target,
                cause,
            );
        }
    }

    /// What may go back before anything is swapped.
    fn owed(&self) -> Owed {
        if self.balloon.is_empty() {
            return Owed::default();
        }
        let lacking = self.floor().saturating_sub(mm::available_pages());
        let now = self.now();
        self.ledger.lock().owed(lacking, now)
    }

    /// Gives up to `wanted` pages of that back. Returns how many.
    ///
    /// Waits for others who do that: who is told that there is nothing runs out of memory.
    fn pay(&self, wanted: usize) -> usize {
        let mut batch = self.short_batch.lock();
        let owed = self.owed();
        let wanted = wanted.min(batch.room());
        self.take(&mut batch, Pool::Own, wanted.min(owed.own));
        let ordered = owed.ordered.min(wanted - batch.len());
        let (_, timed) = self.take(&mut batch, Pool::Timed, ordered);
        self.take(&mut batch, Pool::Fixed, ordered - timed);
        let got = batch.len();
        batch.free();
        drop(batch);

        // The thread measures each second: it need not be told.
        let now = self.now();
        self.ledger.lock().paid(now);
        self.counters.reclaimed.add(got);
        got
    }

    /// Gives back what a guest needs that has run out of memory.
    fn give_back(&self) -> usize {
        let mut batch = self.short_batch.lock();
        for pool in Pool::GIVING {
            let left = batch.room();
            self.take(&mut batch, pool, left);
        }
        let got = batch.len();
        batch.free();
        drop(batch);

        let now = self.now();
        let mut ledger = self.ledger.lock();
        ledger.ran_out(now);
        let accounts = ledger.accounts();
        drop(ledger);
        self.changed.notify_all();
        events::give_back(got, accounts);

        self.counters.oom.add(got);
        if got != 0 && self.may_print() {
            let [fixed, timed] = accounts;
            pr_notice!(
                "out of memory: {} pages given back; until the next request {} pages and {} timed \
                 pages are held\n",
                got,
                fixed.target,
                timed.target,
            );
        }
        got
    }
}

/// Gives back to page reclaim what the guest needs, before anything is swapped.
pub(crate) struct FirstResort(pub(crate) Arc<Engine>);

impl Shrinker for FirstResort {
    /// A page is there again as soon as it is touched.
    const SEEKS: u8 = 0;

    fn count(&self) -> usize {
        let Owed { own, ordered } = self.0.owed();
        own + ordered
    }

    fn scan(&self, nr: usize) -> Option<usize> {
        Some(self.0.pay(nr))
    }
}

/// Gives pages back when the guest runs out of memory.
pub(crate) struct LastResort(pub(crate) Arc<Engine>);

impl oom::Notifier for LastResort {
    fn oom(&self) -> usize {
        self.0.give_back()
    }
}
