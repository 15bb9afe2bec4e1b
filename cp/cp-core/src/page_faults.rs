// SPDX-License-Identifier: GPL-2.0

//! Page faults for which a CPU does not wait.
//!
//! A CPU that has agreed to it (DIAGNOSE X'258') and touches a page that is paged out takes an interruption instead:
//! the initial one, with a token that names who runs on it. It runs something else while the page comes. When the
//! page is there, whichever CPU takes a second interruption, the completion, with the same token. Each initial
//! interruption has exactly one completion, unless the virtual machine is reset in between.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::diag::page_reference::{Handshake, Request, ReturnCode};

/// How many pages may be on their way, or there without that the guest has taken notice. CPUs that fault beyond that
/// wait.
pub const MAX_COMING: usize = 32;

/// Who has faulted, as the guest names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(pub u64);

/// A page that is to be brought in for somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "there must be a completion"]
pub struct Coming {
    token: Token,
    /// In which of the virtual machine's lives.
    life: u64,
}

impl Coming {
    /// For whom.
    #[must_use]
    pub const fn token(&self) -> Token {
        self.token
    }
}

/// The page faults of one virtual machine. Shared by its CPUs and who brings in pages.
#[derive(Debug)]
pub struct PageFaults(Mutex<State>);

#[derive(Debug)]
struct State {
    cpus: Box<[Option<Handshake>]>,
    /// Whose pages are on their way.
    coming: Vec<Token>,
    /// Whose pages are there; the completion is pending.
    there: VecDeque<Token>,
    /// How many pages are brought in, also for earlier lives.
    busy: usize,
    life: u64,
}

impl PageFaults {
    /// For a virtual machine with that many CPUs, none of which has agreed.
    #[must_use]
    pub fn new(cpus: usize) -> Self {
        Self(Mutex::new(State {
            cpus: vec![None; cpus].into(),
            coming: Vec::new(),
            there: VecDeque::new(),
            busy: 0,
            life: 0,
        }))
    }

    /// A panic while the lock was held leaves lists that are still lists.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Executes a function of DIAGNOSE X'258' on a CPU. Completions that are due stay so when a CPU cancels: another
    /// one may have been waiting for them.
    pub fn execute(&self, cpu: usize, request: Request) -> ReturnCode {
        let mut state = self.lock();
        let Some(slot) = state.cpus.get_mut(cpu) else {
            return ReturnCode::NotAgreed;
        };
        match request {
            Request::Token(_) if slot.is_some() => ReturnCode::Agreed,
            Request::Token(handshake) => {
                *slot = Some(handshake);
                ReturnCode::Done
            }
            Request::Cancel if slot.take().is_none() => ReturnCode::NotAgreed,
            Request::Cancel => ReturnCode::Done,
        }
    }

    /// What a CPU has agreed to, if it holds with that PSW mask.
    #[must_use]
    pub fn agreed(&self, cpu: usize, psw_mask: u64) -> Option<Handshake> {
        let state = self.lock();
        let handshake = state.cpus.get(cpu).copied().flatten()?;
        handshake.applies(psw_mask).then_some(handshake)
    }

    /// Whether any CPU has agreed.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.lock().cpus.iter().any(Option::is_some)
    }

    /// Somebody has faulted. `None` if the CPU must wait: he is waited for already, or too many are.
    #[must_use]
    pub fn begin(&self, token: Token) -> Option<Coming> {
        let mut state = self.lock();
        let mut pending = state.coming.iter().chain(&state.there);
        if state.busy >= MAX_COMING
            || state.coming.len() + state.there.len() >= MAX_COMING
            || pending.any(|&other| other == token)
        {
            return None;
        }
        state.coming.push(token);
        state.busy += 1;
        let life = state.life;
        Some(Coming { token, life })
    }

    /// The page is there. Whether there is a completion to take: not if it was begun before the last reset.
    pub fn finish(&self, coming: Coming) -> bool {
        let mut state = self.lock();
        let found = state.end(coming);
        if found {
            state.there.push_back(coming.token);
        }
        found
    }

    /// The page cannot be brought in: it is as if the fault had not begun.
    pub fn give_up(&self, coming: Coming) {
        self.lock().end(coming);
    }

    /// Takes a completion; and whether there are more.
    pub fn take(&self) -> (Option<Token>, bool) {
        let mut state = self.lock();
        (state.there.pop_front(), !state.there.is_empty())
    }

    /// A CPU was reset: it has agreed to nothing.
    pub fn reset_cpu(&self, cpu: usize) {
        if let Some(slot) = self.lock().cpus.get_mut(cpu) {
            *slot = None;
        }
    }

    /// The virtual machine was reset: nobody is waited for. Tells how many were.
    pub fn reset(&self) -> usize {
        let mut state = self.lock();
        let forgotten = state.coming.len() + state.there.len();
        state.cpus.fill(None);
        state.coming.clear();
        state.there.clear();
        state.life += 1;
        forgotten
    }
}

