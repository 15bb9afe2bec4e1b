// SPDX-License-Identifier: GPL-2.0

//! What the host says about itself and its processes.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use cp_core::respond::{HostView, PAGE_BYTES, PagingView};
use procfs::{Current, CurrentSI, KernelStats, Meminfo};
use time::OffsetDateTime;

/// The machine that all guests run on.
#[derive(Debug)]
pub struct Machine {
    build_time: OffsetDateTime,
    load: Mutex<Load>,
}

/// How busy each CPU was between the last two times that somebody asked.
#[derive(Debug, Default)]
struct Load {
    times: Vec<Times>,
    percent: Vec<u8>,
}

/// The time of one CPU since the host was started, in ticks.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    busy: u64,
    all: u64,
}

impl Machine {
    /// Begins to watch the host.
    pub fn new() -> Self {
        let build_time = std::env::current_exe()
            .and_then(std::fs::metadata)
            .and_then(|metadata| metadata.modified())
            .map_or(OffsetDateTime::UNIX_EPOCH, OffsetDateTime::from);
        let machine = Self {
            build_time,
            load: Mutex::default(),
        };
        machine.cpu_percent();
        machine
    }

    /// When the program of this process was built.
    pub fn build_time(&self) -> OffsetDateTime {
        self.build_time
    }

    /// Memory and load.
    pub fn view(&self) -> HostView {
        let (total, available) = Meminfo::current().map_or((0, 0), |info| {
            (info.mem_total, info.mem_available.unwrap_or(info.mem_free))
        });
        HostView {
            frames: total / PAGE_BYTES,
            available_frames: available / PAGE_BYTES,
            paging: PagingView::default(),
            cpu_percent: self.cpu_percent(),
        }
    }

    fn cpu_percent(&self) -> Vec<u8> {
        let mut load = self.load.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(stat) = KernelStats::current() {
            load.update(
                stat.cpu_time
                    .iter()
                    .map(|cpu| {
                        let idle = cpu.idle + cpu.iowait.unwrap_or(0);
                        let busy = cpu.user
                            + cpu.nice
                            + cpu.system
                            + cpu.irq.unwrap_or(0)
                            + cpu.softirq.unwrap_or(0)
                            + cpu.steal.unwrap_or(0);
                        Times {
                            busy,
                            all: busy + idle,
                        }
                    })
                    .collect(),
            );
        }
        load.percent.clone()
    }
}

impl Load {
    fn update(&mut self, now: Vec<Times>) {
        let before = |cpu| self.times.get(cpu).copied().unwrap_or_default();
        // Asked twice within a tick, the figures of the last time are still the best there are.
        if !self.times.is_empty()
            && now
                .iter()
                .enumerate()
                .any(|(cpu, times)| times.all <= before(cpu).all)
        {
            return;
        }
        self.percent = now
            .iter()
            .enumerate()
            .map(|(cpu, times)| {
                let busy = times.busy.saturating_sub(before(cpu).busy);
                let all = times.all.saturating_sub(before(cpu).all).max(1);
                u8::try_from((busy * 100 / all).min(100)).unwrap_or(100)
            })
            .collect();
        self.times = now;
    }
}

/// The CPU time that a process has used; nothing if there is no such process.
pub fn cpu_time(pid: u32) -> Duration {
    let ticks = i32::try_from(pid)
        .ok()
        .and_then(|pid| procfs::process::Process::new(pid).ok())
        .and_then(|process| process.stat().ok())
        .map_or(0, |stat| stat.utime + stat.stime);
    Duration::from_millis(ticks * 1000 / procfs::ticks_per_second().max(1))
}

/// The number of CPUs of the host.
pub fn cpus() -> u32 {
    std::thread::available_parallelism()
        .map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_is_that_since_last_time() {
        let mut load = Load::default();
        load.update(vec![Times { busy: 50, all: 100 }]);
        assert_eq!(load.percent, [50]);
        load.update(vec![Times { busy: 75, all: 200 }]);
        assert_eq!(load.percent, [25]);
        load.update(vec![Times { busy: 75, all: 200 }]);
        assert_eq!(load.percent, [25]);
    }

    #[test]
    fn the_host_has_memory_and_this_process_a_time() {
        let view = Machine::new().view();
        assert!(view.frames > view.available_frames && view.available_frames > 0);
        assert!(!view.cpu_percent.is_empty());
        let start = cpu_time(std::process::id());
        assert!(cpu_time(std::process::id()) >= start);
        assert_eq!(cpu_time(u32::MAX), Duration::ZERO);
    }
}
