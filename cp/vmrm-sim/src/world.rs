// SPDX-License-Identifier: GPL-2.0

//! A system of guests.

use std::collections::BTreeMap;
use std::time::Duration;

use cp_core::UserId;
use cp_core::vmrm::{Decision, GuestSample, Policy, Sample};
use fastrand::Rng;

/// What a guest needs to release a page, as it does on an emulated machine.
const RELEASE_TIME: Duration = Duration::from_micros(20);

/// A guest. All are pages but `life`, `works` and its use of CPUs.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Another number after each reset.
    pub life: u64,
    /// All it has.
    pub storage: u64,
    /// What its programs need, which no balloon gets. They use a part of it even if they do not work.
    pub programs: u64,
    /// What it would use, page cache included, if it could.
    pub wants: u64,
    /// Whether it does anything with it.
    pub works: bool,
    /// The part of a CPU that it uses if it works: from, to.
    pub cpu: (f64, f64),
    /// What has a frame.
    pub resident: u64,
    /// What is on a paging volume.
    pub preserved: u64,
    /// What it shall have released.
    pub target: u64,
    /// Counter: pages that came back.
    pub page_ins: u64,
    /// What it has released.
    balloon: u64,
    /// It is never quite the same.
    noise: u64,
    cpu_time: Duration,
}

impl Machine {
    /// One whose programs alone are there, and that does not work.
    #[must_use]
    pub fn new(storage: u64, programs: u64) -> Self {
        Self {
            life: 0,
            storage,
            programs,
            wants: programs,
            works: false,
            cpu: (0.1, 1.0),
            resident: programs,
            preserved: 0,
            target: 0,
            page_ins: 0,
            balloon: 0,
            noise: 0,
            cpu_time: Duration::ZERO,
        }
    }

    /// What it cannot do without: its programs, and the floor that its balloon has of its own.
    #[must_use]
    pub fn least(&self) -> u64 {
        (self.programs + self.storage / 16).min(self.storage)
    }

    /// The balloon grows by a part of what is missing. It takes what has not been used for long. A program that needs
    /// memory gets it from the balloon.
    fn inflate(&mut self, part: u64) {
        let most = self.target.min(self.storage - self.least());
        let missing = most.saturating_sub(self.balloon);
        let taken = missing / part;
        self.cpu_time += RELEASE_TIME * u32::try_from(taken).unwrap_or(u32::MAX);
        self.balloon = most - (missing - taken);
        self.hold_at_most(self.storage - self.balloon);
    }

    /// What is more than that is unused: first what is on a paging volume.
    pub fn hold_at_most(&mut self, pages: u64) {
        let excess = (self.resident + self.preserved).saturating_sub(pages);
        let dropped = excess.min(self.preserved);
        self.preserved -= dropped;
        self.resident -= excess - dropped;
    }

    /// What it uses in this interval.
    fn uses(&self) -> u64 {
        match self.works {
            true => (self.wants + self.noise).min(self.storage - self.balloon),
            false => self.programs / 16,
        }
    }

    fn run(&mut self, interval: Duration, rng: &mut Rng) {
        let (from, to) = if self.works { self.cpu } else { (0.0, 0.02) };
        self.cpu_time += interval.mul_f64(from + rng.f64() * (to - from));
        self.noise = rng.u64(..=self.wants / 100);
        let held = self.resident + self.preserved;
        // Some of its cache is evicted now and then.
        if self.works && held > self.uses() {
            self.resident -= (held - self.uses())
                .min(self.wants / 100)
                .min(self.resident);
        }
        let missing = self.uses().saturating_sub(self.resident);
        let page_ins = missing.min(self.preserved);
        self.preserved -= page_ins;
        self.page_ins += page_ins;
        self.resident += missing;
    }

    fn sample(&self) -> GuestSample {
        GuestSample {
            life: self.life,
            storage: self.storage,
            resident: self.resident,
            preserved: self.preserved,
            cpu_time: self.cpu_time,
            page_ins: self.page_ins,
        }
    }
}

/// A system of them.
#[derive(Debug)]
pub struct World {
    /// All that guests may have.
    pub frames: u64,
    /// The guests.
    pub machines: BTreeMap<UserId, Machine>,
    /// Without it nobody is told anything: what does not fit is paged out, and that is all.
    pub policy: Option<Policy>,
    /// CP pages out if less than this part of all frames is available.
    pub paging_percent: u64,
    /// Counter: pages that went to a paging volume.
    pub page_outs: u64,
    interval: Duration,
    intervals: u32,
    rng: Rng,
}

impl World {
    /// A system whose guests have not done anything yet.
    ///
    /// # Panics
    ///
    /// If there are more than 100 000.
    #[must_use]
    pub fn new(
        frames: u64,
        interval: Duration,
        policy: Option<Policy>,
        machines: impl IntoIterator<Item = Machine>,
        seed: u64,
    ) -> Self {
        Self {
            frames,
            machines: (0..).map(Self::user).zip(machines).collect(),
            policy,
            paging_percent: 1,
            page_outs: 0,
            interval,
            intervals: 0,
            rng: Rng::with_seed(seed),
        }
    }

    /// The name of the guest with that number.
    ///
    /// # Panics
    ///
    /// If it has more than five digits.
    #[must_use]
    pub fn user(number: usize) -> UserId {
        UserId::new(&format!("LNX{number:05}")).expect("five digits")
    }

    /// The sum over all guests.
    pub fn sum(&self, pages: impl Fn(&Machine) -> u64) -> u64 {
        self.machines.values().map(pages).sum()
    }

    /// Frames that nobody has.
    #[must_use]
    pub fn available(&self) -> u64 {
        self.frames
            .saturating_sub(self.sum(|machine| machine.resident))
    }

    /// CP takes what has not been used first, from all alike.
    fn page_out(&mut self) {
        for used in [false, true] {
            let pages = |machine: &Machine| match used {
                true => machine.resident,
                false => machine.resident.saturating_sub(machine.uses()),
            };
            let kept = self.frames * (100 - self.paging_percent) / 100;
            let all = self.sum(pages);
            let excess = self
                .sum(|machine| machine.resident)
                .saturating_sub(kept)
                .min(all);
            for machine in self.machines.values_mut() {
                let part = (pages(machine) * excess).checked_div(all).unwrap_or(0);
                machine.resident -= part;
                machine.preserved += part;
                self.page_outs += part;
            }
        }
    }

    /// An interval passes. Guests release what they were told to while they do what they do. Gives what they are told.
    pub fn step(&mut self) -> Vec<Decision> {
        for machine in self.machines.values_mut() {
            machine.inflate(2);
            machine.run(self.interval, &mut self.rng);
        }
        self.page_out();
        for machine in self.machines.values_mut() {
            machine.inflate(1);
        }

        self.intervals += 1;
        let sample = self.sample();
        let decisions = match &mut self.policy {
            Some(policy) => policy.decide(&sample),
            None => Vec::new(),
        };
        for decision in &decisions {
            if let Some(machine) = self.machines.get_mut(&decision.user) {
                machine.target = decision.new;
            }
        }
        decisions
    }

    /// What VMRM sees.
    fn sample(&self) -> Sample {
        Sample {
            time: self.interval * self.intervals,
            frames: self.frames,
            available: self.available(),
            page_ins: self.sum(|machine| machine.page_ins),
            page_outs: self.page_outs,
            guests: self
                .machines
                .iter()
                .map(|(&user, machine)| (user, machine.sample()))
                .collect(),
        }
    }
}