impl State {
    /// No page is brought in for it any longer; whether the guest knows of it.
    fn end(&mut self, coming: Coming) -> bool {
        self.busy -= 1;
        let found = self.coming.iter().position(|&token| token == coming.token);
        match found {
            Some(place) if coming.life == self.life => {
                self.coming.swap_remove(place);
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PROBLEM_STATE: u64 = 1 << 48;

    /// As Linux agrees to it.
    fn request() -> Request {
        let mut block = [0; 40];
        block[..8].copy_from_slice(&[2, 0x58, 0, 0, 0, 5, 0, 2]);
        block[14..16].copy_from_slice(&[3, 0x60]);
        (block[17], block[25], block[32]) = (1, 1, 0x80);
        Request::decode(&block, 1 << 20).unwrap()
    }

    #[test]
    fn each_cpu_agrees_once_and_cancels_once() {
        let faults = PageFaults::new(2);
        assert!(!faults.is_on());
        assert_eq!(faults.execute(0, Request::Cancel), ReturnCode::NotAgreed);
        assert_eq!(faults.execute(0, request()), ReturnCode::Done);
        assert_eq!(faults.execute(0, request()), ReturnCode::Agreed);
        assert!(faults.is_on());
        assert_eq!(
            faults.agreed(0, PROBLEM_STATE).map(|known| known.token()),
            Some(0x360)
        );
        assert_eq!(faults.agreed(0, 0), None);
        for other in [1, 2, usize::MAX] {
            assert_eq!(faults.agreed(other, PROBLEM_STATE), None);
        }
        assert_eq!(faults.execute(1, request()), ReturnCode::Done);
        assert_eq!(faults.execute(0, Request::Cancel), ReturnCode::Done);
        assert_eq!(faults.agreed(0, PROBLEM_STATE), None);
        assert!(faults.is_on());
        faults.reset_cpu(1);
        faults.reset_cpu(7);
        assert!(!faults.is_on());
        assert_eq!(faults.execute(1, request()), ReturnCode::Done);
        faults.reset();
        assert!(!faults.is_on());
    }

    #[test]
    fn somebody_is_waited_for_once_until_that_is_known() {
        let faults = PageFaults::new(1);
        let first = faults.begin(Token(7)).unwrap();
        assert_eq!(first.token(), Token(7));
        assert_eq!(faults.begin(Token(7)), None);
        assert!(faults.finish(first));
        assert_eq!(faults.begin(Token(7)), None, "the guest does not know yet");
        assert_eq!(faults.take(), (Some(Token(7)), false));
        assert_eq!(faults.take(), (None, false));
        let again = faults.begin(Token(7)).unwrap();
        faults.give_up(again);
        assert_eq!(faults.take(), (None, false));
        assert!(faults.begin(Token(7)).is_some());
    }

    #[test]
    fn what_was_begun_before_a_reset_is_not_completed() {
        let faults = PageFaults::new(1);
        let (old, there) = (
            faults.begin(Token(1)).unwrap(),
            faults.begin(Token(2)).unwrap(),
        );
        assert!(faults.finish(there));
        assert_eq!(faults.reset(), 2);
        assert_eq!(faults.take(), (None, false));
        // The next life has somebody of that name, too.
        let new = faults.begin(Token(1)).unwrap();
        assert!(!faults.finish(old));
        assert_eq!(faults.take(), (None, false));
        assert!(faults.finish(new));
        assert_eq!(faults.take(), (Some(Token(1)), false));
        assert_eq!(faults.reset(), 0);
    }

    #[test]
    fn pages_of_earlier_lives_count() {
        let faults = PageFaults::new(1);
        let old: Vec<_> = (0..MAX_COMING as u64)
            .map(|token| faults.begin(Token(token)).unwrap())
            .collect();
        assert_eq!(faults.begin(Token(99)), None);
        faults.reset();
        assert_eq!(faults.begin(Token(99)), None);
        old.into_iter()
            .for_each(|coming| assert!(!faults.finish(coming)));
        assert!(faults.begin(Token(99)).is_some());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Begin(u64),
        Finish(usize),
        GiveUp(usize),
        Take,
        Reset,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0..48_u64).prop_map(Step::Begin),
            4 => any::<usize>().prop_map(Step::Finish),
            1 => any::<usize>().prop_map(Step::GiveUp),
            4 => Just(Step::Take),
            1 => Just(Step::Reset),
        ]
    }

    proptest! {
        /// Each fault that has begun is completed once, in order, given up or forgotten, and never are there too many.
        #[test]
        fn faults_end_once(steps in prop::collection::vec(step(), 0..200)) {
            let faults = PageFaults::new(1);
            let (mut busy, mut there) = (Vec::<(Coming, bool)>::new(), VecDeque::new());
            for step in steps {
                let known = |busy: &[(Coming, bool)], there: &VecDeque<Token>| {
                    let mut known: Vec<_> = there.iter().map(|token| token.0).collect();
                    known.extend(busy.iter().filter(|(_, lives)| *lives).map(|(coming, _)| coming.token.0));
                    known
                };
                match step {
                    Step::Begin(token) => {
                        let known = known(&busy, &there);
                        let refused = known.contains(&token)
                            || known.len() >= MAX_COMING
                            || busy.len() >= MAX_COMING;
                        let begun = faults.begin(Token(token));
                        prop_assert_eq!(begun.is_none(), refused);
                        busy.extend(begun.map(|coming| (coming, true)));
                    }
                    Step::Finish(which) if !busy.is_empty() => {
                        let (coming, lives) = busy.remove(which % busy.len());
                        prop_assert_eq!(faults.finish(coming), lives);
                        there.extend(lives.then_some(coming.token));
                    }
                    Step::GiveUp(which) if !busy.is_empty() => {
                        faults.give_up(busy.remove(which % busy.len()).0);
                    }
                    Step::Finish(_) | Step::GiveUp(_) => {}
                    Step::Take => {
                        let taken = there.pop_front();
                        prop_assert_eq!(faults.take(), (taken, !there.is_empty()));
                    }
                    Step::Reset => {
                        prop_assert_eq!(faults.reset(), known(&busy, &there).len());
                        busy.iter_mut().for_each(|(_, lives)| *lives = false);
                        there.clear();
                    }
                }
            }
        }
    }
}
