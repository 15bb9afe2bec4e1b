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
//! at all, it follows what is needed.

use kernel::{
    fmt,
    prelude::*, //
};

/// How often it is found out what the guest needs, in milliseconds.
const MEASURE: u64 = 1_000;

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

/// Milliseconds since some moment before the first one that is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
    /// When it is to be found out next what the guest needs. `None` if it has no pool of its own.
    measure: Option<Moment>,
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

    /// Whether the guest has a pool of its own.
    pub(crate) fn has_own(&self) -> bool {
        self.measure.is_some()
    }

    /// Lets the guest have a pool of its own, or not.
    pub(crate) fn set_own(&mut self, on: bool, now: Moment) {
        self.measure = on.then_some(now);
        self.own.target = 0;
    }

    /// Enters that the guest needs `need` pages of `total`.
    ///
    /// What is too much comes back at once. What could be given goes slowly, an eighth at a time:
    /// who needs it again in a moment shall not have to wait for it.
    pub(crate) fn measured(&mut self, need: usize, total: usize, now: Moment) {
        // It may have been switched off meanwhile.
        if !self.has_own() {
            return;
        }
        let others = self.fixed.target.saturating_add(self.timed.target);
        let goal = total.saturating_sub(need).saturating_sub(others);
        self.no_own_growth = self.no_own_growth.filter(|&until| until > now);
        let more = match self.no_own_growth {
            Some(_) => 0,
            None => goal.saturating_sub(self.own.target),
        };
        self.own.target = goal.min(self.own.target + more.div_ceil(8));
        self.measure = Some(now.after_millis(MEASURE));
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
        if self.measure.is_some_and(|due| due <= now) {
            return Step::Measure;
        }
        self.drain(now);
        self.no_inflate = self.no_inflate.filter(|pause| pause.until > now);
        self.no_deflate = self.no_deflate.filter(|pause| pause.until > now);
        for pool in [Pool::Own, Pool::Timed, Pool::Fixed] {
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
        let moments = [inflate, deflate, self.due, self.measure];
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

    /// Enters that a pool has given pages back.
    pub(crate) fn deflated(&mut self, pool: Pool, nr: usize) {
        let account = self.account_mut(pool);
        account.held = account.held.saturating_sub(nr);
    }

    /// Enters that a step could not be done in full. Says whether that is to be reported: the
    /// first time after a request that growing fails. Nobody has requested the guest's own pool.
    pub(crate) fn pause(&mut self, pool: Pool, cause: Cause, now: Moment) -> bool {
        let pause = Some(Pause {
            cause,
            until: now.after_millis(cause.pause()),
        });
        if cause == Cause::Isolated {
            self.no_deflate = pause;
            return false;
        }
        self.no_inflate = pause;
        pool != Pool::Own && !core::mem::replace(&mut self.reported, true)
    }

    /// Enters that `nr` pages were given back because the guest ran out of memory, and lowers
    /// all targets to what is held now. So it stays until the next request; the guest's own pool
    /// does not grow for a minute.
    pub(crate) fn gave_back(&mut self, nr: usize, now: Moment) {
        let mut left = nr;
        for pool in [Pool::Own, Pool::Timed, Pool::Fixed] {
            let held = self.account(pool).held.min(left);
            self.deflated(pool, held);
            left -= held;
            // A target below what is held stays: the engine is just about to meet it.
            let account = self.account_mut(pool);
            account.target = account.target.min(account.held);
        }
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
                Step::Deflate(pool, nr) => ledger.deflated(pool, nr.min(batch)),
                Step::Sleep(until) => return until,
                Step::Measure | Step::Stop => return None,
            }
        }
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
        ledger.deflated(Pool::Fixed, 8);
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
        ledger.gave_back(256, START);
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
        ledger.gave_back(0, START);
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
        ledger.gave_back(256, START);
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
        ledger.set_own(true, START);
        assert_eq!(ledger.step(START), Step::Measure);
        ledger.measured(200, 1000, START);
        // Slowly.
        assert_eq!(ledger.step(START), Step::Inflate(Pool::Own, 100));
        assert_eq!(run(&mut ledger, START, 64), Some(seconds(1)));
        assert_eq!(ledger.step(seconds(1)), Step::Measure);
        ledger.measured(200, 1000, seconds(1));
        assert_eq!(ledger.step(seconds(1)), Step::Inflate(Pool::Own, 88));
        assert_eq!(run(&mut ledger, seconds(1), 64), Some(seconds(2)));
        // And back at once.
        ledger.measured(900, 1000, seconds(2));
        assert_eq!(ledger.step(seconds(2)), Step::Deflate(Pool::Own, 88));
        assert_eq!(run(&mut ledger, seconds(2), 64), Some(seconds(3)));
        ledger.set_own(false, seconds(3));
        assert_eq!(ledger.step(seconds(3)), Step::Deflate(Pool::Own, 100));
        assert_eq!(run(&mut ledger, seconds(3), 64), None);
        assert_eq!(ledger.account(Pool::Own).held, 0);
        // Somebody was measuring when it was switched off.
        ledger.measured(200, 1000, seconds(3));
        assert_eq!(ledger.step(seconds(3)), Step::Sleep(None));
    }

    #[test]
    fn own_pool_makes_room_for_requests() {
        let mut ledger = Ledger::default();
        ledger.set_own(true, START);
        for second in 0..100 {
            ledger.measured(200, 1000, seconds(second));
        }
        assert_eq!(ledger.account(Pool::Own).target, 800);
        assert_eq!(run(&mut ledger, seconds(99), 64), Some(seconds(100)));
        assert_eq!(ledger.request(Request::Shrink(300), seconds(99)), Ok(()));
        ledger.measured(200, 1000, seconds(99));
        assert_eq!(ledger.step(seconds(99)), Step::Deflate(Pool::Own, 300));
        assert_eq!(ledger.account(Pool::Own).target, 500);
    }

    #[test]
    fn own_pool_goes_first_and_waits() {
        let mut ledger = Ledger::default();
        ledger.set_own(true, START);
        ledger.measured(200, 1000, START);
        assert_eq!(run(&mut ledger, START, 64), Some(seconds(1)));
        assert_eq!(ledger.request(Request::Shrink(50), START), Ok(()));
        assert_eq!(run(&mut ledger, START, 64), Some(seconds(1)));
        ledger.gave_back(120, START);
        assert_eq!(ledger.account(Pool::Own).held, 0);
        assert_eq!(held(&ledger), (30, 0));
        ledger.measured(200, 1000, seconds(59));
        assert_eq!(ledger.account(Pool::Own).target, 0);
        ledger.measured(200, 1000, seconds(60));
        assert_eq!(ledger.account(Pool::Own).target, 97);
        // Nobody asked for it, so nobody is told.
        assert!(!ledger.pause(Pool::Own, Cause::Floor, seconds(60)));
    }
}
