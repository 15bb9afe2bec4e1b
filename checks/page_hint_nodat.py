# SPDX-License-Identifier: GPL-2.0
"""Linux on a machine that knows pages without DAT tables (facility 147): it tells which pages hold some.

The host sees it in its table of states: a bit of each page that holds none.
"""
import collections
import unittest

from coopguest import ControlProgram
from states import states_of
from systems import SystemCheck, vmstat

NO_DAT, STABLE, USAGE = 0x20, 0x00, 0x0c
# Processes at once, and MiB of the guest: each MiB has a page table of the kernel's.
PROCESSES, MEMORY = 60, 512


class NoDat(SystemCheck):
    """cmma_flag is 2."""

    def start(self, mode, device="nodat=on,unused=exception,oracle=on"):
        return self.boot(self.enterContext(ControlProgram()), "NODAT", memory=f"{MEMORY}M", device=device,
                         append=f"page_hint.unused={mode}", timeout=600)

    def count(self, guest):
        """Pages that are in use without DAT tables, those that may have some, and how many are page tables."""
        # Processors keep a part of the figures to themselves until they are asked.
        guest.run("cat /proc/sys/vm/stat_refresh")
        tables = vmstat(guest)["nr_page_table_pages"]
        with open(states_of(guest), "rb") as states:
            kinds = collections.Counter(byte & (NO_DAT | USAGE) for byte in states.read())
        return kinds[STABLE | NO_DAT], kinds[STABLE], tables

    def works(self, guest):
        """It tells the truth about states, and forks as ever."""
        guest.run("cd /selftests && sh page_hint_states.sh")
        guest.run("for i in $(seq 100); do [ $(seq 300 | sort -n | tail -1) = 300 ] || exit; done")

    def fork(self, guest):
        """What is counted before, while, and after there are many processes, with some 17 page tables each."""
        before = self.count(guest)
        guest.run(f"for i in $(seq {PROCESSES}); do sleep 1000 >/dev/null 2>&1 </dev/null & done; "
                  f"until [ $(pidof sleep | wc -w) = {PROCESSES} ]; do usleep 100000; done")
        during = self.count(guest)
        guest.run("killall sleep; while pidof sleep >/dev/null; do usleep 100000; done; usleep 500000")
        after = self.count(guest)
        print(f"without DAT tables, others, page tables: {before}, {during}, {after}")
        for no_dat, others, tables in (before, during, after):
            # Most of what is in use has none; what is a page table is never taken for such a page.
            self.assertGreater(no_dat, 4000)
            self.assertGreaterEqual(others, tables)
        self.assertGreater(during[2] - before[2], PROCESSES * 5)
        return before, during, after

    def test_page_tables_are_marked(self):
        """They and nothing else, and no longer than they are page tables."""
        guest = self.start("classic")
        self.works(guest)
        (_, others, tables), *later = self.fork(guest)
        self.assertLessEqual(others, tables + MEMORY + 128)
        for _, others_then, tables_then in later:
            self.assertAlmostEqual(others_then - others, tables_then - tables, delta=PROCESSES)

    def test_so_they_are_with_lazy_hints(self):
        """What was a page table stays marked until it is reported."""
        guest = self.start("lazy")
        self.works(guest)
        self.fork(guest)

    def test_no_page_is_marked_where_the_machine_does_not_know_it(self):
        guest = self.start("classic", device="unused=zero")
        self.assertEqual(self.count(guest)[0], 0)


if __name__ == "__main__":
    unittest.main()
