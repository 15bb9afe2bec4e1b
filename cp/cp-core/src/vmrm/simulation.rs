// SPDX-License-Identifier: GPL-2.0

//! The policy at work on guests that are a few numbers each.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use proptest::prelude::*;

use super::*;
use crate::UserId;

const INTERVAL: Duration = Duration::from_secs(10);
const FLOOR: u64 = mib(64);

/// What a guest needs to release a page, as it does on an emulated machine.
const RELEASE_TIME: Duration = Duration::from_micros(20);

const fn mib(mib: u64) -> u64 {
    mib << 8
}

fn user(number: usize) -> UserId {
    UserId::new(&format!("LINUX{number:03}")).unwrap()
}

/// A guest. All are pages but `life`, `works` and its use of CPUs.
#[derive(Clone, Debug)]
struct Machine {
    life: u64,
    storage: u64,
    /// What its programs need, which no balloon gets. They use a part of it even if they do not work.
    programs: u64,
    /// What it would use, page cache included, if it could.
    wants: u64,
    /// It is never quite the same.
    noise: u64,
    works: bool,
    /// The part of a CPU that it uses if it works: from, to.
    cpu: (f64, f64),
    resident: u64,
    preserved: u64,
    balloon: u64,
    target: u64,
    cpu_time: Duration,
    page_ins: u64,
}

impl Machine {
    fn new(storage: u64, programs: u64) -> Self {
        Self {
            life: 0,
            storage,
            programs,
            wants: programs,
            noise: 0,
            works: false,
            cpu: (0.1, 1.0),
            resident: programs,
            preserved: 0,
            balloon: 0,
            target: 0,
            cpu_time: Duration::ZERO,
            page_ins: 0,
        }
    }

    fn random(rng: &mut Rng) -> Self {
        let storage = mib(rng.u64(64..4096));
        Self::new(storage, rng.u64(storage / 32..storage / 4))
    }

    /// What it cannot do without: its programs, and the floor that its balloon has of its own.
    fn least(&self) -> u64 {
        (self.programs + self.storage / 16).min(self.storage)
    }

