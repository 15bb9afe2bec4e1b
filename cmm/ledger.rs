// SPDX-License-Identifier: GPL-2.0

//! What the balloon holds, what it shall hold, and what is to be done next.
//!
//! This is arithmetic and a state machine only: it knows neither pages nor locks nor clocks, so
//! that all of it can be tested. The engine keeps one [`Ledger`] under its lock, asks it for the
//! next [`Step`], does that, and enters the result.
//!
//! Pages are counted in pools. Two are those of C: the *fixed* pool is as large as the last request
//! says; the *timed* pool grows by requests and drains by itself, some pages at each interval. The
//! guest's *own* pool is what it gives up unasked, since nobody needs it: if there is such a pool
//! at all, it grows while the hypervisor is short of memory, and gives way to what the guest needs.

use kernel::{
    fmt,
    prelude::*, //
};

/// How often it is found out what the guest needs, in milliseconds.
const MEASURE: u64 = 1_000;

/// For how long a hypervisor that was short of memory may be so again, in seconds.
const SHORT: usize = 60;

/// What somebody wants of the balloon. Page counts are of 4 KiB pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Hold that many pages in the fixed pool (a shrink of the guest, a growth of the balloon).
    Shrink(usize),
    /// Add that many pages to the timed pool.
    Release(usize),
    /// Take `pages` out of the timed pool every `seconds`. If either is 0 it does not drain.
    Reuse {
        /// Pages at each interval.
        pages: usize,
        /// Length of the interval.
        seconds: usize,
    },
}

/// One of the pools. Tracepoints show it as a number, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pool {
    /// As large as the last request says.
    Fixed,
    /// Drains by itself.
    Timed,
    /// Follows what the guest needs.
    Own,
}

impl Pool {
    /// All pools, those first that shall give back first.
    pub(crate) const GIVING: [Pool; 3] = [Pool::Own, Pool::Timed, Pool::Fixed];
}

/// When the guest gives up unasked what it does not need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Unasked {
    /// It does not.
    #[default]
    Never,
    /// While the hypervisor is short of memory.
    WhenShort,
    /// Whatever the hypervisor has.
    Always,
}

/// What may go back before anything is swapped, in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Owed {
    /// Of the guest's own pool.
    pub(crate) own: usize,
    /// Of those that others asked for.
    pub(crate) ordered: usize,
}

/// Milliseconds since some moment before the first one that is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(pub(crate) u64);

impl Moment {
    /// The moment `millis` later, or the last there is.
    fn after_millis(self, millis: u64) -> Self {
        Moment(self.0.saturating_add(millis))
    }

    /// The moment `seconds` later, or the last there is.
    fn after_seconds(self, seconds: usize) -> Self {
        self.after_millis((seconds as u64).saturating_mul(1000))
    }
}

/// Why the balloon cannot come nearer to its target now. Tracepoints show it as a number, in this
/// order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Growing would leave the guest less than the floor.
    Floor,
    /// There were no pages to be had without harm.
    Exhausted,
    /// The hypervisor did not take pages.
    Hypervisor,
    /// Pages that shall come back are isolated: they are just being migrated.
    Isolated,
}

impl Cause {
    /// How long to wait before the next try, in milliseconds.
    fn pause(self) -> u64 {
        match self {
            Cause::Floor | Cause::Exhausted => 1_000,
            Cause::Hypervisor => 10_000,
            Cause::Isolated => 20,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cause::Floor => "available memory is down to the floor",
            Cause::Exhausted => "no free pages to be had",
            Cause::Hypervisor => "the hypervisor does not take pages",
            Cause::Isolated => "pages are being migrated",
        })
    }
}

/// A direction in which the balloon does not move for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pause {
    cause: Cause,
    until: Moment,
}

impl Pause {
    fn new(cause: Cause, now: Moment) -> Self {
        Self {
            cause,
            until: now.after_millis(cause.pause()),
        }
    }
}

/// A pool's book, in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Account {
    /// What it holds.
    pub(crate) held: usize,
    /// What it shall hold.
    pub(crate) target: usize,
}

