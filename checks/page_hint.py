# SPDX-License-Identifier: GPL-2.0
"""Guest page hinting: the host takes page cache of a guest, which reads its files again as they are.

On the release kernel: this is what bench/page_hint measures.
"""
import unittest

from coopguest import ControlProgram
from hinting import (DEBUGFS, DISK, agreed_states, counted_grep, grep, guest_states, host_states, kib, last_sweep, mount,
                     reclaim, rest, share, sweep)
from systems import SystemCheck, resident_pages

# 74 MiB, and the guest that keeps them in its page cache.
FOLDERS, MEMORY = "fs kernel mm", "192M"


class VolatilePageCache(SystemCheck):
    """A guest whose page cache is volatile, and a host that takes it."""

    def setUp(self):
        cp = self.enterContext(ControlProgram())
        self.guest = self.boot(cp, memory=MEMORY, kernel="release", append="page_hint.volatile=1", disks=[DISK])
        mount(self.guest)
        self.cold = counted_grep(self.guest, FOLDERS)
        self.addCleanup(self.no_faults)

    def no_faults(self):
        """Nobody used a page that was gone, whatever was lost."""
        faults = self.guest.run(f"cat {DEBUGFS}/counters/kernel_faults {DEBUGFS}/counters/user_faults")
        self.assertEqual(faults.split(), ["0", "0"])

    def found_again(self, of_cold):
        """The same is found, with at most so many of the requests to the disk that a cold cache needs."""
        found = counted_grep(self.guest, FOLDERS)
        self.assertEqual(found["digest"], self.cold["digest"])
        self.assertLessEqual(found["requests"], self.cold["requests"] * of_cold)
        self.assertLessEqual(found["sectors"], self.cold["sectors"] * of_cold)
        return found

    def volatile(self):
        """Has the page cache made volatile; gives the table of states."""
        sweep(self.guest)
        rest(self.guest)
        states, _ = agreed_states(self.guest)
        return states

    def test_host_takes_what_the_guest_can_read_again(self):
        guest = self.guest
        guest.sysctl("page_hint_lost", 0)
        read = self.cold["sectors"] // 8
        states = self.volatile()
        # Nearly all that was read, metadata of the file system apart, and most of what is resident.
        self.assertGreater(states["V"]["r"], read * 85 // 100)
        self.assertGreater(share(states), 45)
        self.assertEqual(sum(states[row]["tot"] for row in "SUPV"), 192 << 20 >> 12)

        # As long as nobody takes it, it is page cache like any other.
        self.assertEqual(self.found_again(0)["requests"], 0)

        # Half of it, without the guest executing anything.
        volatile = self.volatile()["V"]["r"]
        guest.qmp("stop")
        before = resident_pages(guest)
        taken = reclaim(guest, kib(volatile // 2), "--only", "v")
        self.assertEqual(taken["V"], volatile // 2)
        self.assertEqual(before - resident_pages(guest), taken["V"])
        self.assertEqual(host_states(guest)["V"]["z"], taken["V"])
        guest.qmp("cont")
        half = self.found_again(0.6)
        self.assertGreater(half["sectors"], self.cold["sectors"] * 0.4)

        # All of it.
        volatile = self.volatile()["V"]["r"]
        taken = reclaim(guest, "all", "--only", "v")
        self.assertAlmostEqual(taken["V"], volatile, delta=volatile // 50)
        self.assertGreater(self.found_again(1.05)["sectors"], self.cold["sectors"] * 0.9)

        # Switched off, nothing stays volatile.
        self.volatile()
        guest.sysctl("page_hint_volatile", 0)
        self.eventually(lambda: guest_states(guest)["V"]["tot"] == 0, "all pages are stable")


    def test_page_cache_that_is_needed_stays(self):
        """As often as the host takes all of it the guest reads it again: then that is no page cache to be taken."""
        guest = self.guest
        self.volatile()
        reclaim(guest, "all", "--only", "v")
        self.found_again(1.05)
        guest.sysctl("page_hint_age", 0)
        self.eventually(lambda: last_sweep(guest)["rests"] == 1, "it stops itself")
        self.assertIn("no page cache becomes volatile for 10 minutes", guest.run("dmesg"))
        self.eventually(lambda: guest_states(guest)["V"]["tot"] == 0, "all pages are stable")
        # Who switches it on again means it.
        guest.sysctl("page_hint_volatile", 1)
        self.assertGreater(self.volatile()["V"]["r"], self.cold["sectors"] // 8 // 2)


class ExperimentOf2009(SystemCheck):
    """A guest of 1 GiB searches more files than fit into it."""

    def test_most_resident_pages_are_volatile(self):
        guest = self.boot(self.enterContext(ControlProgram()), memory="1G", kernel="release",
                          append="page_hint.volatile=1", disks=[DISK])
        mount(guest)
        found = set()
        for search in ("first", "second"):
            found.add(grep(guest))
            # Two sweeps, whatever there were before.
            sweep(guest, times=2)
            states, _ = agreed_states(guest)
            self.assertGreaterEqual(share(states), 82, f"after the {search} search")
        self.assertEqual(len(found), 1)


if __name__ == "__main__":
    unittest.main()
