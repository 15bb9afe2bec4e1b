// SPDX-License-Identifier: GPL-2.0

//! Who shall release how much.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::config::Config;
use crate::UserId;

/// How much more of its storage an active guest has than an idle one.
const ACTIVE_WEIGHT: u64 = 16;

/// A guest is active from this part of one CPU on, in percent, or if this part of what it holds comes in. It is idle again
/// below half of both, so that one that is near the limit does not change all the time.
const ACTIVE_CPU_PERCENT: f64 = 5.0;
const ACTIVE_PAGE_INS: f64 = 1.0 / 8.0;

/// So many pages that go or come each second are paging; fewer are a guest that wakes up.
const PAGING: f64 = 32.0;

/// A count that differs by less than this part of a guest's storage is not worth a message. If frames are short, smaller
/// steps are worth it.
const DEAD_BAND: u64 = 32;
const SHORT_BAND: u64 = 256;

/// For how many samples a guest that was told to release more is given nothing back, or the other way round, as long as
/// no guest comes, goes, begins or ends its work, and frames are not short.
const CALM: u8 = 10;

/// The level at which each guest has all that it may want. Lower levels are a part of it.
const FULL: u64 = 1 << 20;

/// The system at one moment. Counters never fall; only what they have grown by means anything.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// When, since any moment.
    pub time: Duration,
    /// All frames that guests may have.
    pub frames: u64,
    /// Those that are free.
    pub available: u64,
    /// Counter: pages that came back from paging volumes.
    pub page_ins: u64,
    /// Counter: pages that went to paging volumes.
    pub page_outs: u64,
    /// The guests that could receive a message.
    pub guests: BTreeMap<UserId, GuestSample>,
}

/// A guest at that moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct GuestSample {
    /// Another number after each logon and reset: then the guest has released nothing.
    pub life: u64,
    /// The pages of its storage.
    pub storage: u64,
    /// Those that have a frame.
    pub resident: u64,
    /// Those that are on a paging volume.
    pub preserved: u64,
    /// Counter: CPU time.
    pub cpu_time: Duration,
    /// Counter: pages that came back from paging volumes.
    pub page_ins: u64,
}

/// Why a guest is told another number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Frames are short.
    Constraint,
    /// Frames are not short, as long as others release theirs: shares have changed.
    Balance,
    /// All guests together could hold twice as much.
    Relief,
    /// The configuration does not name the guest any more.
    Dismissed,
}

/// One message to one guest, with the figures that led to it. All are pages but `paging` and `cpu_percent`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision {
    /// To whom.
    pub user: UserId,
    /// Why.
    pub reason: Reason,
    /// Frames that are available.
    pub available: u64,
    /// Pages a second that go to paging volumes or come back.
    pub paging: f64,
    /// Whether the guest does something with what it holds.
    pub active: bool,
    /// What it uses of one CPU.
    pub cpu_percent: f64,
    /// What it holds in frames.
    pub resident: u64,
    /// What it holds on paging volumes.
    pub preserved: u64,
    /// What is left to it in any case.
    pub floor: u64,
    /// What is left to it now.
    pub share: u64,
    /// What it was to have released so far.
    pub old: u64,
    /// What it shall have released.
    pub new: u64,
}

impl Decision {
    /// The text of the special message.
    #[must_use]
    pub fn message(&self) -> String {
        format!("CMM SHRINK {}", self.new)
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            user,
            reason,
            available,
            paging,
            cpu_percent,
            resident,
            preserved,
            floor,
            share,
            old,
            ..
        } = self;
        let activity = if self.active { "active" } else { "idle" };
        write!(
            f,
            "{user} {}, was {old}: {reason} available={available} paging={paging:.0}/s, {activity} cpu={cpu_percent:.0}% \
             resident={resident} preserved={preserved} floor={floor} share={share}",
            self.message()
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Constraint => "constraint",
            Self::Balance => "balance",
            Self::Relief => "relief",
            Self::Dismissed => "not to be notified",
        })
    }
}

