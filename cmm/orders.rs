// SPDX-License-Identifier: GPL-2.0

//! Orders by special message (SMSG).

use kernel::{
    prelude::*,
    s390::smsg,
    str::BStr,
    sync::Arc, //
};

use crate::{
    balloon::Engine,
    message::{
        self,
        Refusal, //
    },
    sender::Senders, //
};

/// Takes messages from those who may send them.
pub(crate) struct Orders {
    pub(crate) engine: Arc<Engine>,
    pub(crate) senders: Senders,
}

impl Orders {
    fn follow(&self, from: &BStr, text: &BStr) -> Result<(), Refusal> {
        if !self.senders.allow(from) {
            return Err(Refusal::Sender);
        }
        self.engine.request(message::parse(text)?)
    }
}

static SLOT: smsg::Slot<Orders> = smsg::Slot::new();

impl smsg::Handler for Orders {
    const PREFIX: &'static CStr = message::PREFIX;

    fn slot() -> &'static smsg::Slot<Self> {
        &SLOT
    }

    fn message(&self, from: &BStr, text: &BStr) {
        let counters = self.engine.counters();
        match self.follow(from, text) {
            Ok(()) => counters.accepted.add(1),
            Err(refusal) => {
                counters.refused[refusal.index()].add(1);
                if self.engine.may_print() {
                    pr_notice!("message from {from} refused: {refusal}: {text:?}\n");
                }
            }
        }
    }
}
