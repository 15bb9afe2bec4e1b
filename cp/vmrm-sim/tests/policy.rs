// SPDX-License-Identifier: GPL-2.0

//! The policy at work on guests that are a few numbers each.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use cp_core::vmrm::{Config, Decision, Policy, Reason};
use fastrand::Rng;
use proptest::prelude::*;
use vmrm_sim::{Machine, World};

const INTERVAL: Duration = Duration::from_secs(10);
const FLOOR: u64 = mib(64);

const fn mib(mib: u64) -> u64 {
    mib << 8
}

fn random_machine(rng: &mut Rng) -> Machine {
    let storage = mib(rng.u64(64..4096));
    Machine::new(storage, rng.u64(storage / 32..storage / 4))
}

/// A system whose VMRM may tell all guests something, and knows them.
struct Watched {
    world: World,
    rng: Rng,
    /// Whether frames were short in the last interval.
    short: bool,
}

impl Deref for Watched {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

impl DerefMut for Watched {
    fn deref_mut(&mut self) -> &mut World {
        &mut self.world
    }
}

impl Watched {
    fn new(frames: u64, machines: impl IntoIterator<Item = Machine>, seed: u64) -> Self {
        let policy = Policy::new(Config::parse("NOTIFY MEMORY LNX*").unwrap());
        let mut watched = Self {
            world: World::new(frames, INTERVAL, Some(policy), machines, seed),
            rng: Rng::with_seed(seed),
            short: false,
        };
        assert_eq!(watched.step(), []);
        watched
    }

    fn policy(&mut self) -> &mut Policy {
        self.policy.as_mut().unwrap()
    }

    /// Guests whose storage is that many times the frames.
    fn random(guests: usize, overcommit: f64, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let machines: Vec<_> = (0..guests).map(|_| random_machine(&mut rng)).collect();
        let storage: u64 = machines.iter().map(|machine| machine.storage).sum();
        Self::new((storage as f64 / overcommit) as u64, machines, seed)
    }

    fn machine(&mut self, number: usize) -> &mut Machine {
        self.machines.get_mut(&World::user(number)).unwrap()
    }

    /// Another load begins.
    fn change(&mut self, busy: f64) {
        for machine in self.world.machines.values_mut() {
            machine.works = self.rng.f64() < busy;
            machine.wants = self.rng.u64(machine.programs..=machine.storage);
        }
    }

    /// Whether what all need fits, with something to spare.
    fn is_feasible(&self) -> bool {
        let least = |machine: &Machine| machine.least().max(FLOOR.min(machine.storage));
        self.machines.values().map(least).sum::<u64>() < self.frames * 85 / 100
    }

    /// An interval passes; what is decided in it may be decided.
    fn step(&mut self) -> Vec<Decision> {
        let targets: BTreeMap<_, _> = self
            .machines
            .iter()
            .map(|(&user, machine)| (user, machine.target))
            .collect();
        let paged = |world: &World| world.page_outs + world.sum(|machine| machine.page_ins);
        let before = paged(&self.world);
        let decisions = self.world.step();
        let below = |percent| self.available() < self.frames * percent / 100;
        self.short = below(2) || below(4) && paged(&self.world) - before >= 320;
        for decision in &decisions {
            let target = targets[&decision.user];
            assert_eq!(decision.old, target, "{decision}");
            assert_ne!(decision.new, target, "{decision}");
            assert!(
                decision.reason != Reason::Constraint || decision.new > decision.old,
                "{decision}"
            );
            let storage = self.machines[&decision.user].storage;
            assert!(
                decision.new + FLOOR.min(storage) <= storage,
                "below the floor: {decision}"
            );
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
    let mut world = Watched::random(1000, 2.0, 2009);
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
        let mut world = Watched::random(guests, overcommit, seed);
        world.paging_percent = paging_percent;
        for busy in loads {
            world.change(busy);
            world.constant_load()?;
        }
    }
}

/// Three guests that would use all their storage if they worked, twice as much as there is.
fn three() -> Watched {
    let mut machine = Machine::new(mib(512), mib(48));
    machine.wants = machine.storage;
    Watched::new(mib(768), vec![machine; 3], 1)
}

/// All of which work.
fn three_at_work() -> Watched {
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
        world.machines.remove(&World::user(number));
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
    let mut fresh = Machine::new(mib(512), mib(48));
    (fresh.life, fresh.works, fresh.wants) = (1, true, mib(512));
    *world.machine(1) = fresh;
    let told: Vec<_> = (0..4)
        .flat_map(|_| world.step())
        .filter(|decision| decision.user == World::user(1))
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
        .policy()
        .set_config(Config::parse("NOTIFY MEMORY LNX00000 LNX00001").unwrap());
    (0..5).for_each(|_| drop(world.step()));
    assert_eq!(world.machine(2).target, 0);
    assert!(world.machine(1).target > mib(200));
    // From then on it has what it had again.
    world
        .policy()
        .set_config(Config::parse("NOTIFY MEMORY LNX00000\nMEMORY FLOOR 128M").unwrap());
    let dismissed = world
        .step()
        .into_iter()
        .find(|decision| decision.user == World::user(1))
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
        world.policy().undelivered(decision);
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
            "LNX00000 CMM SHRINK {new}, was 0: constraint available={available} paging={paging:.0}/s, \
             active cpu={cpu_percent:.0}% resident={resident} preserved={preserved} floor=16384 share={share}"
        )
    );
    assert_eq!(new, mib(512) - share);
    assert_eq!(told[0].message(), format!("CMM SHRINK {new}"));
}
