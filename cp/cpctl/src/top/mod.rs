// SPDX-License-Identifier: GPL-2.0

//! The live view of a system and its guests.

mod draw;
mod keys;
mod screen;

use std::io::{self, IsTerminal, stdout};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser};
use cp_core::UserId;
use cp_proto::{Connection, Overview, Reply, Request};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEvent};
use ratatui::crossterm::terminal;
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use self::keys::{Order, View};
use crate::pages::{lower_verb, states_json, unexpected};
use crate::{Error, Output};

#[derive(Debug, Parser, PartialEq, Eq)]
#[command(bin_name = "cpctl", multicall = true)]
pub enum Command {
    Top(Top),
}

/// Shows guests, frames, paging and what VMRM decides, again and again; ? shows its keys
///
/// If the output is not a terminal, it shows them once. S sends SMSG CMM SHRINK in the name of --as: guests
/// obey only whom they know, VMRMSVM if nothing else is set in them.
#[derive(Debug, Args, PartialEq, Eq)]
pub struct Top {
    /// The seconds from one look to the next
    #[arg(long, value_name = "SECONDS", default_value = "2",
          value_parser = RangedU64ValueParser::<u32>::new().range(1..))]
    interval: u32,

    /// Once, on a terminal too
    #[arg(long)]
    once: bool,
}

impl Command {
    /// Parses a command line, the verb in either case.
    pub fn new(words: &[String]) -> Result<Self, clap::Error> {
        Self::try_parse_from(lower_verb(words))
    }

    /// Shows it once or, unless that is for a program, until somebody ends it.
    pub fn run(
        &self,
        connection: &mut Connection,
        operator: UserId,
        for_program: bool,
    ) -> Result<Output, Error> {
        let Self::Top(top) = self;
        let view = View::new(operator, overview(connection)?);
        if top.once || for_program || !stdout().is_terminal() {
            return Ok(once(&view));
        }
        top.live(connection, view)
    }
}

fn overview(connection: &mut Connection) -> Result<Overview, Error> {
    match connection.call(&Request::Overview)? {
        Reply::Overview(overview) => Ok(*overview),
        reply => Err(unexpected(reply)),
    }
}

fn once(view: &View) -> Output {
    let width = match terminal::size() {
        Ok((width, _)) if stdout().is_terminal() => width.into(),
        _ => usize::MAX,
    };
    let mut json = json!(view.overview);
    for (place, guest) in view.overview.guests.iter().enumerate() {
        json["guests"][place]["states"] = states_json(&guest.states);
    }
    Output {
        rc: 0,
        lines: draw::lines(view, width),
        json,
    }
}

/// What the loop waits for.
enum Input {
    Key(KeyEvent),
    Resized,
    End,
}

/// Keys and signals, each from a thread of its own, which ends with the process.
fn inputs() -> io::Result<Receiver<Input>> {
    let (events, inputs) = channel();
    let signals = events.clone();
    let mut ending = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    thread::Builder::new()
        .spawn(move || ending.forever().try_for_each(|_| signals.send(Input::End)))?;
    thread::Builder::new().spawn(move || {
        loop {
            let input = match event::read() {
                Ok(Event::Key(key)) if key.is_press() => Input::Key(key),
                Ok(Event::Resize(..)) => Input::Resized,
                Ok(_) => continue,
                Err(_) => Input::End,
            };
            if events.send(input).is_err() {
                return;
            }
        }
    })?;
    Ok(inputs)
}

impl Top {
    /// Draws until somebody ends it. The terminal is what it was then, also after an error or a panic.
    fn live(&self, connection: &mut Connection, view: View) -> Result<Output, Error> {
        let inputs = inputs().map_err(Error::Terminal)?;
        let ended = ratatui::try_init()
            .map_err(Error::Terminal)
            .and_then(|terminal| self.watch(connection, view, terminal, &inputs));
        ratatui::restore();
        ended.map(|()| Output::default())
    }

    fn watch(
        &self,
        connection: &mut Connection,
        mut view: View,
        mut terminal: DefaultTerminal,
        inputs: &Receiver<Input>,
    ) -> Result<(), Error> {
        let interval = Duration::from_secs(self.interval.into());
        let mut next = Instant::now() + interval;
        loop {
            terminal
                .draw(|frame| draw::draw(frame, &view))
                .map_err(Error::Terminal)?;
            match inputs.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(Input::Key(key)) => match view.key(key) {
                    Some(Order::End) => return Ok(()),
                    Some(Order::Shrink { user, pages }) => {
                        view.notice = shrink(connection, user, pages)?;
                    }
                    None => {}
                },
                Ok(Input::Resized) => {}
                Ok(Input::End) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => {
                    view.update(overview(connection)?);
                    next = Instant::now() + interval;
                }
            }
        }
    }
}

/// Sends the order, and says what came of it.
fn shrink(connection: &mut Connection, user: UserId, pages: u64) -> Result<String, Error> {
    let text = format!("SMSG {user} CMM SHRINK {pages}");
    let response = connection.command(&text)?;
    Ok(match response.rc {
        0 => format!("sent: {text}"),
        _ => response.lines.join(" "),
    })
}

#[cfg(test)]
mod tests;