/// What VMRM remembers from one sample to the next.
#[derive(Debug, Default)]
pub struct Policy {
    config: Config,
    guests: BTreeMap<UserId, Guest>,
    /// The time of the last sample, and its pages that had gone or come.
    last: Option<(Duration, u64)>,
}

/// A guest that could receive a message at the last sample.
#[derive(Debug)]
struct Guest {
    /// What it was then.
    now: GuestSample,
    cpu_percent: f64,
    active: bool,
    /// What it was told to have released.
    count: u64,
    /// Whether that grew when it changed last.
    grew: bool,
    /// For how many samples more it may only go on so; [`CALM`] if it has just changed.
    calm: u8,
    /// What it keeps although it was told to release it.
    kept: u64,
    /// Its floor, or all its storage if that is less.
    floor: u64,
    /// Whether it may be told anything.
    notified: bool,
}

impl Policy {
    /// Nobody has been told anything.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            ..Self::default()
        }
    }

    /// The configuration in effect.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Another configuration is in effect from the next sample on. What guests have been told stays.
    pub fn set_config(&mut self, config: Config) {
        self.config = config;
    }

    /// A message could not be delivered.
    pub fn undelivered(&mut self, decision: &Decision) {
        if let Some(guest) = self.guests.get_mut(&decision.user) {
            guest.count = decision.old;
            guest.calm = 0;
        }
    }

    /// Looks at the system and says who is to be told what. Nobody has more than one message.
    pub fn decide(&mut self, sample: &Sample) -> Vec<Decision> {
        let paging = self.observe(sample);
        let available = sample.available;
        let low = sample.frames * self.config.low_percent / 100;
        let high = sample.frames * self.config.high_percent / 100;
        let constrained = available < low || available < high && paging >= PAGING;
        if !constrained && self.guests.values().all(|guest| guest.count == 0) {
            return Vec::new();
        }

        let notified = || self.guests.values().filter(|guest| guest.notified);
        // What others hold, who are not to be notified, is not to be had.
        let held: u64 = notified().map(|guest| guest.now.resident).sum();
        let level = level((available + held).saturating_sub(high), notified);
        let common = match level {
            _ if constrained => Reason::Constraint,
            FULL => Reason::Relief,
            _ => Reason::Balance,
        };
        let tell = |(&user, guest): (&UserId, &mut Guest)| {
            let old = guest.count;
            let reason = if guest.notified {
                guest.tell(level, constrained);
                common
            } else {
                guest.count = 0;
                Reason::Dismissed
            };
            (guest.count != old).then(|| Decision {
                user,
                reason,
                available,
                paging,
                active: guest.active,
                cpu_percent: guest.cpu_percent,
                resident: guest.now.resident,
                preserved: guest.now.preserved,
                floor: guest.floor,
                share: guest.share(level),
                old,
                new: guest.count,
            })
        };
        self.guests.iter_mut().filter_map(tell).collect()
    }

    /// Takes in what has happened since the last sample; gives the rate of paging.
    fn observe(&mut self, sample: &Sample) -> f64 {
        let pages = sample.page_ins + sample.page_outs;
        let last = self.last.replace((sample.time, pages));
        let (time, before) = last.unwrap_or((sample.time, pages));
        let elapsed = sample.time.saturating_sub(time).as_secs_f64();

        let guests = self.guests.len();
        self.guests.retain(|user, guest| {
            let now = sample.guests.get(user);
            now.is_some_and(|now| now.life == guest.now.life)
        });
        let mut changed = self.guests.len() < guests;
        for (&user, &now) in &sample.guests {
            let known = self.guests.contains_key(&user);
            let guest = self.guests.entry(user).or_insert_with(|| Guest::new(now));
            changed |= guest.observe(now, elapsed) || !known;
            guest.floor = self.config.floor(user).min(now.storage);
            // How active it is, is only known the second time.
            guest.notified = known && self.config.notifies(user);
        }
        if changed {
            self.guests.values_mut().for_each(|guest| guest.calm = 0);
        }
        rate(pages.saturating_sub(before) as f64, elapsed)
    }
}

