# SPDX-License-Identifier: GPL-2.0
"""Guests tell which pages they use: what they say is true, and the host may act on it at any time."""
import concurrent.futures
import re

import hinting
from coopguest import ControlProgram
from systems import SystemCheck

CHURN = "for i in $(seq 60); do seq 3000 | sort | cat >/dev/null; done"


class Hints(SystemCheck):
    """Unused pages, in both modes."""

    def start(self, mode):
        self.cp = self.enterContext(ControlProgram())
        return self.boot(self.cp, "HINTS", memory="256M", append=f"page_hint.unused={mode}",
                         device="unused=exception,oracle=on", timeout=900)

    def torment(self, mode):
        """An access to an unused page is an exception, and a device's one ends the guest: there are none."""
        guest = self.start(mode)
        # Some pages change while the tables are made.
        hinting.agreed_states(guest, most=1000)
        with concurrent.futures.ThreadPoolExecutor() as meanwhile:
            taking = meanwhile.submit(self.cp.ctl, "torment", "HINTS", "--seconds", 15)
            guest.run(f"cd /selftests && ({CHURN}) & cd /selftests && ./page_hint_unused.sh; status=$?; wait; "
                      "exit $status")
            said = taking.result()
        self.assertGreater(int(re.search(r"U (\d+)", said)[1]), 1000, said)
        hinting.agreed_states(guest, most=1000)

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
            before = guest.cp.counters(guest.name)["essa_calls"]
            guest.run(CHURN)
            needed[mode] = guest.cp.counters(guest.name)["essa_calls"] - before
        self.assertLess(needed["lazy"] * 2, needed["classic"], needed)

    def test_other_modes_are_refused(self):
        guest = self.start("never")
        self.assertEqual(guest.run("cat /sys/module/page_hint/parameters/unused"), "classic")
        self.assertIn("`never' invalid for parameter `page_hint.unused'", guest.run("dmesg"))
