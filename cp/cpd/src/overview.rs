// SPDX-License-Identifier: GPL-2.0

//! The whole system at one look: what `cpctl top` shows.

use cp_core::UserId;
use cp_core::respond::{PAGE_BYTES, SystemView};
use cp_core::system::{Authority, Caller, Host};
use cp_core::tmem::GuestView;
use cp_proto::{FrameUse, GuestUse, Overview, PagingUse, Pools, Reply};
use time::OffsetDateTime;

use crate::accounting::microseconds;
use crate::daemon::{Core, Daemon, failed};

/// For operators only. The lock is given up after each guest, whose page states take time to count.
pub fn reply(daemon: &Daemon, caller: Caller) -> Reply {
    if caller.authority == Authority::General {
        return failed("the overview is for operators only");
    }
    let store = daemon.lock().tmem.clone();
    let pools = match store.as_ref().map(|store| store.control(Pools::List(None))) {
        Some(Ok(Reply::Pools(listing))) => listing.guests,
        _ => Vec::new(),
    };
    let users: Vec<_> = daemon.lock().guests.keys().copied().collect();
    let guests: Vec<_> = users
        .into_iter()
        .filter_map(|user| guest(&daemon.lock(), user, &pools))
        .collect();
    let core = daemon.lock();
    let host = core.facts().machine();
    let (tmem, tmem_ephemeral) =
        store.map_or((0, 0), |store| (store.frames(), store.ephemeral_frames()));
    Reply::Overview(Box::new(Overview {
        system: core.system.name().into(),
        time_us: (OffsetDateTime::now_utc() - OffsetDateTime::UNIX_EPOCH)
            .try_into()
            .map_or(0, microseconds),
        frames: FrameUse {
            all: host.frames,
            available: host.available_frames,
            guests: guests.iter().map(|guest| guest.resident).sum(),
            tmem_ephemeral,
            tmem_persistent: tmem.saturating_sub(tmem_ephemeral),
        },
        paging: PagingUse {
            pages: host.paging.pages,
            in_use: host.paging.in_use,
            rate: host.paging.rate,
        },
        guests,
        decisions: core.decisions.iter().cloned().collect(),
    }))
}

/// `None` if it has logged off meanwhile.
fn guest(core: &Core, user_id: UserId, pools: &[GuestView]) -> Option<GuestUse> {
    let user = core.system.view(&core.facts()).user(user_id)?;
    Some(GuestUse {
        user_id,
        storage: user.storage_bytes / PAGE_BYTES,
        resident: user.usage.resident_pages,
        preserved: user.usage.preserved_pages,
        states: core.guests.get(&user_id)?.resources.states(),
        asked: user.settings.asked,
        pages_in: user.usage.page_reads,
        pages_out: user.usage.page_writes,
        tmem_frames: pools
            .iter()
            .filter(|guest| guest.user_id == user_id)
            .flat_map(|guest| &guest.pools)
            .map(|pool| pool.frames)
            .sum(),
        cpu_time_us: microseconds(user.usage.cpu_time),
    })
}