impl Guest {
    const fn new(now: GuestSample) -> Self {
        Self {
            now,
            cpu_percent: 0.0,
            active: false,
            count: 0,
            grew: false,
            calm: 0,
            kept: 0,
            floor: 0,
            notified: false,
        }
    }

    /// Takes in what it has done; says whether it has begun or ended its work.
    fn observe(&mut self, now: GuestSample, elapsed: f64) -> bool {
        let before = std::mem::replace(&mut self.now, now);
        let cpu_time = now.cpu_time.saturating_sub(before.cpu_time);
        self.cpu_percent = rate(cpu_time.as_secs_f64() * 100.0, elapsed);
        let page_ins = now.page_ins.saturating_sub(before.page_ins);
        let part = page_ins as f64 / self.held().max(1) as f64;
        let work = (self.cpu_percent / ACTIVE_CPU_PERCENT).max(part / ACTIVE_PAGE_INS);
        // If it was just told to release more, that is what it works at.
        let begins = work >= 1.0 && !(self.grew && self.calm == CALM);
        let was_active = self.active;
        self.active = begins || was_active && work >= 0.5;
        self.calm = self.calm.saturating_sub(1);

        let left = now.storage.saturating_sub(self.count) + now.storage / SHORT_BAND;
        self.kept = if now.resident > left { now.resident } else { 0 };
        self.active != was_active
    }

    const fn held(&self) -> u64 {
        self.now.resident + self.now.preserved
    }

    /// The most that a guest may want: to hold twice as much.
    fn wanted(&self) -> u64 {
        (2 * self.held()).clamp(self.floor, self.now.storage)
    }

    /// What is left to it at a level. Storage is less than 2^40 pages, so that nothing overflows.
    fn share(&self, level: u64) -> u64 {
        let weight = if self.active { ACTIVE_WEIGHT } else { 1 };
        let part = self.now.storage * weight * level / FULL;
        (self.floor + part).min(self.wanted())
    }

    /// What it is to have released at a level. Who has all that it may want is not told to release more.
    fn target(&self, level: u64) -> u64 {
        let share = self.share(level);
        let rest = self.now.storage - share;
        match self.count / 2 {
            _ if share < self.wanted() => rest,
            _ if level < FULL => rest.min(self.count),
            half if half < self.now.storage / DEAD_BAND => 0,
            half => rest.min(half),
        }
    }

    /// Notes what it shall have released, if that is worth a message.
    fn tell(&mut self, level: u64, constrained: bool) {
        let count = self.target(level);
        let grows = count > self.count;
        let band = match constrained && grows {
            true => SHORT_BAND,
            false => DEAD_BAND,
        };
        let small = count.abs_diff(self.count) < self.now.storage / band && level < FULL;
        let allowed = match constrained {
            true => grows,
            false => grows == self.grew || self.calm == 0,
        };
        if small || !allowed || count == self.count {
            return;
        }
        (self.count, self.grew, self.calm) = (count, grows, CALM);
    }
}

/// The highest level at which what is left to guests, and what they keep, is not more than there is.
fn level<'a, I: Iterator<Item = &'a Guest>>(goal: u64, guests: impl Fn() -> I) -> u64 {
    let used = |level| -> u64 {
        let guests = guests();
        guests.map(|guest| guest.share(level).max(guest.kept)).sum()
    };
    let (mut fitting, mut beyond) = (0, FULL + 1);
    while beyond - fitting > 1 {
        let middle = fitting.midpoint(beyond);
        if used(middle) <= goal {
            fitting = middle;
        } else {
            beyond = middle;
        }
    }
    fitting
}

fn rate(growth: f64, seconds: f64) -> f64 {
    if seconds > 0.0 { growth / seconds } else { 0.0 }
}
