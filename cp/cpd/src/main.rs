// SPDX-License-Identifier: GPL-2.0

//! The Control Program's daemon: one a system. Guests log on to it, operators issue commands.
//!
//! It ends on SIGINT and SIGTERM: guests are told and its socket is removed. If it is killed, the guests see their
//! connections end, and stop by themselves.

mod accounting;
mod daemon;
mod guest;
mod host;
mod iucv;
mod overview;
mod place;
mod ram;
mod real;
mod tmem;
mod vmrm;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use std::{error, thread};

use clap::Parser;
use cp_core::UserId;
use cp_core::size::{self, SizeError};
use cp_proto::default_socket;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::daemon::Daemon;
use crate::host::Machine;
use crate::place::Place;
use crate::real::{RealMemory, Setup};
use crate::tmem::TmemStore;
use crate::vmrm::Vmrm;

/// The Control Program of a system of virtual machines.
///
/// Prints one line when guests and operators can connect, and ends on SIGINT and SIGTERM.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// Where to listen [default: $XDG_RUNTIME_DIR/coopmem/cp.sock]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,

    /// The name of the system, as QUERY USERID shows it: 1 to 8 characters
    #[arg(long, value_name = "NAME", default_value = "COOPMEM")]
    system: UserId,

    /// The most memory that transcendent memory may take, such as 512M; `off`: there is none [default: a quarter of
    /// all]
    #[arg(long, value_name = "SIZE", value_parser = tmem_size)]
    tmem: Option<TmemSize>,

    /// The frames that guests and transcendent memory share, such as 512M; what does not fit is paged [default: what
    /// the host has, without paging]
    #[arg(long, value_name = "SIZE", value_parser = size::pages, requires = "page_volume")]
    frames: Option<u64>,

    /// The file of the paging volume, which is emptied
    #[arg(long, value_name = "PATH")]
    page_volume: Option<PathBuf>,

    /// The size of the paging volume
    #[arg(long, value_name = "SIZE", value_parser = size::pages, default_value = "4G")]
    page_size: u64,

    /// Write pages that are the next to leave before frames are short, as `SET AGELIST EARLYWRITES YES` does
    #[arg(long, requires = "frames")]
    early_writes: bool,

    /// How long a page-in takes at least, in microseconds
    #[arg(long, value_name = "US", default_value_t = 0)]
    page_latency: u64,

    /// The configuration of VMRM, which has guests release memory; SIGHUP has it read again [default: no VMRM]
    #[arg(long, value_name = "FILE")]
    vmrm: Option<PathBuf>,

    /// Also log single connections
    #[arg(long, short)]
    verbose: bool,
}

/// The most frames that transcendent memory may take; `None`: there is none.
#[derive(Clone, Copy, Debug)]
struct TmemSize(Option<u64>);

impl TmemSize {
    /// If all frames are so many, or those of the host.
    fn of(frames: Option<u64>) -> Self {
        let frames = frames.unwrap_or_else(|| Machine::new().view().frames);
        Self(Some(frames / 4))
    }

    fn store(self) -> rustix::io::Result<Option<TmemStore>> {
        self.0.map(TmemStore::new).transpose()
    }
}

fn tmem_size(text: &str) -> Result<TmemSize, SizeError> {
    if text.eq_ignore_ascii_case("off") {
        return Ok(TmemSize(None));
    }
    size::pages(text).map(|frames| TmemSize(Some(frames)))
}

fn main() -> ExitCode {
    let options = Options::parse();
    let level = if options.verbose {
        tracing::Level::DEBUG
    } else {
        tracing::Level::INFO
    };
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(false)
        .with_target(false)
        .with_max_level(level)
        .init();
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cpd: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<(), Box<dyn error::Error>> {
    let path = options
        .socket
        .or_else(default_socket)
        .ok_or("XDG_RUNTIME_DIR is not set: say with --socket PATH where to listen")?;
    // First, so that from the ready line on a signal ends us cleanly.
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let (place, listener) = Place::take(&path)?;
    let tmem = options.tmem.unwrap_or_else(|| TmemSize::of(options.frames));
    let tmem = tmem.store()?;
    let tmem = tmem.map(Arc::new);
    let real = match (options.frames, options.page_volume) {
        (Some(frames), Some(volume)) => {
            let setup = Setup {
                frames,
                volume,
                slots: u32::try_from(options.page_size)?,
                early_writes: options.early_writes,
                latency: Duration::from_micros(options.page_latency),
            };
            Some(Arc::new(RealMemory::new(&setup, tmem.clone())?))
        }
        _ => None,
    };
    let daemon = Arc::new(Daemon::new(options.system, tmem, real));
    daemon.scan()?;
    let vmrm = options
        .vmrm
        .map(|path| Vmrm::start(path, &daemon))
        .transpose()?;
    if vmrm.is_some() {
        signals.handle().add_signal(SIGHUP)?;
    }
    let server = Arc::clone(&daemon);
    thread::Builder::new().spawn(move || server.serve(&listener))?;

    let mut out = io::stdout();
    writeln!(
        out,
        "cpd: system {} ready on {}",
        options.system,
        path.display()
    )?;
    out.flush()?;

    while signals.forever().next() == Some(SIGHUP) {
        vmrm.iter().for_each(Vmrm::reload);
    }
    tracing::info!("system {} shuts down", options.system);
    // The socket first: nobody comes in any more.
    drop(place);
    daemon.shut_down("the system shuts down");
    Ok(())
}
