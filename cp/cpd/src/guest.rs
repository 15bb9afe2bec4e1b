// SPDX-License-Identifier: GPL-2.0

//! A guest that is logged on, seen from `cpd`: its storage, its counters, the states of its pages and the way to tell it
//! something.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use cp_core::UserId;
use cp_core::page_state::{State, StateTable};
use cp_core::respond::{PAGE_BYTES, Usage};
use cp_core::tmem::ClientId;
use cp_proto::counters::{self, COUNTERS_BYTES, Counter};
use cp_proto::{Event, Report, Selection, Session, Socket, Taken};
use rustix::io::{pread, retry_on_intr};

use crate::host;
use crate::ram::{GuestRam, RamError, check_size};
use crate::real::Pager;

/// How many events may wait for a guest to read them: more than all paths of `*MSG` and some programs' messages can
/// make at once. A guest that leaves more unread does not live any more.
const EVENT_QUEUE: usize = 16 * 1024;

/// How long a guest may leave an event unread once its socket is full as well.
const EVENT_LIMIT: Duration = Duration::from_secs(30);

/// What waits in a guest's queue.
#[derive(Debug)]
enum Outgoing {
    Event(Event),
    /// Somebody wants to know when everything before this has been sent.
    Mark(Sender<()>),
}

/// What a guest brings along.
#[derive(Debug)]
pub struct Resources {
    /// Its storage.
    pub ram: Arc<GuestRam>,
    counters: OwnedFd,
    /// The table of its page states.
    pub page_states: OwnedFd,
    /// Its process.
    pub pid: u32,
}

impl Resources {
    /// Checks the file descriptors that came with a guest's hello. `pid` is its process.
    pub fn new(
        [ram, counters, page_states]: [OwnedFd; 3],
        storage_bytes: u64,
        pid: u32,
    ) -> Result<Self, RamError> {
        check_size(&counters, "page of counters", COUNTERS_BYTES as u64)?;
        let pages = storage_bytes / PAGE_BYTES;
        check_size(&page_states, "table of page states", pages)?;
        Ok(Self {
            ram: Arc::new(GuestRam::new(ram, storage_bytes)?),
            counters,
            page_states,
            pid,
        })
    }

    /// How many pages are in which state, all counted while the guest goes on.
    pub fn states(&self) -> StateTable {
        let mut table = StateTable::default();
        let mut resident = self.ram.resident();
        let mut states = [0; 64 << 10];
        let mut page = 0;
        let pages = self.ram.pages();
        while page < pages {
            let wanted = states.len().min((pages - page) as usize);
            // Nothing if the file has shrunk.
            match retry_on_intr(|| pread(&self.page_states, &mut states[..wanted], page)) {
                Ok(0) | Err(_) => break,
                Ok(read) => {
                    for (address, &byte) in
                        (page..).map(|page| page * PAGE_BYTES).zip(&states[..read])
                    {
                        table.count(State::new(byte).with_host(|| resident.contains(address)));
                    }
                    page += read as u64;
                }
            }
        }
        table
    }

    /// All counters, as they are now.
    pub fn counters(&self) -> Vec<(Counter, u64)> {
        let mut page = [0; COUNTERS_BYTES];
        let length = retry_on_intr(|| pread(&self.counters, &mut page[..], 0)).unwrap_or(0);
        counters::read(&page[..length])
    }

    /// What its pager has counted, if it has one.
    pub fn paged(&self) -> impl Iterator<Item = (String, u64)> {
        let view = self.ram.pager().map(Pager::view);
        let counts = view.map(|view| {
            [
                ("page_ins", view.page_ins),
                ("pages_in", view.pages_in),
                ("pages_out", view.pages_out),
                ("pages_stayed", view.stayed),
                ("pages_written", view.written),
                ("pages_written_early", view.written_early),
            ]
        });
        counts
            .into_iter()
            .flatten()
            .map(|(name, count)| (name.into(), count))
    }

    /// One counter, as it is now.
    pub fn counter(&self, counter: Counter) -> u64 {
        self.counters()
            .into_iter()
            .find(|&(each, _)| each == counter)
            .map_or(0, |(_, value)| value)
    }

    /// What the guest uses.
    pub fn usage(&self) -> Usage {
        let paged = self.ram.pager().map(Pager::view).unwrap_or_default();
        Usage {
            resident_pages: self.ram.resident_pages(),
            preserved_pages: paged.preserved,
            page_reads: paged.pages_in,
            page_writes: paged.pages_out,
            cpu_time: host::cpu_time(self.pid),
            essa_calls: self.counter(Counter::EssaCalls),
        }
    }
}

