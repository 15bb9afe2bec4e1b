// SPDX-License-Identifier: GPL-2.0

//! VMRM's service machine: a thread that looks at the system from time to time, has [`cp_core::vmrm`] decide, and sends
//! the messages.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Instant;

use cp_core::UserId;
use cp_core::command::Reception;
use cp_core::respond::{PAGE_BYTES, SystemView};
use cp_core::system::{Authority, Caller, Host};
use cp_core::user_id::UserIdError;
use cp_core::vmrm::{Config, ConfigError, Decision, GuestSample, Policy, Sample};
use cp_proto::{Reply, Response};
use thiserror::Error;

use crate::daemon::{Core, Daemon};
use crate::guest::Guest;

/// In whose name messages are sent: the one that `cmm` obeys if nothing is said.
const USER: &str = "VMRMSVM";

/// Why there is no VMRM, or why it keeps its old configuration.
#[derive(Debug, Error)]
pub enum VmrmError {
    /// The file cannot be read.
    #[error("{0}: {1}")]
    Read(PathBuf, #[source] io::Error),
    /// The file is wrong.
    #[error("{0}: {1}")]
    Config(PathBuf, #[source] ConfigError),
    /// No user ID.
    #[error(transparent)]
    User(#[from] UserIdError),
    /// No thread.
    #[error("no thread for VMRM: {0}")]
    Thread(#[source] io::Error),
}

/// A VMRM at work. It ends when this is dropped.
#[derive(Debug)]
pub struct Vmrm {
    reload: Sender<()>,
}

impl Vmrm {
    /// Reads the configuration and begins.
    pub fn start(path: PathBuf, daemon: &Arc<Daemon>) -> Result<Self, VmrmError> {
        let mut machine = ServiceMachine {
            caller: Caller {
                user: UserId::new(USER)?,
                authority: Authority::Operator,
            },
            policy: Policy::new(read(&path)?),
            path,
            daemon: Arc::clone(daemon),
            start: Instant::now(),
        };
        let (reload, requests) = channel();
        thread::Builder::new()
            .name(USER.into())
            .spawn(move || machine.run(&requests))
            .map_err(VmrmError::Thread)?;
        Ok(Self { reload })
    }

    /// Has the configuration read again, soon. If it is wrong, the old one stays in effect.
    pub fn reload(&self) {
        // It lives as long as we do.
        let _ = self.reload.send(());
    }
}

struct ServiceMachine {
    path: PathBuf,
    caller: Caller,
    policy: Policy,
    daemon: Arc<Daemon>,
    start: Instant,
}

fn read(path: &Path) -> Result<Config, VmrmError> {
    let text =
        std::fs::read_to_string(path).map_err(|error| VmrmError::Read(path.into(), error))?;
    Config::parse(&text).map_err(|error| VmrmError::Config(path.into(), error))
}

impl ServiceMachine {
    fn run(&mut self, requests: &Receiver<()>) {
        let mut next = Instant::now();
        loop {
            match requests.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(()) => self.reload(),
                Err(RecvTimeoutError::Timeout) => {
                    self.manage();
                    next = Instant::now() + self.policy.config().interval;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn reload(&mut self) {
        match read(&self.path) {
            Ok(config) => {
                self.policy.set_config(config);
                tracing::info!("VMRM: {} was read again", self.path.display());
            }
            Err(error) => tracing::error!("VMRM keeps its configuration: {error}"),
        }
    }

    /// Looks at the system and tells guests what has been decided.
    fn manage(&mut self) {
        let sample = self.sample(&self.daemon.lock());
        for decision in self.policy.decide(&sample) {
            tracing::info!("{decision}");
            if let Err(reason) = self.tell(&decision) {
                tracing::warn!("VMRM: {} was not told: {reason}", decision.user);
                self.policy.undelivered(&decision);
            }
        }
        tracing::debug!("VMRM has looked at {} guests", sample.guests.len());
    }

    /// Sends the message, and lets the administrator know.
    fn tell(&self, decision: &Decision) -> Result<(), String> {
        let mut core = self.daemon.lock();
        core.note_decision(decision.to_string());
        let mut issue = |text: &str| match core.command(self.caller, text) {
            Reply::Command(Response { rc: 0, .. }) => Ok(()),
            Reply::Command(Response { lines, .. }) => Err(lines.join("; ")),
            other => Err(format!("{other:?}")),
        };
        let told = issue(&format!("SMSG {} {}", decision.user, decision.message()));
        if let Some(admin) = self.policy.config().msg_user {
            // Who is not logged on, or wants no messages, has the log.
            let _ = issue(&format!("MESSAGE {admin} {decision}"));
        }
        core.deliver();
        told
    }

    /// The system, and the guests that take special messages.
    fn sample(&self, core: &Core) -> Sample {
        let facts = core.facts();
        let view = core.system.view(&facts);
        let host = facts.machine();
        let mut sample = Sample {
            time: self.start.elapsed(),
            frames: host.frames,
            available: host.available_frames,
            ..Sample::default()
        };
        for (&id, guest) in &core.guests {
            let Some(user) = view.user(id) else {
                continue;
            };
            let usage = user.usage;
            sample.page_ins += usage.page_reads;
            sample.page_outs += usage.page_writes;
            if user.settings.smsg == Reception::Iucv {
                let seen = GuestSample {
                    life: life(guest),
                    storage: user.storage_bytes / PAGE_BYTES,
                    resident: usage.resident_pages,
                    preserved: usage.preserved_pages,
                    cpu_time: usage.cpu_time,
                    page_ins: usage.page_reads,
                };
                sample.guests.insert(id, seen);
            }
        }
        sample
    }
}

/// Another number after each logon and reset.
fn life(guest: &Guest) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = guest.session.0;
    u64::from_ne_bytes([a, b, c, d, e, f, g, h]).wrapping_add(guest.resets)
}
