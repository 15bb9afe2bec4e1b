# SPDX-License-Identifier: GPL-2.0
"""Guests tell which pages they use: what they say is true, and the host may act on it at any time."""
import concurrent.futures
import json
import re

from coopguest import ControlProgram
from systems import SystemCheck

CHURN = "for i in $(seq 60); do seq 3000 | sort | cat >/dev/null; done"


class Hints(SystemCheck):
    """Unused pages, in both modes."""

    def start(self, mode):
        self.cp = self.enterContext(ControlProgram())
        return self.boot(self.cp, "HINTS", memory="256M", append=f"page_hint.unused={mode}",
                         device="unused=exception,oracle=on", timeout=900)

    def essas(self):
        return int(re.search(r"essa_calls\s+(\d+)", self.cp.ctl("counters", "HINTS"))[1])

    def guests_table(self, guest):
        rows = [line.split() for line in guest.run("cat /sys/kernel/debug/page_hint/states").splitlines()]
        return {row[0]: dict(zip(rows[0], map(int, row[1:]))) for row in rows[1:]}

    def same_tables(self, guest):
        """Guest and host count the same pages, but for the few that change meanwhile."""
        ours, theirs = self.guests_table(guest), json.loads(self.cp.ctl("--json", "states", "HINTS"))
        self.assertEqual(ours["tot"]["tot"], sum(row["tot"] for row in theirs.values()))
        for row in ("S", "U", "P", "V"):
            for column in ("tot", "r", "p", "z"):
                self.assertAlmostEqual(ours[row][column], theirs[row][column], delta=1000, msg=f"{row} {column}")

    def torment(self, mode):
        """An access to an unused page is an exception, and a device's one ends the guest: there are none."""
        guest = self.start(mode)
        self.same_tables(guest)
        with concurrent.futures.ThreadPoolExecutor() as meanwhile:
            taking = meanwhile.submit(self.cp.ctl, "torment", "HINTS", "--seconds", 30)
            guest.run(f"cd /selftests && ({CHURN}) & cd /selftests && ./page_hint_unused.sh; status=$?; wait; "
                      "exit $status")
            said = taking.result()
        self.assertGreater(int(re.search(r"U (\d+)", said)[1]), 1000, said)
        self.same_tables(guest)

    def test_host_takes_what_is_freed_at_once(self):
        self.torment("classic")

    def test_host_takes_what_has_been_free_for_a_while(self):
        self.torment("lazy")

    def test_lazy_needs_few_instructions(self):
        """How few depends on how much a guest does within the two seconds between reports: see the bench."""
        needed = {}
        for mode in ("classic", "lazy"):
            guest = self.start(mode)
            guest.run("sleep 5")
            before = self.essas()
            guest.run(CHURN)
            needed[mode] = self.essas() - before
        self.assertLess(needed["lazy"] * 2, needed["classic"], needed)

    def test_other_modes_are_refused(self):
        guest = self.start("never")
        self.assertEqual(guest.run("cat /sys/module/page_hint/parameters/unused"), "classic")
        self.assertIn("`never' invalid for parameter `page_hint.unused'", guest.run("dmesg"))
