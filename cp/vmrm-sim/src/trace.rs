// SPDX-License-Identifier: GPL-2.0

//! What a real guest did.

use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

use crate::Machine;

/// A guest does something with what it holds from this part of a CPU on, as for VMRM.
const WORKS: f64 = 0.05;

/// What a guest had and did while nobody took anything from it. Pages are of 4 KiB.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trace {
    /// All it has, in pages.
    pub storage: u64,
    /// What it could not do without in the end, in pages.
    pub least: u64,
    /// What was seen of it, in the order of time.
    pub samples: Vec<Moment>,
}

/// A guest at one moment: a list of three numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "[u64; 3]")]
pub struct Moment {
    /// When, since any moment, in milliseconds.
    pub time_ms: u64,
    /// What it holds, in frames or on a paging volume, without what is unused.
    pub held: u64,
    /// Counter: CPU time, in milliseconds.
    pub cpu_ms: u64,
}

impl From<[u64; 3]> for Moment {
    fn from([time_ms, held, cpu_ms]: [u64; 3]) -> Self {
        Self {
            time_ms,
            held,
            cpu_ms,
        }
    }
}

/// Why something is no trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TraceError {
    /// It is shorter than one interval.
    #[error("the trace lasts {0:?}, less than one interval of {1:?}")]
    Short(Duration, Duration),
    /// A sample is earlier than the one before it, or has used less of CPUs.
    #[error("sample {0}: time and CPU time never fall")]
    Falls(usize),
    /// More is held than there is.
    #[error("sample {0}: {1} pages of {2} are held")]
    TooMuch(usize, u64, u64),
    /// More is needed than there is.
    #[error("{0} pages of {1} are needed")]
    TooGreedy(u64, u64),
}

/// What a guest does in each interval, again and again.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    storage: u64,
    steps: Vec<Step>,
    /// What it is like when nothing happens.
    rest: Step,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Step {
    programs: u64,
    held: u64,
    cpu: f64,
}

impl Trace {
    /// The trace in steps of an interval, which is at least a millisecond.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn part(&self, interval: Duration) -> Result<Part, TraceError> {
        self.check(interval)?;
        let [first, .., last] = &self.samples[..] else {
            return Err(TraceError::Short(Duration::ZERO, interval));
        };
        let step = interval.as_millis() as u64;
        let mut steps = Vec::new();
        let mut from = *first;
        let (mut held, mut ends) = (0, 0);
        for (&now, ends_now) in self.samples.iter().zip(self.ends()) {
            held = held.max(now.held);
            ends = ends.max(ends_now);
            let elapsed = now.time_ms - from.time_ms;
            if elapsed < step {
                continue;
            }
            let programs = (self.least + ends).min(self.storage);
            // Where samples are further apart than intervals, nobody knows more.
            let times = usize::try_from(elapsed / step).unwrap_or(usize::MAX);
            let step = Step {
                programs,
                held: held.max(programs),
                cpu: (now.cpu_ms - from.cpu_ms) as f64 / elapsed as f64,
            };
            steps.extend(std::iter::repeat_n(step, times));
            (from, held, ends) = (now, now.held, ends_now);
        }
        Ok(Part {
            storage: self.storage,
            steps,
            rest: Step {
                programs: self.least,
                held: last.held.max(self.least),
                cpu: 0.0,
            },
        })
    }

    /// How much of what is held in each sample is held no more in some later one: memory of programs that end. Page cache
    /// stays, since nobody takes it.
    fn ends(&self) -> Vec<u64> {
        let mut stays = u64::MAX;
        let mut ends: Vec<_> = self
            .samples
            .iter()
            .rev()
            .map(|now| {
                stays = stays.min(now.held);
                now.held - stays
            })
            .collect();
        ends.reverse();
        ends
    }

    fn check(&self, interval: Duration) -> Result<(), TraceError> {
        if self.least > self.storage {
            return Err(TraceError::TooGreedy(self.least, self.storage));
        }
        for (at, now) in self.samples.iter().enumerate() {
            if now.held > self.storage {
                return Err(TraceError::TooMuch(at, now.held, self.storage));
            }
            let before = &self.samples[at.saturating_sub(1)];
            if now.time_ms < before.time_ms || now.cpu_ms < before.cpu_ms {
                return Err(TraceError::Falls(at));
            }
        }
        let time = |now: Option<&Moment>| Duration::from_millis(now.map_or(0, |now| now.time_ms));
        let lasts = time(self.samples.last()) - time(self.samples.first());
        if lasts < interval {
            return Err(TraceError::Short(lasts, interval));
        }
        Ok(())
    }
}

