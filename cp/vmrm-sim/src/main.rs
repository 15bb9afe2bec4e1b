// SPDX-License-Identifier: GPL-2.0

//! Plays recorded traces on thousands of guests, with VMRM and without.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use cp_core::vmrm::{Config, ConfigError, Policy};
use serde::Serialize;
use thiserror::Error;
use vmrm_sim::{Outcome, Part, Trace, TraceError, play};

/// Plays what real guests did on many, with VMRM and without.
///
/// A trace file is a JSON list of guests: `{"storage": pages, "least": pages, "samples": [[milliseconds, pages held,
/// milliseconds of CPU time], ...]}`. Each simulated guest plays one of them over and over, with rests, from somewhere in
/// it on.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// How many guests
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    guests: u32,

    /// How many times their storage is that of the machine [default: 1.5 1.75 2]
    #[arg(long, value_name = "FACTOR", value_parser = factor)]
    overcommit: Vec<f64>,

    /// How many times as long as a trace a guest rests when it has played it
    #[arg(long, value_name = "TIMES", default_value_t = 4, value_parser = clap::value_parser!(u32).range(0..=1000))]
    rest: u32,

    /// How long
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    minutes: u32,

    /// VMRM's configuration; guests are LNX00000, LNX00001 and so on [default: all, every 2 seconds]
    #[arg(long, value_name = "FILE")]
    vmrm: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// What was recorded
    #[arg(required = true, value_name = "TRACES")]
    files: Vec<PathBuf>,
}

#[derive(Debug, Error)]
enum Error {
    #[error("{0}: {1}")]
    Read(PathBuf, #[source] io::Error),
    #[error("{0}: {1}")]
    Json(PathBuf, #[source] serde_json::Error),
    #[error("{0}, guest {1}: {2}")]
    Trace(PathBuf, usize, #[source] TraceError),
    #[error("{0}: {1}")]
    Config(PathBuf, #[source] ConfigError),
    #[error("there is no guest in these files")]
    Nobody,
    #[error("{0}")]
    Write(#[from] io::Error),
}

/// One row of the table. Pages and messages are those of a guest in a minute.
#[derive(Serialize)]
struct Row {
    overcommit: f64,
    vmrm: bool,
    intervals: usize,
    short_percent: f64,
    longest_short: usize,
    page_ins: f64,
    page_outs: f64,
    messages: f64,
    turns: f64,
}

impl Row {
    fn new(options: &Options, overcommit: f64, vmrm: bool, outcome: &Outcome) -> Self {
        let each = |count: f64| count / f64::from(options.guests) / f64::from(options.minutes);
        Self {
            overcommit,
            vmrm,
            intervals: outcome.intervals,
            short_percent: 100.0 * outcome.short as f64 / outcome.intervals as f64,
            longest_short: outcome.longest_short,
            page_ins: each(outcome.page_ins as f64),
            page_outs: each(outcome.page_outs as f64),
            messages: each(outcome.messages as f64),
            turns: each(outcome.turns as f64),
        }
    }
}

fn factor(text: &str) -> Result<f64, String> {
    let allowed = 0.1..=100.0;
    match text.parse() {
        Ok(factor) if allowed.contains(&factor) => Ok(factor),
        _ => Err(String::from("a number from 0.1 to 100 is needed")),
    }
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|error| Error::Read(path.into(), error))
}

fn parts(path: &Path, interval: Duration, rest: u32) -> Result<Vec<Part>, Error> {
    let traces: Vec<Trace> =
        serde_json::from_str(&read(path)?).map_err(|error| Error::Json(path.into(), error))?;
    let number = |(number, trace): (usize, Trace)| {
        trace
            .part(interval)
            .map(|part| part.and_rest(rest))
            .map_err(|error| Error::Trace(path.into(), number, error))
    };
    traces.into_iter().enumerate().map(number).collect()
}

fn config(path: Option<&Path>) -> Result<Config, Error> {
    let (path, text) = match path {
        Some(path) => (path, read(path)?),
        None => (
            Path::new("built in"),
            String::from("NOTIFY MEMORY LNX*\nMEMORY INTERVAL 2"),
        ),
    };
    Config::parse(&text).map_err(|error| Error::Config(path.into(), error))
}

fn run(options: &Options) -> Result<(), Error> {
    let config = config(options.vmrm.as_deref())?;
    let interval = config.interval;
    let mut all = Vec::new();
    for path in &options.files {
        all.extend(parts(path, interval, options.rest)?);
    }
    if all.is_empty() {
        return Err(Error::Nobody);
    }
    let factors = match &options.overcommit[..] {
        [] => &[1.5, 1.75, 2.0],
        factors => factors,
    };
    let intervals = (u64::from(options.minutes) * 60).div_ceil(interval.as_secs()) as usize;
    let mut rows = Vec::new();
    for &overcommit in factors {
        for vmrm in [false, true] {
            let policy = vmrm.then(|| Policy::new(config.clone()));
            let outcome = play(
                &all,
                options.guests as usize,
                overcommit,
                interval,
                intervals,
                policy,
            );
            rows.push(Row::new(options, overcommit, vmrm, &outcome));
        }
    }
    print(options, &rows)
}

fn print(options: &Options, rows: &[Row]) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    if options.json {
        serde_json::to_writer_pretty(&mut out, rows).map_err(io::Error::from)?;
        return Ok(writeln!(out)?);
    }
    let (guests, minutes) = (options.guests, options.minutes);
    writeln!(
        out,
        "{guests} guests, {minutes} minutes; short: in how many intervals less than 2 % of the frames were available, and\n\
         how many in a row; pages and messages a guest and minute"
    )?;
    writeln!(
        out,
        "{:>10}  {:<18}{:>7}{:>9}{:>10}{:>11}{:>10}{:>7}",
        "overcommit", "", "short", "in a row", "page-ins", "page-outs", "messages", "turns"
    )?;
    for row in rows {
        writeln!(
            out,
            "{:>10.2}  {:<18}{:>6.1}%{:>9}{:>10.1}{:>11.1}{:>10.2}{:>7.2}",
            row.overcommit,
            if row.vmrm {
                "VMRM"
            } else {
                "host paging alone"
            },
            row.short_percent,
            row.longest_short,
            row.page_ins,
            row.page_outs,
            row.messages,
            row.turns,
        )?;
    }
    Ok(())
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vmrm-sim: {error}");
            ExitCode::FAILURE
        }
    }
}