impl Account {
    fn surplus(&self) -> usize {
        self.held.saturating_sub(self.target)
    }

    fn deficit(&self) -> usize {
        self.target.saturating_sub(self.held)
    }
}

/// What the engine shall do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Take pages from the guest, up to so many, and give them to the hypervisor.
    Inflate(Pool, usize),
    /// Give pages back to the guest, up to so many.
    Deflate(Pool, usize),
    /// Find out what the guest needs.
    Measure,
    /// Nothing before that moment, or at all, unless the ledger changes.
    Sleep(Option<Moment>),
    /// Leave.
    Stop,
}

/// What the balloon is doing, for those who look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It holds what it shall hold.
    Met,
    /// It grows.
    Inflating,
    /// It shrinks.
    Deflating,
    /// It waits, with its target not met.
    Paused(Cause),
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            State::Met => f.write_str("met"),
            State::Inflating => f.write_str("inflating"),
            State::Deflating => f.write_str("deflating"),
            State::Paused(cause) => f.write_fmt(fmt!("paused: {cause}")),
        }
    }
}

/// The books of the balloon.
#[derive(Default)]
pub(crate) struct Ledger {
    fixed: Account,
    timed: Account,
    own: Account,
    /// When there is an own pool.
    unasked: Unasked,
    /// When it is to be found out next what the guest needs, if there may be an own pool.
    measure: Moment,
    /// Until when the hypervisor may be short of memory.
    short: Option<Moment>,
    /// Until when the guest's own pool does not grow.
    no_own_growth: Option<Moment>,
    drain_pages: usize,
    drain_seconds: usize,
    /// When the timed pool drains next. `None` if it does not.
    due: Option<Moment>,
    no_inflate: Option<Pause>,
    no_deflate: Option<Pause>,
    /// A pause was reported since the last request.
    reported: bool,
    stopping: bool,
}

/// A sum is too large to be a number of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Overflow;

impl Ledger {
    /// The book of a pool.
    pub(crate) fn account(&self, pool: Pool) -> Account {
        match pool {
            Pool::Fixed => self.fixed,
            Pool::Timed => self.timed,
            Pool::Own => self.own,
        }
    }

    /// The books of the pools that others ask for: fixed and timed.
    pub(crate) fn accounts(&self) -> [Account; 2] {
        [self.fixed, self.timed]
    }

    fn account_mut(&mut self, pool: Pool) -> &mut Account {
        match pool {
            Pool::Fixed => &mut self.fixed,
            Pool::Timed => &mut self.timed,
            Pool::Own => &mut self.own,
        }
    }

    /// What the timed pool gives back at each interval: pages and seconds.
    pub(crate) fn timeout(&self) -> (usize, usize) {
        (self.drain_pages, self.drain_seconds)
    }

    /// Takes a request. If it is refused nothing has changed.
    pub(crate) fn request(&mut self, request: Request, now: Moment) -> Result<(), Overflow> {
        match request {
            Request::Shrink(pages) => {
                self.fixed.target = pages;
                self.try_again();
            }
            Request::Release(pages) => {
                let target = self.timed.target.checked_add(pages).ok_or(Overflow)?;
                isize::try_from(target).map_err(|_| Overflow)?;
                self.timed.target = target;
                self.try_again();
            }
            Request::Reuse { pages, seconds } => {
                self.drain_pages = pages;
                self.drain_seconds = seconds;
                self.set_timer(now);
            }
        }
        Ok(())
    }

    /// When the guest has a pool of its own.
    pub(crate) fn unasked(&self) -> Unasked {
        self.unasked
    }

    /// Lets the guest have a pool of its own, or not.
    pub(crate) fn set_unasked(&mut self, unasked: Unasked, now: Moment) {
        self.unasked = unasked;
        self.measure = now;
        self.own.target = 0;
    }

