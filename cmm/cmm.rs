// SPDX-License-Identifier: GPL-2.0

//! Cooperative memory management: a balloon.
//!
//! When a hypervisor runs short of memory, it, or an operator, or z/VM's resource manager (VMRM),
//! tells guests how many pages to do without. This module takes that many pages from its guest
//! and releases them to the hypervisor with DIAGNOSE X'10'.
//!
//! - [`message`], [`orders`] and [`sender`] take orders by special message (SMSG) of z/VM.
//! - [`sysctl`] takes orders by `/proc/sys/vm/cmm_*`.
//! - [`ledger`] and [`floor`] say what is to be done, and how far; [`load`], whether the
//!   hypervisor is short of memory.
//! - [`balloon`] does it.
//! - [`counters`] shows it in `/sys/kernel/debug/cmm`, [`events`] in tracefs.
//!
//! It takes the place of [`arch/s390/mm/cmm.c`](srctree/arch/s390/mm/cmm.c).

use kernel::{
    kthread::Thread,
    mm,
    oom,
    prelude::*,
    s390::machine::hypervisor,
    shrinker,
    str::BStr,
    sync::Arc, //
};

#[cfg(CONFIG_COOPMEM_CMM_IUCV)]
use kernel::s390::{
    machine::Hypervisor,
    smsg, //
};

mod balloon;
mod counters;
mod events;
mod floor;
mod ledger;
mod load;
mod message;
#[cfg(CONFIG_COOPMEM_CMM_IUCV)]
mod orders;
mod sender;
mod sysctl;

use balloon::{
    Engine,
    FirstResort,
    LastResort, //
};
use sender::{
    Senders,
    SendersError, //
};

module! {
    type: Cmm,
    name: "cmm",
    authors: ["The coopmem developers"],
    description: "Cooperative memory management interface",
    license: "GPL",
    params: {
        sender: string {
            default: c"VMRMSVM",
            description: "User IDs that may send SMSG messages (default VMRMSVM; empty: anyone)",
            perm: 0o400,
        },
        floor: u32 {
            default: 0,
            description: "MiB of available memory left to the guest (default 0: 1/16 of all)",
            perm: 0o444,
        },
    },
}

/// The thread that works the balloon.
struct Worker {
    engine: Arc<Engine>,
    thread: Option<Thread>,
}

impl Worker {
    fn new(engine: Arc<Engine>) -> Result<Self> {
        let batch = Engine::batch()?;
        let arg = engine.clone();
        let thread = Thread::run(c"cmmthread", move || arg.run(batch))?;
        Ok(Self {
            engine,
            thread: Some(thread),
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // The thread waits for the ledger to change, not for being stopped.
        self.engine.stop();
        drop(self.thread.take());
    }
}

/// The module. What brings requests goes first when it is dropped, the pages go last.
#[pin_data]
struct Cmm {
    #[cfg(CONFIG_COOPMEM_CMM_IUCV)]
    _orders: Option<smsg::Registration<orders::Orders>>,
    _sysctl: sysctl::Files,
    #[pin]
    _counters: counters::Files,
    _shrinker: shrinker::Registration<FirstResort>,
    #[pin]
    _oom: oom::Registration<LastResort>,
    _worker: Worker,
}

impl kernel::InPlaceModule for Cmm {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(move || {
            // A list that is wrong is refused even if there will be no messages.
            #[cfg_attr(not(CONFIG_COOPMEM_CMM_IUCV), expect(unused_variables))]
            let senders = senders()?;
            try_out()?;
            let engine = Engine::new(floor())?;
            Ok(try_pin_init!(Self {
                _worker: Worker::new(engine.clone())?,
                _shrinker: shrinker::Registration::new(c"cmm", FirstResort(engine.clone()))?,
                _oom <- oom::Registration::new(LastResort(engine.clone())),
                _counters <- counters::files(engine.clone()),
                _sysctl: sysctl::files(engine.clone())?,
                #[cfg(CONFIG_COOPMEM_CMM_IUCV)]
                _orders: orders(engine, senders)?,
            }? Error))
        })
    }
}

/// Reads the parameter `sender`.
fn senders() -> Result<Senders> {
    let list = module_parameters::sender.value();
    Senders::new(BStr::from_bytes(list.to_bytes())).map_err(|error| match error {
        SendersError::Name(name) => {
            pr_err!("parameter sender: {name}\n");
            EINVAL
        }
        SendersError::NoMemory => ENOMEM,
    })
}

/// Reads the parameter `floor`. Returns pages.
fn floor() -> usize {
    match module_parameters::floor.value() {
        0 => floor::default(mm::total_pages()),
        mib => floor::from_mib(mib as usize),
    }
}

/// Finds out whether there is a hypervisor that takes pages, by giving it one.
fn try_out() -> Result {
    balloon::trial().map_err(|error| {
        if error == ENOMEM {
            return error;
        }
        pr_err!(
            "no balloon here: DIAGNOSE X'10', which releases pages, is not known under {}\n",
            hypervisor()
        );
        ENODEV
    })
}

/// Takes orders by SMSG, where there is such a thing.
#[cfg(CONFIG_COOPMEM_CMM_IUCV)]
fn orders(
    engine: Arc<Engine>,
    senders: Senders,
) -> Result<Option<smsg::Registration<orders::Orders>>> {
    if hypervisor() != Hypervisor::Zvm {
        pr_info!(
            "no orders by SMSG under {}: use /proc/sys/vm/cmm_pages\n",
            hypervisor()
        );
        return Ok(None);
    }
    smsg::Registration::new(orders::Orders { engine, senders }, GFP_KERNEL).map(Some)
}
