// SPDX-License-Identifier: GPL-2.0

//! Guest page hinting: the hypervisor is told what each page is used for.
//!
//! Pages that are free are *unused*: the hypervisor need not keep what is in them. That is the
//! page allocator's part, see [`kernel::s390::page_states`].
//!
//! Page cache that has not been used for a while is *volatile*: the hypervisor may take it, and
//! what it took is read again. How that is done says [`kernel::s390::volatile`].
//!
//! - [`sweeper`] makes page cache volatile, as [`policy`] and [`sysctl`] say; [`stats`] shows what
//!   became of it.
//! - [`table`] shows the states of all pages.
//! - [`unused`] has pages that are free reported, if that is to happen later than when they are
//!   freed.

use kernel::{
    debugfs::Scope,
    kthread::Thread,
    page_reporting::Registration,
    pr_warn_once,
    prelude::*,
    s390::{
        essa::Essa,
        machine::hypervisor, //
    },
    sync::Arc, //
};

mod policy;
mod stats;
mod sweeper;
mod sysctl;
mod table;
mod unused;

use policy::{
    Class,
    Tunables, //
};
use sweeper::Sweeper;

module! {
    type: PageHint,
    name: "page_hint",
    authors: ["The coopmem developers"],
    description: "Guest page hinting",
    license: "GPL",
    params: {
        volatile: u32 {
            default: 0,
            description: "Make page cache volatile that is not mapped: 1 yes, 0 no (default 0)",
            perm: 0o444,
        },
        mapped: u32 {
            default: 0,
            description: "Make page cache volatile that is mapped: 1 yes, 0 no (default 0)",
            perm: 0o444,
        },
        force: u32 {
            default: 0,
            description: "Do so under KVM, too, which forgets what it discarded (default 0)",
            perm: 0o444,
        },
    },
}

/// What lasts as long as the system.
#[pin_data]
struct PageHint {
    _unused: Option<Registration<unused::Reporter>>,
    #[pin]
    _files: Scope<Data>,
    _sysctl: sysctl::Files,
    _thread: Thread,
}

/// What the files in debugfs show.
struct Data {
    essa: Essa,
    sweeper: Arc<Sweeper>,
}

impl kernel::InPlaceModule for PageHint {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(|| {
            let essa = Essa::get().ok_or_else(|| {
                pr_info!("no page states here: there is no ESSA, or cmma=off was given\n");
                ENODEV
            })?;
            let sweeper = Sweeper::new(tunables())?;
            Ok(try_pin_init!(Self {
                _unused: unused::start(),
                _sysctl: sysctl::files(sweeper.clone())?,
                _thread: {
                    let sweeper = sweeper.clone();
                    Thread::run(c"page_hint", move || sweeper.run())?
                },
                _files <- Scope::dir(Data { essa, sweeper }, c"page_hint", |data, dir| {
                    table::file(&data.essa, dir);
                    stats::files(&data.sweeper, dir);
                }),
            }? Error))
        })
    }
}

/// Reads the parameters `volatile` and `mapped`.
fn tunables() -> Tunables {
    let mut tunables = Tunables::DEFAULT;
    for (class, value) in [
        (Class::Unmapped, module_parameters::volatile.value()),
        (Class::Mapped, module_parameters::mapped.value()),
    ] {
        tunables.volatile[class] = value != 0 && allowed().is_ok();
    }
    tunables
}

/// Whether page cache may become volatile here.
fn allowed() -> Result {
    if !policy::permits(hypervisor(), module_parameters::force.value() != 0) {
        pr_warn_once!("no volatile page cache: KVM would lose it, see page_hint.force\n");
        return Err(EOPNOTSUPP);
    }
    Ok(())
}