    /// Enters that the guest needs `need` pages of `total`, and whether the hypervisor is short of
    /// memory.
    ///
    /// What is too much comes back at once. What could be given goes slowly, an eighth at a time:
    /// who needs it again in a moment shall not have to wait for it.
    pub(crate) fn measured(&mut self, need: usize, total: usize, short: bool, now: Moment) {
        // It may have been switched off meanwhile.
        if self.unasked == Unasked::Never {
            return;
        }
        let others = self.fixed.target.saturating_add(self.timed.target);
        let goal = total.saturating_sub(need).saturating_sub(others);
        self.no_own_growth = self.no_own_growth.filter(|&until| until > now);
        self.short = match short {
            true => Some(now.after_seconds(SHORT)),
            false => self.short.filter(|&until| until > now),
        };
        let more = match self.no_own_growth {
            None if short => goal.saturating_sub(self.own.target),
            _ => 0,
        };
        self.own.target = goal.min(self.own.target + more.div_ceil(8));
        self.measure = now.after_millis(MEASURE);
    }

    /// What may go back before anything is swapped, where the guest is to see to itself: the
    /// `lacking` pages by which less than the floor is available; and all of its own pool, for page
    /// cache, if the hypervisor has not been short for a while.
    pub(crate) fn owed(&self, lacking: usize, now: Moment) -> Owed {
        if self.unasked == Unasked::Never {
            return Owed::default();
        }
        let own = match self.short.filter(|&until| until > now) {
            Some(_) => self.own.held.min(lacking),
            None => self.own.held,
        };
        let ordered = self.fixed.held.saturating_add(self.timed.held);
        Owed {
            own,
            ordered: ordered.min(lacking.saturating_sub(own)),
        }
    }

    /// Enters that pages went back so. The own pool is content with what it holds; the others try
    /// to get theirs again when there is more than the floor.
    pub(crate) fn paid(&mut self, now: Moment) {
        self.settle(Pool::Own);
        self.no_inflate = Some(Pause::new(Cause::Floor, now));
    }

    /// Forgets pauses, so that what is asked for is tried and, if it fails, reported.
    pub(crate) fn try_again(&mut self) {
        self.no_inflate = None;
        self.no_deflate = None;
        self.reported = false;
    }

    /// Lets the next step be [`Step::Stop`].
    pub(crate) fn stop(&mut self) {
        self.stopping = true;
    }

    /// Says what to do now.
    ///
    /// Giving back comes first: it can always be done, and what it frees may be what the other
    /// pool waits for.
    pub(crate) fn step(&mut self, now: Moment) -> Step {
        if self.stopping {
            return Step::Stop;
        }
        let measure = (self.unasked != Unasked::Never).then_some(self.measure);
        if measure.is_some_and(|due| due <= now) {
            return Step::Measure;
        }
        self.drain(now);
        self.no_inflate = self.no_inflate.filter(|pause| pause.until > now);
        self.no_deflate = self.no_deflate.filter(|pause| pause.until > now);
        for pool in Pool::GIVING {
            let surplus = self.account(pool).surplus();
            if surplus != 0 && self.no_deflate.is_none() {
                return Step::Deflate(pool, surplus);
            }
        }
        for pool in [Pool::Fixed, Pool::Timed, Pool::Own] {
            let deficit = self.account(pool).deficit();
            if deficit != 0 && self.no_inflate.is_none() {
                return Step::Inflate(pool, deficit);
            }
        }
        let inflate = self.no_inflate.map(|pause| pause.until);
        let deflate = self.no_deflate.map(|pause| pause.until);
        let moments = [inflate, deflate, self.due, measure];
        Step::Sleep(moments.into_iter().flatten().min())
    }

    /// Enters that a pool has taken pages.
    pub(crate) fn inflated(&mut self, pool: Pool, nr: usize, now: Moment) {
        let account = self.account_mut(pool);
        account.held = account.held.saturating_add(nr);
        // As in C the interval begins when there are pages to give back.
        if self.timed.held != 0 && self.due.is_none() {
            self.set_timer(now);
        }
    }

