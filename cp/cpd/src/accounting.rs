// SPDX-License-Identifier: GPL-2.0

//! Accounting records: what DIAGNOSE X'2FC' shows.

use cp_core::UserId;
use cp_core::respond::{PAGE_BYTES, SystemView};
use cp_core::system::{Authority, Caller};
use cp_proto::{Accounting, Reply};

use crate::daemon::Core;
use crate::host;

/// The records of one guest or of all. A guest sees its own only: who asks for another one's learns that it is not
/// there, and who asks for all gets one.
pub fn reply(core: &Core, caller: Caller, user_id: Option<UserId>) -> Reply {
    let facts = core.facts();
    let view = core.system.view(&facts);
    let visible = |&user: &UserId| caller.authority == Authority::Operator || user == caller.user;
    let users = match user_id {
        Some(user) => vec![user],
        None => view.users(),
    };
    let host_cpus = host::cpus();
    let records = users
        .into_iter()
        .filter(visible)
        .filter_map(|user_id| {
            let user = view.user(user_id)?;
            Some(Accounting {
                user_id,
                storage_kib: user.storage_bytes >> 10,
                resident_kib: user.usage.resident_pages * (PAGE_BYTES >> 10),
                cpu_time_us: microseconds(user.usage.cpu_time),
                elapsed_us: microseconds(
                    (view.now() - user.log_on_time)
                        .try_into()
                        .unwrap_or_default(),
                ),
                cpus: user.cpus,
                host_cpus,
            })
        })
        .collect();
    Reply::Accounting(records)
}

/// As much of a time as there is room for.
pub fn microseconds(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
