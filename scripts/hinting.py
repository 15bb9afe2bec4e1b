# SPDX-License-Identifier: GPL-2.0
"""What is done with guest page hinting, and looked at, by the bench, the checks and the demo."""
import re
import time

from coopguest import BUILD, Failed

DISK = BUILD / "disk" / "sources.ext4"
DEBUGFS = "/sys/kernel/debug/page_hint"
PAGE = 4096
ROWS, COLUMNS = ("S", "U", "P", "V", "tot"), ("tot", "r", "p", "z")
# What the sources are searched for, and 184 MiB of them.
WORD = "kunmap_local"
PART = "fs include kernel lib mm net"


def parse(text):
    """A table of states as numbers: {"S": {"tot": ..., "r": ..., "p": ..., "z": ...}, ...}."""
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if not lines or tuple(lines[0]) != COLUMNS or tuple(line[0] for line in lines[1:]) != ROWS:
        raise Failed(f"this is no table of page states:\n{text}")
    return {row: dict(zip(COLUMNS, map(int, cells))) for row, *cells in lines[1:]}


def guest_states(guest):
    """The table as the guest sees it."""
    return parse(guest.run(f"cat {DEBUGFS}/states"))


def host_states(guest):
    """The table as the host sees it; the guest does nothing for it."""
    return parse(guest.cp.ctl("states", guest.name))


def difference(one, other):
    """The largest difference of two cells, in pages."""
    return max(abs(one[row][column] - other[row][column]) for row in ROWS for column in COLUMNS)


def agreed_states(guest, most=128, tries=10):
    """The table of the guest, and how far the host's is from it.

    The guest goes on while they are taken, and the command that reads its table has pages of its own.
    """
    for _ in range(tries):
        seen = guest_states(guest)
        apart = difference(seen, host_states(guest))
        if apart <= most:
            return seen, apart
        time.sleep(0.5)
    raise Failed(f"{guest.name} and its host see states that are {apart} pages apart")


def told(name, states, apart):
    """A table of states that agreed_states() gave, and what it means."""
    return (f"{name}: {share(states):.1f} % of the resident pages are volatile; guest and host agree within {apart} pages\n"
            f"{show(states)}")


def stable_by_kind(guest, states):
    """What the resident pages are that stay stable."""
    lines = guest.run("/selftests/page_kinds").splitlines()
    kinds = {name: int(count) for count, name in (line.split(None, 1) for line in lines)}
    kinds["other kernel memory"] = states["S"]["tot"] - sum(kinds.values())
    return {name: count for name, count in sorted(kinds.items(), key=lambda kind: -kind[1]) if count}


def share(states):
    """Volatile pages in percent of the resident ones."""
    return 100 * states["V"]["r"] / states["tot"]["r"]


def show(states):
    """The table as text."""
    return "\n".join(f"{row:<3}" + "".join(f" {cell:>10}" for cell in cells) for row, cells in
                     [("", COLUMNS), *((row, states[row].values()) for row in ROWS)])


def mount(guest):
    """Makes the Linux sources of the guest's disk its working folder."""
    guest.run(f"mkdir -p /mnt/sources && mount -t ext4 -o ro {guest.disk(0)} /mnt/sources")


def grep(guest, folders=".", timeout=3600):
    """Searches the sources; gives a digest of what is found."""
    return guest.run(f"cd /mnt/sources && grep -rF {WORD} {folders} | md5sum", timeout=timeout).split()[0]


def counted_grep(guest, folders):
    """Searches, and counts what is read from the disk for it."""
    before = guest.disk_stat(guest.disk(0))
    digest = grep(guest, folders)
    after = guest.disk_stat(guest.disk(0))
    return {"digest": digest, "requests": after.reads - before.reads, "sectors": after.sectors_read - before.sectors_read}


def last_sweep(guest):
    """What the last complete sweep found: {"sweeps": ..., "made": ..., ...}."""
    lines = guest.run(f"cat {DEBUGFS}/last_sweep").splitlines()
    return {name: int(count) for name, count in map(str.split, lines)}


def sweep(guest, times=2, timeout=120):
    """Has all page cache made volatile that can be, whatever its age, in so many sweeps."""
    for _ in range(times):
        done = last_sweep(guest)["sweeps"]
        guest.sysctl("page_hint_age", 0)
        deadline = time.monotonic() + timeout
        while last_sweep(guest)["sweeps"] <= done:
            if time.monotonic() > deadline:
                raise Failed(f"{guest.name}: no sweep within {timeout} s")
            time.sleep(0.1)


def rest(guest):
    """No more sweeps by themselves: what was made volatile stays so, and the guest idle."""
    guest.sysctl("page_hint_age", 3_600_000)
    time.sleep(1)


def reclaim(guest, size, *options):
    """The host takes pages; how many of each kind, and the resident pages before and after."""
    said = guest.cp.ctl("reclaim", guest.name, size, *options)
    match = re.search(r": U (\d+), V (\d+); resident (\d+) -> (\d+)", said)
    if not match:
        raise Failed(f"cpctl reclaim says: {said}")
    return dict(zip(("U", "V", "before", "after"), map(int, match.groups())))


def kib(pages):
    """A size that `cpctl reclaim` takes."""
    return f"{pages * PAGE // 1024}K"
