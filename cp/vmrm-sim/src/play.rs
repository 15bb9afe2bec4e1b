// SPDX-License-Identifier: GPL-2.0

//! Many guests that each do what a real one did.

use std::collections::BTreeMap;
use std::time::Duration;

use cp_core::vmrm::Policy;
use fastrand::Rng;

use crate::{Part, World};

/// What has become of a system.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// How many intervals it was looked at.
    pub intervals: usize,
    /// In how many of them less than 2 % of the frames were available.
    pub short: usize,
    /// For how many in a row at most.
    pub longest_short: usize,
    /// Pages that came back from paging volumes.
    pub page_ins: u64,
    /// Pages that went there.
    pub page_outs: u64,
    /// Special messages.
    pub messages: usize,
    /// Messages that tell a guest the contrary of the one before.
    pub turns: usize,
}

/// Has so many guests do what `parts` say, each part by as many, each beginning somewhere in it.
///
/// All their storage is `overcommit` times the frames.
///
/// # Panics
///
/// If there are more than 100 000 guests, or no parts.
#[must_use]
pub fn play(
    parts: &[Part],
    guests: usize,
    overcommit: f64,
    interval: Duration,
    intervals: usize,
    policy: Option<Policy>,
) -> Outcome {
    // The same guests for whatever is compared.
    let mut rng = Rng::with_seed(2009);
    let playing: Vec<_> = (0..guests)
        .map(|number| {
            let part = &parts[number % parts.len()];
            (part, rng.usize(..part.intervals()))
        })
        .collect();
    let machines = playing.iter().map(|(part, _)| part.machine());
    let storage: u64 = playing.iter().map(|(part, _)| part.machine().storage).sum();
    let frames = (storage as f64 / overcommit) as u64;
    let mut world = World::new(frames, interval, policy, machines, rng.u64(..));

    let mut outcome = Outcome {
        intervals,
        ..Outcome::default()
    };
    let mut short = 0;
    let mut directions = BTreeMap::new();
    for now in 0..intervals {
        for (machine, (part, begin)) in world.machines.values_mut().zip(&playing) {
            part.play(begin + now, machine);
        }
        for decision in world.step() {
            let grows = decision.new > decision.old;
            outcome.messages += 1;
            outcome.turns += usize::from(directions.insert(decision.user, grows) == Some(!grows));
        }
        let is_short = world.available() < world.frames / 50;
        short = if is_short { short + 1 } else { 0 };
        outcome.short += usize::from(is_short);
        outcome.longest_short = outcome.longest_short.max(short);
    }
    outcome.page_ins = world.sum(|machine| machine.page_ins);
    outcome.page_outs = world.page_outs;
    outcome
}

#[cfg(test)]
mod tests {
    use cp_core::vmrm::Config;

    use super::*;
    use crate::{Moment, Trace};

    const INTERVAL: Duration = Duration::from_secs(2);

    /// A guest with much page cache that works one minute of ten.
    fn part() -> Part {
        let samples = (0..=300).map(|at| Moment {
            time_ms: at * 2000,
            held: 30_000,
            cpu_ms: at.min(30) * 1000 + at * 20,
        });
        let trace = Trace {
            storage: 40_960,
            least: 6_000,
            samples: samples.collect(),
        };
        trace.part(INTERVAL).unwrap()
    }

    fn outcome(overcommit: f64, vmrm: bool) -> Outcome {
        let policy = Policy::new(Config::parse("NOTIFY MEMORY LNX*").unwrap());
        play(
            &[part()],
            100,
            overcommit,
            INTERVAL,
            600,
            vmrm.then_some(policy),
        )
    }

    #[test]
    fn where_all_fits_nobody_is_told_anything() {
        for vmrm in [false, true] {
            let outcome = outcome(1.2, vmrm);
            assert_eq!((outcome.messages, outcome.page_outs), (0, 0));
        }
    }

    #[test]
    fn whoever_is_told_pages_less() {
        let (alone, told) = (outcome(2.0, false), outcome(2.0, true));
        assert_eq!(alone.messages, 0);
        assert!(told.messages > 0 && told.turns <= told.messages);
        assert!(told.page_outs < alone.page_outs, "{alone:?} {told:?}");
        assert!(told.short < alone.short, "{alone:?} {told:?}");
    }
}