    /// The balloon grows by a part of what is missing. It takes what has not been used for long.
    fn inflate(&mut self, part: u64) {
        let most = self.target.min(self.storage - self.least());
        let missing = most.saturating_sub(self.balloon);
        let taken = missing / part;
        self.cpu_time += RELEASE_TIME * u32::try_from(taken).unwrap();
        self.balloon = most - (missing - taken);
        let held = self.resident + self.preserved;
        let excess = held.saturating_sub(self.storage - self.balloon);
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

    fn run(&mut self, rng: &mut Rng) {
        let (from, to) = if self.works { self.cpu } else { (0.0, 0.02) };
        self.cpu_time += INTERVAL.mul_f64(from + rng.f64() * (to - from));
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
struct World {
    frames: u64,
    machines: BTreeMap<UserId, Machine>,
    policy: Policy,
    rng: Rng,
    intervals: u32,
    page_outs: u64,
    /// CP pages out if less than this part of all frames is available.
    paging_percent: u64,
    /// Whether frames were short in the last interval.
    short: bool,
}

impl World {
    fn new(frames: u64, machines: impl IntoIterator<Item = Machine>, seed: u64) -> Self {
        let mut world = Self {
            frames,
            machines: (0..).map(user).zip(machines).collect(),
            policy: Policy::new(Config::parse("NOTIFY MEMORY LINUX*").unwrap()),
            rng: Rng::with_seed(seed),
            intervals: 0,
            page_outs: 0,
            paging_percent: 1,
            short: false,
        };
        // VMRM gets to know them.
        assert_eq!(world.step(), []);
        world
    }

    /// Guests whose storage is that many times the frames.
    fn random(guests: usize, overcommit: f64, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let machines: Vec<_> = (0..guests).map(|_| Machine::random(&mut rng)).collect();
        let storage: u64 = machines.iter().map(|machine| machine.storage).sum();
        Self::new((storage as f64 / overcommit) as u64, machines, seed)
    }

    fn machine(&mut self, number: usize) -> &mut Machine {
        self.machines.get_mut(&user(number)).unwrap()
    }

    /// Another load begins.
    fn change(&mut self, busy: f64) {
        for machine in self.machines.values_mut() {
            machine.works = self.rng.f64() < busy;
            machine.wants = self.rng.u64(machine.programs..=machine.storage);
        }
    }

    /// Whether what all need fits, with something to spare.
    fn is_feasible(&self) -> bool {
        let least = |machine: &Machine| machine.least().max(FLOOR.min(machine.storage));
        self.machines.values().map(least).sum::<u64>() < self.frames * 85 / 100
    }

    fn sum(&self, pages: impl Fn(&Machine) -> u64) -> u64 {
        self.machines.values().map(pages).sum()
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

    /// An interval passes. Guests release what they were told to while they do what they do.
    fn step(&mut self) -> Vec<Decision> {
        let before = self.page_outs + self.sum(|machine| machine.page_ins);
        for machine in self.machines.values_mut() {
            machine.inflate(2);
            machine.run(&mut self.rng);
        }
        self.page_out();
        for machine in self.machines.values_mut() {
            machine.inflate(1);
        }

        self.intervals += 1;
        let sample = Sample {
            time: INTERVAL * self.intervals,
            frames: self.frames,
            available: self.frames - self.sum(|machine| machine.resident),
            page_ins: self.sum(|machine| machine.page_ins),
            page_outs: self.page_outs,
            guests: self
                .machines
                .iter()
                .map(|(&user, machine)| (user, machine.sample()))
                .collect(),
        };
        let below = |percent| sample.available < self.frames * percent / 100;
        let paged = sample.page_ins + sample.page_outs - before;
        self.short = below(2) || below(4) && paged >= 320;

        let decisions = self.policy.decide(&sample);
        for decision in &decisions {
            let machine = self.machines.get_mut(&decision.user).unwrap();
            assert_eq!(decision.old, machine.target, "{decision}");
            assert_ne!(decision.new, machine.target, "{decision}");
            assert!(
                decision.reason != Reason::Constraint || decision.new > decision.old,
                "{decision}"
            );
            let floor = FLOOR.min(machine.storage);
            assert!(
                decision.new + floor <= machine.storage,
                "below the floor: {decision}"
            );
            machine.target = decision.new;
        }
        decisions
    }

    /// A load goes on, for which VMRM keeps what it promises.
    fn constant_load(&mut self) -> Result<(), TestCaseError> {
        let feasible = self.is_feasible();
        let mut short = 0;
        let mut directions = BTreeMap::new();
        let mut turns = BTreeMap::new();
        let mut messages = BTreeMap::new();
        for interval in 0..40 {
            let decisions = self.step();
            short = if self.short { short + 1 } else { 0 };
            prop_assert!(
                !feasible || short <= 3,
                "frames are short for {short} intervals"
            );
            for decision in decisions {
                let told = messages.entry(decision.user).or_insert(0);
                *told += u32::from(interval >= 30 && decision.reason != Reason::Relief);
                prop_assert!(*told <= 5, "is not left alone: {decision}");
                let grows = decision.new > decision.old;
                if directions.insert(decision.user, grows) == Some(!grows) {
                    let last = turns.insert(decision.user, interval);
                    prop_assert!(
                        last.is_none_or(|last| interval >= last + 10),
                        "turns at {last:?} and {interval}: {decision}"
                    );
                }
            }
        }
        Ok(())
    }
}

#[test]
fn a_thousand_guests_and_a_long_trace() {
    let mut world = World::random(1000, 2.0, 2009);
    assert!(world.is_feasible());
    for busy in [0.1, 0.3, 1.0, 0.6, 0.0].repeat(5) {
        world.change(busy);
        world.constant_load().unwrap();
    }
    assert!(world.machines.values().any(|machine| machine.target > 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn random_systems(
        seed: u64, guests in 1..12_usize, overcommit in 0.5..3.0, paging_percent in 1..4_u64,
        loads in prop::collection::vec(0.0..1.0, 1..6)
    ) {
        let mut world = World::random(guests, overcommit, seed);
        world.paging_percent = paging_percent;
        for busy in loads {
            world.change(busy);
            world.constant_load()?;
        }
    }
}

/// Three guests that would use all their storage if they worked, twice as much as there is.
fn three() -> World {
    let mut machine = Machine::new(mib(512), mib(48));
    machine.wants = machine.storage;
    World::new(mib(768), vec![machine; 3], 1)
}

/// All of which work.
fn three_at_work() -> World {
    let mut world = three();
    for machine in world.machines.values_mut() {
        machine.works = true;
    }
    world
}

#[test]
fn memory_is_with_those_who_use_it_2_intervals_after_a_burst() {
    let mut world = three();
    world.machine(0).works = true;
    for _ in 0..5 {
        // The burst.
        world.machine(1).works = true;
        (0..12).for_each(|_| drop(world.step()));
        assert!(world.machine(0).resident < mib(400));
        world.machine(1).works = false;
        (0..2).for_each(|_| drop(world.step()));
        let left = |machine: &mut Machine| machine.storage - machine.target;
        assert!(left(world.machine(0)) > mib(450));
        assert!(world.machine(1).resident < mib(200));
        world.step();
        assert!(world.machine(0).resident > mib(450));
        assert!(!world.short);
    }
}

#[test]
fn a_guest_that_is_nearly_idle_does_not_change_all_the_time() {
    let mut world = three();
    for number in 0..2 {
        world.machine(number).works = true;
        world.machine(number).cpu = (0.03, 0.06);
    }
    (0..30).for_each(|_| drop(world.step()));
    assert!((0..40).all(|_| world.step().is_empty()));
}

#[test]
fn nobody_is_told_anything_without_constraint() {
    let mut world = three();
    world.frames = world.sum(|machine| machine.storage) * 100 / 96;
    world.change(1.0);
    assert!((0..30).all(|_| world.step().is_empty()));
    // It matters what is there, not what could be wanted.
    let mut world = three();
    world.change(1.0);
    (0..3).for_each(|number| world.machine(number).wants = mib(220));
    assert!((0..30).all(|_| world.step().is_empty()));
}

#[test]
fn counts_fall_to_zero_when_there_is_room_again() {
    let mut world = three_at_work();
    (0..5).for_each(|_| drop(world.step()));
    assert!(world.machine(0).target > mib(200));
    for number in 1..3 {
        world.machines.remove(&user(number));
    }
    let counts: Vec<_> = (0..10).flat_map(|_| world.step()).collect();
    assert!(
        counts
            .iter()
            .all(|decision| decision.reason == Reason::Relief && decision.new < decision.old)
    );
    assert!(counts.len() > 1);
    assert_eq!(world.machine(0).target, 0);
    assert_eq!(world.machine(0).resident, mib(512));
}

#[test]
fn a_guest_that_was_reset_has_released_nothing() {
    let mut world = three_at_work();
    (0..5).for_each(|_| drop(world.step()));
    let target = world.machine(1).target;
    assert!(target > mib(200));
    *world.machine(1) = Machine {
        life: 1,
        works: true,
        wants: mib(512),
        ..Machine::new(mib(512), mib(48))
    };
    let told: Vec<_> = (0..4)
        .flat_map(|_| world.step())
        .filter(|decision| decision.user == user(1))
        .collect();
    assert!(told[0].old == 0 && told[0].active);
    assert!(
        world.machine(1).target.abs_diff(target) < mib(32),
        "{told:?}"
    );
}

#[test]
fn what_the_configuration_does_not_name_is_left_alone() {
    let mut world = three_at_work();
    world
        .policy
        .set_config(Config::parse("NOTIFY MEMORY LINUX000 LINUX001").unwrap());
    (0..5).for_each(|_| drop(world.step()));
    assert_eq!(world.machine(2).target, 0);
    assert!(world.machine(1).target > mib(200));
    // From then on it has what it had again.
    world
        .policy
        .set_config(Config::parse("NOTIFY MEMORY LINUX000\nMEMORY FLOOR 128M").unwrap());
    let dismissed = world
        .step()
        .into_iter()
        .find(|decision| decision.user == user(1))
        .unwrap();
    assert_eq!((dismissed.reason, dismissed.new), (Reason::Dismissed, 0));
    (0..5).for_each(|_| drop(world.step()));
    assert_eq!(
        (world.machine(0).target, world.machine(1).target),
        (mib(512 - 128), 0)
    );
}

#[test]
fn what_was_not_delivered_is_told_again() {
    let mut world = three_at_work();
    let told = world.step();
    assert_eq!(told.len(), 3);
    for decision in &told {
        world.policy.undelivered(decision);
        world.machines.get_mut(&decision.user).unwrap().target = 0;
    }
    assert_eq!(world.step().len(), 3);
}

#[test]
fn the_log_has_the_figures() {
    let mut world = three();
    world.machine(0).works = true;
    world.machine(1).works = true;
    let told = world.step();
    let Decision {
        available,
        paging,
        cpu_percent,
        resident,
        preserved,
        share,
        new,
        ..
    } = told[0];
    assert_eq!(
        told[0].to_string(),
        format!(
            "LINUX000 CMM SHRINK {new}, was 0: constraint available={available} paging={paging:.0}/s, \
             active cpu={cpu_percent:.0}% resident={resident} preserved={preserved} floor=16384 share={share}"
        )
    );
    assert_eq!(new, mib(512) - share);
    assert_eq!(told[0].message(), format!("CMM SHRINK {new}"));
}
