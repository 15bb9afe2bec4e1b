// SPDX-License-Identifier: GPL-2.0

//! Transcendent memory: pages that Linux would drop or write to swap go to pools that the
//! hypervisor has, and come back from there without a disk.
//!
//! - [`cache`] has the pools for clean page cache, [`swap`] that for pages that are swapped out.
//! - [`keeper`] looks from time to time: [`governor`] says whether pools for page cache are worth
//!   it, [`home`] whether there is room for swapped pages to come home.
//! - [`control`] switches both on and off, as [`sysctl`] says.
//! - [`counters`] shows in `/sys/kernel/debug/tmem` what became of pages, [`events`] in tracefs.
//!
//! How the hypervisor is reached says [`kernel::s390::tmem`].

use kernel::{
    kthread::Thread,
    prelude::*,
    s390::{
        machine::hypervisor,
        tmem::Tmem, //
    },
    sync::Arc, //
};

mod cache;
mod control;
mod counters;
mod events;
mod governor;
mod home;
mod keeper;
mod swap;
mod sysctl;

use control::Control;

module! {
    type: Module,
    name: "tmem",
    authors: ["The coopmem developers"],
    description: "Transcendent memory",
    license: "GPL",
    params: {
        cache: u32 {
            default: 1,
            description: "Keep clean page cache in the hypervisor: 1 yes, 0 no (default 1)",
            perm: 0o444,
        },
        swap: u32 {
            default: 1,
            description: "Keep swapped pages in the hypervisor: 1 yes, 0 no (default 1)",
            perm: 0o444,
        },
    },
}

/// The module.
#[pin_data]
struct Module {
    _thread: Thread,
    _sysctl: sysctl::Files,
    #[pin]
    _counters: counters::Files,
}

impl kernel::InPlaceModule for Module {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(move || {
            let tmem = Tmem::find().inspect_err(|&error| {
                if error == ENODEV {
                    pr_err!("{} has no transcendent memory\n", hypervisor());
                }
            })?;
            let control = Control::new(Arc::new(tmem, GFP_KERNEL)?, module)?;
            Ok(try_pin_init!(Self {
                _counters <- counters::files(control.clone()),
                _sysctl: sysctl::files(control.clone())?,
                _thread: {
                    let control = control.clone();
                    Thread::run(c"tmem", move || keeper::run(&control))?
                },
                // Last: nothing may fail any more once there are swapped pages.
                _: { start(&control)? },
            }? Error))
        })
    }
}

/// Switches on what the parameters say.
fn start(control: &Control) -> Result {
    control.set_cache(module_parameters::cache.value() != 0)?;
    control.set_swap(module_parameters::swap.value() != 0)
}