    /// Enters that up to `nr` pages of a pool are about to go back; returns how many.
    ///
    /// Before they do: several may take pages at once, and none those of another pool.
    pub(crate) fn withdraw(&mut self, pool: Pool, nr: usize) -> usize {
        let account = self.account_mut(pool);
        let nr = nr.min(account.held);
        account.held -= nr;
        nr
    }

    /// Enters that `nr` pages that were withdrawn could not be had.
    pub(crate) fn refund(&mut self, pool: Pool, nr: usize) {
        self.account_mut(pool).held += nr;
    }

    /// Enters that a step could not be done in full. Says whether that is to be reported: the
    /// first time after a request that growing fails. Nobody has requested the guest's own pool.
    pub(crate) fn pause(&mut self, pool: Pool, cause: Cause, now: Moment) -> bool {
        let pause = Some(Pause::new(cause, now));
        if cause == Cause::Isolated {
            self.no_deflate = pause;
            return false;
        }
        self.no_inflate = pause;
        pool != Pool::Own && !core::mem::replace(&mut self.reported, true)
    }

    /// Lets a pool be content with what it holds.
    ///
    /// A target below that stays: the engine is just about to meet it.
    fn settle(&mut self, pool: Pool) {
        let account = self.account_mut(pool);
        account.target = account.target.min(account.held);
    }

    /// Enters that the guest ran out of memory, and lowers all targets to what is held now. So it
    /// stays until the next request; the guest's own pool does not grow for a minute.
    pub(crate) fn ran_out(&mut self, now: Moment) {
        Pool::GIVING.iter().for_each(|&pool| self.settle(pool));
        self.no_own_growth = Some(now.after_seconds(60));
        self.no_inflate = None;
    }

    /// What the balloon is doing.
    pub(crate) fn state(&self) -> State {
        let pools = [self.fixed, self.timed, self.own];
        let surplus = pools.iter().any(|account| account.surplus() != 0);
        let deficit = pools.iter().any(|account| account.deficit() != 0);
        match (surplus, self.no_deflate, deficit, self.no_inflate) {
            (true, None, _, _) => State::Deflating,
            (_, _, true, None) => State::Inflating,
            (true, Some(pause), _, _) | (_, _, true, Some(pause)) => State::Paused(pause.cause),
            (false, _, false, _) => State::Met,
        }
    }

    /// Starts an interval of draining anew, if there is one.
    fn set_timer(&mut self, now: Moment) {
        let drains = self.timed.target != 0 && self.drain_pages != 0 && self.drain_seconds != 0;
        self.due = drains.then(|| now.after_seconds(self.drain_seconds));
    }

    /// Lowers the target of the timed pool if an interval is over.
    fn drain(&mut self, now: Moment) {
        if self.due.is_some_and(|due| due <= now) {
            self.timed.target = self.timed.target.saturating_sub(self.drain_pages);
            self.set_timer(now);
        }
    }
}

#[cfg(CONFIG_COOPMEM_CMM_KUNIT_TEST)]
#[kunit_tests(cmm_ledger)]
mod tests {
    use super::*;

    const START: Moment = Moment(0);

    fn seconds(nr: u64) -> Moment {
        Moment(nr * 1000)
    }

    /// Does what the ledger says, in parts of at most `batch` pages, until it sleeps.
    fn run(ledger: &mut Ledger, now: Moment, batch: usize) -> Option<Moment> {
        loop {
            match ledger.step(now) {
                Step::Inflate(pool, nr) => ledger.inflated(pool, nr.min(batch), now),
                Step::Deflate(pool, nr) => {
                    ledger.withdraw(pool, nr.min(batch));
                }
                Step::Sleep(until) => return until,
                Step::Measure | Step::Stop => return None,
            }
        }
    }

    /// The guest runs out of memory, and gets that many pages.
    fn run_out(ledger: &mut Ledger, nr: usize, now: Moment) {
        let mut left = nr;
        for pool in Pool::GIVING {
            left -= ledger.withdraw(pool, left);
        }
        ledger.ran_out(now);
    }

    fn owed(own: usize, ordered: usize) -> Owed {
        Owed { own, ordered }
    }

