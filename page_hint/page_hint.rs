// SPDX-License-Identifier: GPL-2.0

//! Guest page hinting: the hypervisor is told what each page is used for.
//!
//! Pages that are free are *unused*: the hypervisor need not keep what is in them. That is the
//! page allocator's part, see [`kernel::s390::page_states`].
//!
//! - [`table`] shows the states of all pages.
//! - [`unused`] has pages that are free reported, if that is to happen later than when they are
//!   freed.

use kernel::{
    debugfs::Scope,
    page_reporting::Registration,
    prelude::*,
    s390::essa::Essa, //
};

mod table;
mod unused;

module! {
    type: PageHint,
    name: "page_hint",
    authors: ["The coopmem developers"],
    description: "Guest page hinting",
    license: "GPL",
}

/// What lasts as long as the system.
#[pin_data]
struct PageHint {
    _unused: Option<Registration<unused::Reporter>>,
    #[pin]
    _files: Scope<Essa>,
}

impl kernel::InPlaceModule for PageHint {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(|| {
            let essa = Essa::get().ok_or_else(|| {
                pr_info!("no page states here: there is no ESSA, or cmma=off was given\n");
                ENODEV
            })?;
            Ok(try_pin_init!(Self {
                _unused: unused::start(),
                _files <- Scope::dir(essa, c"page_hint", |essa, dir| {
                    table::file(essa, dir);
                }),
            }? Error))
        })
    }
}
