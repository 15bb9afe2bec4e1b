// SPDX-License-Identifier: GPL-2.0

//! Cooperative memory management: a balloon.

use kernel::prelude::*;

mod floor;
mod ledger;
mod message;
mod sender;

module! {
    type: Cmm,
    name: "cmm",
    authors: ["The coopmem developers"],
    description: "Cooperative memory management interface",
    license: "GPL",
}

struct Cmm;

impl kernel::Module for Cmm {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        Ok(Cmm)
    }
}