    fn held(ledger: &Ledger) -> (usize, usize) {
        (
            ledger.account(Pool::Fixed).held,
            ledger.account(Pool::Timed).held,
        )
    }

    #[test]
    fn shrink_up_and_down() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.step(START), Step::Sleep(None));
        assert_eq!(ledger.state(), State::Met);

        assert_eq!(ledger.request(Request::Shrink(1000), START), Ok(()));
        assert_eq!(ledger.state(), State::Inflating);
        assert_eq!(ledger.step(START), Step::Inflate(Pool::Fixed, 1000));
        assert_eq!(run(&mut ledger, START, 64), None);
        assert_eq!(held(&ledger), (1000, 0));
        assert_eq!(ledger.state(), State::Met);

        assert_eq!(ledger.request(Request::Shrink(10), START), Ok(()));
        assert_eq!(ledger.state(), State::Deflating);
        assert_eq!(ledger.step(START), Step::Deflate(Pool::Fixed, 990));
        assert_eq!(run(&mut ledger, START, 64), None);
        assert_eq!(held(&ledger), (10, 0));
    }

    #[test]
    fn release_adds_up() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.request(Request::Release(100), START), Ok(()));
        assert_eq!(ledger.request(Request::Release(50), START), Ok(()));
        assert_eq!(run(&mut ledger, START, 64), None);
        assert_eq!(held(&ledger), (0, 150));

        let most = isize::MAX as usize;
        assert_eq!(ledger.request(Request::Release(most), START), Err(Overflow));
        assert_eq!(ledger.account(Pool::Timed).target, 150);
    }

    #[test]
    fn timed_pool_drains() {
        let mut ledger = Ledger::default();
        let reuse = Request::Reuse {
            pages: 40,
            seconds: 10,
        };
        assert_eq!(ledger.request(reuse, START), Ok(()));
        assert_eq!(ledger.timeout(), (40, 10));
        assert_eq!(ledger.request(Request::Release(100), seconds(5)), Ok(()));
        // The interval begins with the first page.
        assert_eq!(run(&mut ledger, seconds(5), 64), Some(seconds(15)));
        assert_eq!(run(&mut ledger, Moment(14_999), 64), Some(seconds(15)));
        assert_eq!(held(&ledger), (0, 100));
        assert_eq!(run(&mut ledger, seconds(15), 64), Some(seconds(25)));
        assert_eq!(held(&ledger), (0, 60));
        assert_eq!(run(&mut ledger, seconds(25), 64), Some(seconds(35)));
        assert_eq!(held(&ledger), (0, 20));
        assert_eq!(run(&mut ledger, seconds(35), 64), None);
        assert_eq!(held(&ledger), (0, 0));
    }

    #[test]
    fn reuse_starts_and_stops_draining() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.request(Request::Release(100), START), Ok(()));
        assert_eq!(run(&mut ledger, START, 64), None);
        let reuse = |pages, seconds| Request::Reuse { pages, seconds };
        assert_eq!(ledger.request(reuse(10, 60), seconds(100)), Ok(()));
        assert_eq!(run(&mut ledger, seconds(100), 64), Some(seconds(160)));
        assert_eq!(ledger.request(reuse(10, 0), seconds(120)), Ok(()));
        assert_eq!(run(&mut ledger, seconds(160), 64), None);
        assert_eq!(ledger.request(reuse(0, 60), seconds(120)), Ok(()));
        assert_eq!(run(&mut ledger, seconds(500), 64), None);
        assert_eq!(held(&ledger), (0, 100));
        // An interval longer than time itself does not wrap.
        assert_eq!(ledger.request(reuse(1, usize::MAX), seconds(500)), Ok(()));
        assert_eq!(run(&mut ledger, seconds(500), 64), Some(Moment(u64::MAX)));
    }

    #[test]
    fn floor_pauses_and_goes_on() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.request(Request::Shrink(1000), START), Ok(()));
        ledger.inflated(Pool::Fixed, 300, START);
        assert!(ledger.pause(Pool::Fixed, Cause::Floor, START));
        assert_eq!(ledger.state(), State::Paused(Cause::Floor));
        assert_eq!(ledger.step(START), Step::Sleep(Some(seconds(1))));
        // The target is not forgotten, and reported only once.
        let again = Step::Inflate(Pool::Fixed, 700);
        assert_eq!(ledger.step(seconds(1)), again);
        assert!(!ledger.pause(Pool::Fixed, Cause::Floor, seconds(1)));
        assert_eq!(ledger.step(seconds(1)), Step::Sleep(Some(seconds(2))));
        // A request is tried at once.
        assert_eq!(ledger.request(Request::Shrink(1000), seconds(1)), Ok(()));
        assert_eq!(ledger.step(seconds(1)), again);
        assert!(ledger.pause(Pool::Fixed, Cause::Floor, seconds(1)));
    }

    #[test]
    fn draining_goes_on_in_a_pause() {
        let mut ledger = Ledger::default();
        let reuse = Request::Reuse {
            pages: 50,
            seconds: 1,
        };
        assert_eq!(ledger.request(reuse, START), Ok(()));
        assert_eq!(ledger.request(Request::Release(50), START), Ok(()));
        assert_eq!(run(&mut ledger, START, 64), Some(seconds(1)));
        assert_eq!(ledger.request(Request::Shrink(1000), START), Ok(()));
        assert!(ledger.pause(Pool::Fixed, Cause::Hypervisor, START));
        assert_eq!(ledger.step(seconds(1)), Step::Deflate(Pool::Timed, 50));
    }

    #[test]
    fn isolated_pages_are_waited_for() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.request(Request::Shrink(10), START), Ok(()));
        assert_eq!(run(&mut ledger, START, 64), None);
        assert_eq!(ledger.request(Request::Shrink(0), START), Ok(()));
        assert_eq!(ledger.withdraw(Pool::Fixed, 10), 10);
        ledger.refund(Pool::Fixed, 2);
        assert!(!ledger.pause(Pool::Fixed, Cause::Isolated, START));
        assert_eq!(ledger.state(), State::Paused(Cause::Isolated));
        assert_eq!(ledger.step(START), Step::Sleep(Some(Moment(20))));
        assert_eq!(ledger.step(Moment(20)), Step::Deflate(Pool::Fixed, 2));
    }

    /// Pauses in both directions must not end each other: the engine would spin.
    #[test]
    fn two_pauses_hold() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.request(Request::Release(10), START), Ok(()));
        assert_eq!(run(&mut ledger, START, 64), None);
        let reuse = Request::Reuse {
            pages: 10,
            seconds: 1,
        };
        assert_eq!(ledger.request(reuse, START), Ok(()));
        assert_eq!(ledger.request(Request::Shrink(10), START), Ok(()));
        assert_eq!(ledger.step(seconds(1)), Step::Deflate(Pool::Timed, 10));
        assert!(!ledger.pause(Pool::Fixed, Cause::Isolated, seconds(1)));
        assert_eq!(ledger.step(seconds(1)), Step::Inflate(Pool::Fixed, 10));
        assert!(ledger.pause(Pool::Fixed, Cause::Floor, seconds(1)));
        assert_eq!(ledger.step(seconds(1)), Step::Sleep(Some(Moment(1020))));
    }

    #[test]
    fn out_of_memory_lowers_the_targets() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.request(Request::Shrink(1000), START), Ok(()));
        assert_eq!(ledger.request(Request::Release(100), START), Ok(()));
        assert_eq!(run(&mut ledger, START, 64), None);
        run_out(&mut ledger, 256, START);
        // Timed pages go first.
        assert_eq!(held(&ledger), (844, 0));
        assert_eq!(ledger.state(), State::Met);
        assert_eq!(ledger.step(seconds(9)), Step::Sleep(None));
        // Until the next request.
        assert_eq!(ledger.request(Request::Shrink(1000), START), Ok(()));
        assert_eq!(ledger.step(START), Step::Inflate(Pool::Fixed, 156));
    }

    #[test]
    fn out_of_memory_ends_growing() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.request(Request::Shrink(1000), START), Ok(()));
        ledger.inflated(Pool::Fixed, 300, START);
        run_out(&mut ledger, 0, START);
        assert_eq!(ledger.account(Pool::Fixed).target, 300);
        // A batch that was on its way goes back.
        ledger.inflated(Pool::Fixed, 64, START);
        assert_eq!(ledger.step(START), Step::Deflate(Pool::Fixed, 64));
    }

    #[test]
    fn out_of_memory_does_not_raise_a_target() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.request(Request::Shrink(1000), START), Ok(()));
        assert_eq!(run(&mut ledger, START, 64), None);
        assert_eq!(ledger.request(Request::Shrink(0), START), Ok(()));
        run_out(&mut ledger, 256, START);
        assert_eq!(ledger.step(START), Step::Deflate(Pool::Fixed, 744));
    }

    #[test]
    fn stop_comes_first() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.request(Request::Shrink(1000), START), Ok(()));
        ledger.stop();
        assert_eq!(ledger.step(START), Step::Stop);
    }

    #[test]
    fn own_pool_follows_what_is_needed() {
        let mut ledger = Ledger::default();
        ledger.set_unasked(Unasked::Always, START);
        assert_eq!(ledger.step(START), Step::Measure);
        ledger.measured(200, 1000, true, START);
        // Slowly.
        assert_eq!(ledger.step(START), Step::Inflate(Pool::Own, 100));
        assert_eq!(run(&mut ledger, START, 64), Some(seconds(1)));
        assert_eq!(ledger.step(seconds(1)), Step::Measure);
        ledger.measured(200, 1000, true, seconds(1));
        assert_eq!(ledger.step(seconds(1)), Step::Inflate(Pool::Own, 88));
        assert_eq!(run(&mut ledger, seconds(1), 64), Some(seconds(2)));
        // And back at once.
        ledger.measured(900, 1000, true, seconds(2));
        assert_eq!(ledger.step(seconds(2)), Step::Deflate(Pool::Own, 88));
        assert_eq!(run(&mut ledger, seconds(2), 64), Some(seconds(3)));
        ledger.set_unasked(Unasked::Never, seconds(3));
        assert_eq!(ledger.step(seconds(3)), Step::Deflate(Pool::Own, 100));
        assert_eq!(run(&mut ledger, seconds(3), 64), None);
        assert_eq!(ledger.account(Pool::Own).held, 0);
        // Somebody was measuring when it was switched off.
        ledger.measured(200, 1000, true, seconds(3));
        assert_eq!(ledger.step(seconds(3)), Step::Sleep(None));
    }

    #[test]
    fn own_pool_makes_room_for_requests() {
        let mut ledger = Ledger::default();
        ledger.set_unasked(Unasked::Always, START);
        for second in 0..100 {
            ledger.measured(200, 1000, true, seconds(second));
        }
        assert_eq!(ledger.account(Pool::Own).target, 800);
        assert_eq!(run(&mut ledger, seconds(99), 64), Some(seconds(100)));
        assert_eq!(ledger.request(Request::Shrink(300), seconds(99)), Ok(()));
        ledger.measured(200, 1000, true, seconds(99));
        assert_eq!(ledger.step(seconds(99)), Step::Deflate(Pool::Own, 300));
        assert_eq!(ledger.account(Pool::Own).target, 500);
    }

    #[test]
    fn own_pool_goes_first_and_waits() {
        let mut ledger = Ledger::default();
        ledger.set_unasked(Unasked::Always, START);
        ledger.measured(200, 1000, true, START);
        assert_eq!(run(&mut ledger, START, 64), Some(seconds(1)));
        assert_eq!(ledger.request(Request::Shrink(50), START), Ok(()));
        assert_eq!(run(&mut ledger, START, 64), Some(seconds(1)));
        run_out(&mut ledger, 120, START);
        assert_eq!(ledger.account(Pool::Own).held, 0);
        assert_eq!(held(&ledger), (30, 0));
        ledger.measured(200, 1000, true, seconds(59));
        assert_eq!(ledger.account(Pool::Own).target, 0);
        ledger.measured(200, 1000, true, seconds(60));
        assert_eq!(ledger.account(Pool::Own).target, 97);
        // Nobody asked for it, so nobody is told.
        assert!(!ledger.pause(Pool::Own, Cause::Floor, seconds(60)));
    }

    #[test]
    fn own_pool_grows_only_if_the_hypervisor_is_short() {
        let mut ledger = Ledger::default();
        ledger.set_unasked(Unasked::WhenShort, START);
        ledger.measured(200, 1000, false, START);
        assert_eq!(run(&mut ledger, START, 64), Some(seconds(1)));
        assert_eq!(ledger.account(Pool::Own).held, 0);
        ledger.measured(200, 1000, true, seconds(1));
        assert_eq!(run(&mut ledger, seconds(1), 64), Some(seconds(2)));
        assert_eq!(ledger.account(Pool::Own).held, 100);
        // What is given stays, as long as the guest does not need it.
        ledger.measured(200, 1000, false, seconds(2));
        assert_eq!(run(&mut ledger, seconds(2), 64), Some(seconds(3)));
        assert_eq!(ledger.account(Pool::Own).held, 100);
        ledger.measured(950, 1000, false, seconds(3));
        assert_eq!(ledger.step(seconds(3)), Step::Deflate(Pool::Own, 50));
    }

    #[test]
    fn own_pool_gives_way() {
        let mut ledger = Ledger::default();
        ledger.set_unasked(Unasked::WhenShort, START);
        for second in 0..100 {
            ledger.measured(200, 1000, true, seconds(second));
            run(&mut ledger, seconds(second), 64);
        }
        assert_eq!(ledger.account(Pool::Own).held, 800);
        let now = seconds(100);
        // Page cache gets nothing, while there is a reason.
        assert_eq!(ledger.owed(0, now), owed(0, 0));
        assert_eq!(ledger.owed(300, now), owed(300, 0));
        assert_eq!(ledger.withdraw(Pool::Own, 300), 300);
        ledger.paid(Moment(99_999));
        assert_eq!(ledger.step(Moment(99_999)), Step::Sleep(Some(now)));
        // Then all of it.
        let later = seconds(99 + SHORT as u64);
        assert_eq!(ledger.owed(0, later), owed(500, 0));
    }

    #[test]
    fn orders_give_way_after_it() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.request(Request::Shrink(600), START), Ok(()));
        assert_eq!(run(&mut ledger, START, 64), None);
        // Unless the guest is to see to itself, orders are orders.
        assert_eq!(ledger.owed(500, START), owed(0, 0));
        ledger.set_unasked(Unasked::WhenShort, START);
        ledger.measured(200, 1000, true, START);
        assert_eq!(run(&mut ledger, START, 64), Some(seconds(1)));
        assert_eq!(ledger.owed(0, START), owed(0, 0));
        assert_eq!(ledger.owed(500, START), owed(25, 475));
        assert_eq!(ledger.owed(5000, START), owed(25, 600));
        assert_eq!(ledger.withdraw(Pool::Fixed, 475), 475);
        ledger.paid(START);
        assert_eq!(ledger.step(START), Step::Sleep(Some(seconds(1))));
        // They are not forgotten.
        ledger.measured(200, 1000, false, seconds(1));
        assert_eq!(ledger.step(seconds(1)), Step::Inflate(Pool::Fixed, 475));
    }

    #[test]
    fn nobody_takes_pages_of_another_pool() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.request(Request::Shrink(100), START), Ok(()));
        assert_eq!(run(&mut ledger, START, 64), None);
        assert_eq!(ledger.withdraw(Pool::Own, 10), 0);
        assert_eq!(ledger.withdraw(Pool::Fixed, 1000), 100);
        assert_eq!(ledger.withdraw(Pool::Fixed, 1), 0);
        assert_eq!(held(&ledger), (0, 0));
    }
}
