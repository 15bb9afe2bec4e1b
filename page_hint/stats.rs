// SPDX-License-Identifier: GPL-2.0

//! What has become of the page cache, in `/sys/kernel/debug/page_hint`.

use kernel::{
    debugfs::ScopedDir,
    fmt,
    prelude::*,
    s390::volatile::{
        stats,
        Why, //
    },
    sync::Arc, //
};

use crate::{
    policy::Class,
    sweeper::Sweeper, //
};

/// Makes the files.
pub(crate) fn files<'data>(sweeper: &'data Arc<Sweeper>, dir: &ScopedDir<'data, '_>) {
    dir.read_callback_file(c"last_sweep", sweeper, &show_last_sweep);

    let stats = stats();
    let dir = dir.dir(c"counters");
    dir.read_only_file(c"volatile", &stats.volatile);
    dir.read_only_file(c"made_volatile", &stats.made_volatile);
    dir.read_only_file(c"made_stable", &stats.made_stable);
    dir.read_only_file(c"lost_folios", &stats.lost_folios);
    dir.read_only_file(c"evicted_folios", &stats.evicted_folios);
    dir.read_only_file(c"lost_to_reads", &stats.lost_to_reads);
    dir.read_only_file(c"lost_to_faults", &stats.lost_to_faults);
    dir.read_only_file(c"unmapped", &stats.unmapped);
    dir.read_only_file(c"freed", &stats.freed);
    dir.read_only_file(c"kernel_faults", &stats.kernel_faults);
    dir.read_only_file(c"user_faults", &stats.user_faults);
}

fn show_last_sweep(sweeper: &Arc<Sweeper>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (sweeps, tally, rests) = sweeper.last();
    f.write_fmt(fmt!("sweeps {sweeps}\n"))?;
    f.write_fmt(fmt!("rests {}\n", u32::from(rests[Class::Unmapped])))?;
    f.write_fmt(fmt!("mapped_rests {}\n", u32::from(rests[Class::Mapped])))?;
    f.write_fmt(fmt!("made {}\n", tally.made))?;
    f.write_fmt(fmt!("used {}\n", tally.used))?;
    f.write_fmt(fmt!("limited {}\n", tally.limited))?;
    f.write_fmt(fmt!("kept {}\n", tally.kept))?;
    for (why, pages) in Why::ALL.iter().zip(tally.left) {
        f.write_fmt(fmt!("{} {pages}\n", name(*why)))?;
    }
    Ok(())
}

const fn name(why: Why) -> &'static str {
    match why {
        Why::Already => "already_volatile",
        Why::Anonymous => "anonymous",
        Why::Dirty => "dirty",
        Why::NotUptodate => "not_uptodate",
        Why::Mapped => "mapped",
        Why::Private => "private",
        Why::Busy => "busy",
    }
}
