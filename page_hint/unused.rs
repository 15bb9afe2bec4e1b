// SPDX-License-Identifier: GPL-2.0

//! Pages that have been free for a while become unused: `page_hint.unused=lazy`.

use kernel::{
    page_reporting::{
        FreeBlock,
        Operations,
        Registration, //
    },
    prelude::*,
    s390::page_states, //
};

/// Makes the pages unused that are reported as free.
pub(crate) struct Reporter;

impl Operations for Reporter {
    // Each single page counts.
    const ORDER: u32 = 0;
    // An ESSA is short, and each block is reported only once.
    const PASSES: u32 = 1;

    fn report(block: FreeBlock<'_>) -> Result {
        page_states::report(&block)
    }
}

/// Starts if the parameter says so.
///
/// Without memory, or if somebody else has free pages reported, pages become unused when they are
/// freed, as they do by default.
pub(crate) fn start() -> Option<Registration<Reporter>> {
    if !page_states::is_lazy() {
        return None;
    }
    let started = Registration::new().and_then(|reporter| {
        page_states::start_lazy()?;
        Ok(reporter)
    });
    if let Err(error) = started {
        pr_warn!("unused=lazy is not possible ({error:?}): unused=classic instead\n");
        page_states::be_classic().ok();
    }
    started.ok()
}