impl Part {
    /// The same, and then nothing for so many times as long.
    #[must_use]
    pub fn and_rest(mut self, times: u32) -> Self {
        let rest = self.steps.len() * times as usize;
        self.steps.extend(std::iter::repeat_n(self.rest, rest));
        self
    }

    /// A guest that is to play it, and has not begun.
    #[must_use]
    pub fn machine(&self) -> Machine {
        Machine::new(self.storage, self.steps[0].programs)
    }

    /// How many intervals it has.
    #[must_use]
    pub fn intervals(&self) -> usize {
        self.steps.len()
    }

    /// Has a guest do what was done in that interval; after the last one comes the first one.
    pub fn play(&self, interval: usize, machine: &mut Machine) {
        let Step {
            programs,
            held,
            cpu,
        } = self.steps[interval % self.steps.len()];
        machine.programs = programs;
        machine.wants = held;
        machine.works = cpu >= WORKS;
        machine.cpu = (cpu, cpu);
        machine.hold_at_most(held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn trace(samples: &[[u64; 3]]) -> Trace {
        Trace {
            storage: 1000,
            least: 100,
            samples: samples.iter().copied().map(Moment::from).collect(),
        }
    }

    #[test]
    fn is_read_as_the_lab_writes_it() {
        let text = r#"{"storage": 1000, "least": 100, "samples": [[0, 300, 5], [500, 310, 9]]}"#;
        let read: Trace = serde_json::from_str(text).unwrap();
        assert_eq!(read, trace(&[[0, 300, 5], [500, 310, 9]]));
        for wrong in [
            r#"{"storage": 1000, "samples": []}"#,
            r#"{"storage": 1000, "least": 1, "samples": [[0, 1]]}"#,
            r#"{"storage": 1000, "least": 1, "samples": [[0, 1, -1]]}"#,
            r#"{"storage": 1000, "least": 1, "samples": [], "more": 1}"#,
        ] {
            assert!(serde_json::from_str::<Trace>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn steps_are_what_happened_in_them() {
        let part = trace(&[
            [0, 300, 0],
            [500, 700, 400],
            [1000, 400, 500],
            [1500, 350, 510],
            [2100, 350, 520],
            [4100, 360, 560],
            [4200, 355, 561],
        ])
        .part(SECOND)
        .unwrap();
        let step = |programs, held, cpu| Step {
            programs,
            held,
            cpu,
        };
        assert_eq!(
            part.steps,
            [
                // A program had 350, and page cache grows.
                step(450, 700, 0.5),
                // It still held 400 when that began.
                step(150, 400, 20.0 / 1100.0),
                step(105, 360, 0.02),
                step(105, 360, 0.02),
            ]
        );
        let part = part.and_rest(2);
        assert_eq!(part.intervals(), 12);
        assert!(
            part.steps[4..]
                .iter()
                .all(|&now| now == step(100, 355, 0.0))
        );
        let mut machine = part.machine();
        part.play(12, &mut machine);
        assert!(machine.works && machine.wants == 700);
        part.play(11, &mut machine);
        assert!(!machine.works && machine.resident <= 360);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let cases = [
            (vec![], TraceError::Short(Duration::ZERO, SECOND)),
            (
                vec![[5, 1, 1], [904, 1, 1]],
                TraceError::Short(Duration::from_millis(899), SECOND),
            ),
            (vec![[0, 1, 1], [2000, 1, 0]], TraceError::Falls(1)),
            (vec![[9, 1, 1], [8, 1, 1]], TraceError::Falls(1)),
            (vec![[0, 1001, 1]], TraceError::TooMuch(0, 1001, 1000)),
        ];
        for (samples, error) in cases {
            assert_eq!(trace(&samples).part(SECOND), Err(error));
        }
        let greedy = Trace {
            least: 1001,
            ..trace(&[])
        };
        assert_eq!(greedy.part(SECOND), Err(TraceError::TooGreedy(1001, 1000)));
    }
}