/// A guest that is logged on.
#[derive(Debug)]
pub struct Guest {
    /// What it brought along.
    pub resources: Resources,
    /// What its CPUs must know.
    pub session: Session,
    /// How often it was reset.
    pub resets: u64,
    /// Its part of transcendent memory, if there is any.
    pub tmem: Option<ClientId>,
    /// The connections of its CPUs.
    pub cpus: BTreeMap<u32, Arc<Socket>>,
    socket: Arc<Socket>,
    events: SyncSender<Outgoing>,
    sender: JoinHandle<()>,
    /// Those who wait for pages of it, by the number of their request.
    takers: BTreeMap<u64, Sender<Taken>>,
    takes: u64,
    /// Those who wait for it to stop.
    holders: Vec<Sender<()>>,
}

impl Guest {
    /// Takes a guest in. `socket` is its connection, on which events are sent from here on.
    pub fn new(
        user: UserId,
        session: Session,
        resources: Resources,
        socket: Arc<Socket>,
    ) -> io::Result<Self> {
        let (events, queue) = sync_channel(EVENT_QUEUE);
        let connection = Arc::clone(&socket);
        let sender =
            thread::Builder::new().spawn(move || send_events(user, &connection, &queue))?;
        Ok(Self {
            resources,
            session,
            resets: 0,
            tmem: None,
            cpus: BTreeMap::new(),
            socket,
            events,
            sender,
            takers: BTreeMap::new(),
            takes: 0,
            holders: Vec::new(),
        })
    }

    /// Tells the guest something, without waiting for it. `false` if it does not listen any more.
    #[must_use]
    pub fn tell(&self, event: Event) -> bool {
        match self.events.try_send(Outgoing::Event(event)) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }

    /// Asks the guest for pages, without waiting for it. `None` if it does not listen any more.
    pub fn take(&mut self, selection: Selection) -> Option<Receiver<Taken>> {
        let id = self.takes;
        self.takes += 1;
        let (taker, taken) = channel();
        self.takers.insert(id, taker);
        self.tell(Event::Take { id, selection }).then_some(taken)
    }

    /// Stops the guest, without waiting for it. `None` if it does not listen any more.
    pub fn hold(&mut self) -> Option<Receiver<()>> {
        let (holder, held) = channel();
        self.holders.push(holder);
        self.tell(Event::Hold).then_some(held)
    }

    /// The guest has told something. Who asked may not wait for it any more.
    pub fn reported(&mut self, report: &Report) {
        match *report {
            Report::Taken { id, taken } => {
                if let Some(taker) = self.takers.remove(&id) {
                    let _ = taker.send(taken);
                }
            }
            // Is not the guest's to deal with, since a file descriptor came along.
            Report::Paging { .. } => {}
            Report::Held => {
                for holder in self.holders.drain(..) {
                    let _ = holder.send(());
                }
            }
        }
    }

    /// Receives something when all events so far have been sent, or fails when they will not be.
    pub fn mark(&self) -> Receiver<()> {
        let (reached, marked) = channel();
        // A full queue drops the mark, and with it what would reach it.
        let _ = self.events.try_send(Outgoing::Mark(reached));
        marked
    }

    /// Ends the guest's connections, the one for events after it has been told why: then the thread ends.
    pub fn dismiss(self, reason: &str) -> JoinHandle<()> {
        for socket in self.cpus.values() {
            socket.shut_down();
        }
        if !self.tell(Event::Logoff {
            reason: reason.into(),
        }) {
            self.socket.shut_down();
        }
        self.sender
    }
}

/// Sends events until the guest is dropped, and what waits then; ends the connection after it.
fn send_events(user: UserId, socket: &Socket, queue: &Receiver<Outgoing>) {
    let send = |outgoing| match outgoing {
        Outgoing::Event(event) => socket.send(&event),
        Outgoing::Mark(reached) => {
            // Who asked may not wait for it any more.
            let _ = reached.send(());
            Ok(())
        }
    };
    let sent = socket
        .set_send_timeout(Some(EVENT_LIMIT))
        .and_then(|()| queue.iter().try_for_each(send));
    if let Err(error) = sent {
        tracing::debug!("{user}: no more events: {error}");
    }
    socket.shut_down();
}
