# SPDX-License-Identifier: GPL-2.0
"""Swapped pages in tmem: none is old, and none is lost unless the operator says so."""
import unittest

from page_hint_torture import LITTLE, Hinting
from systems import PAGE, SystemCheck
from tmem_files import COUNTERS, counters, references, traced

MIB = 1 << 20
# Seconds: a debug kernel on a busy machine takes its time to swap.
LONG = 300


class SwapCheck(SystemCheck):
    """A check in a guest with a swap device, and with tmem for swapped pages."""

    @classmethod
    def setUpClass(cls):
        cls.hinting = cls.enterClassContext(Hinting(("swap",), {}, LITTLE))
        cls.disk = cls.hinting.device("swap")

    def setUp(self):
        self.guest = self.watch(self.hinting.guest)
        # The pages do not come home by themselves.
        self.guest.run("rm -f /go; modprobe tmem cache=0 && echo 0 >/proc/sys/vm/tmem_home")
        self.addCleanup(self.guest.run, f"! grep -q {self.disk} /proc/swaps || swapoff {self.disk}; rmmod tmem")

    def swap_on(self, mib):
        self.guest.run(f"mkswap {self.disk} {mib * 1024} && swapon {self.disk}")

    def counters(self):
        return counters(self.guest, "swap")


class Swap(SwapCheck):
    """Programs that have all of their memory swapped out."""

    def start(self, what, mib=8):
        """Starts a program that has so much memory; waits until it is swapped out."""
        self.guest.run(f"(/selftests/tmem_swap {what} {mib} /go & echo $! >/pid; wait $!; echo status $?) >/said 2>&1 &")
        self.guest.wait_for("cat /said", "out", LONG)

    def go(self):
        """Has it look at its memory."""
        self.guest.run("touch /go")
        self.guest.wait_for("cat /said", "out\nstatus 0", LONG)

    def not_taken(self):
        """Pages that went to the swap device. (After one that was refused some are not even offered.)"""
        return sum(self.counters()[name] for name in ("refused", "left_out"))

    def pages(self):
        return int(self.guest.run(f"cat {COUNTERS}/swap/pages"))

    def written(self):
        """Sectors of the swap device."""
        return self.guest.disk_stat(self.disk).sectors_written

    def test_kept(self):
        """They come back, and in between nothing is written."""
        self.swap_on(32)
        written, before = self.written(), self.counters()
        self.start("kept")
        self.assertGreaterEqual(self.pages(), 8 * MIB // PAGE)
        self.go()
        self.assertEqual(self.written(), written)
        self.assertGreaterEqual(self.counters()["hits"], before["hits"] + 8 * MIB // PAGE)

    def test_freed(self):
        """tmem has nothing of slots that are free."""
        self.swap_on(32)
        self.start("kept")
        self.assertGreaterEqual(self.pages(), 8 * MIB // PAGE)
        self.guest.run("kill -9 $(cat /pid)")
        self.guest.wait_for("tail -n 1 /said", "status 137", LONG)
        self.assertEqual(self.pages(), 0)

    def test_refused(self):
        """What is in a slot counts, and not what tmem had of it before it was used again."""
        # There is no room for both but in the same slots. (While more than half is in use, slots are freed early.)
        first, mib = 14, 9
        self.swap_on(20)
        self.start("kept", first)
        self.hinting.cp.ctl("tmem", "freeze", self.guest.name)
        self.addCleanup(self.hinting.cp.ctl, "tmem", "thaw", self.guest.name)
        hits, not_taken, written = self.counters()["hits"], self.not_taken(), self.written()
        self.guest.run("kill -9 $(cat /pid)")
        self.guest.wait_for("tail -n 1 /said", "status 137", LONG)
        self.start("kept", mib)
        self.go()
        self.assertGreaterEqual(self.not_taken(), not_taken + mib * MIB // PAGE)
        self.assertGreaterEqual(self.written(), written + mib * MIB // 512)
        self.assertEqual(self.counters()["hits"], hits)

    def test_swapoff(self):
        """The pages come home when their swap device goes."""
        self.swap_on(32)
        self.start("kept")
        before = self.counters()
        self.assertGreaterEqual(self.pages(), 8 * MIB // PAGE)
        self.guest.run(f"swapoff {self.disk}")
        self.assertEqual(self.pages(), 0)
        self.assertGreaterEqual(self.counters()["hits"], before["hits"] + 8 * MIB // PAGE)
        self.go()

    def test_home(self):
        """They come home when the guest has room for them: nobody has to ask for them, and then nothing is away."""
        self.swap_on(32)
        trace = self.enterContext(traced(self.guest))
        written, before = self.written(), self.counters()
        self.start("kept")
        self.assertGreaterEqual(self.pages(), 8 * MIB // PAGE)
        self.guest.run("echo 1 >/proc/sys/vm/tmem_home")
        self.guest.wait_for(f"cat {COUNTERS}/swap/pages", "0", LONG)
        self.assertGreaterEqual(self.counters()["hits"], before["hits"] + 8 * MIB // PAGE)
        self.assertEqual(self.written(), written)
        # No page keeps the module.
        self.assertEqual(references(self.guest), 0)
        self.go()
        told = trace()
        for what in ("tmem_swap_put: device=0 ", "tmem_swap_get: device=0 ", "tmem_home: "):
            self.assertIn(what, told)

    def test_home_and_out_again(self):
        """What came home is written to the swap device when the memory is needed, also if nobody has touched it."""
        self.swap_on(32)
        self.start("kept")
        self.guest.run("echo 0 >/proc/sys/vm/tmem_swap")
        self.assertEqual(self.pages(), 0)
        waits = "awk '/^SwapCached/ { print $2 }' /proc/meminfo"
        self.assertGreater(int(self.guest.run(waits)), 7 << 10)
        # More than there is without it.
        hog = "/selftests/hog $(awk '/^MemAvailable/ { print int($2 / 1024) + 16 }' /proc/meminfo) 1 >/dev/null; "
        self.eventually(lambda: int(self.guest.run(hog + waits, timeout=LONG)) < 3 << 10, "it is written", LONG)
        self.go()

    def test_lost(self):
        """A page that the operator destroyed is an I/O error, and its slot can be used again."""
        self.swap_on(32)
        self.start("lost")
        # CP refuses that without being forced.
        self.hinting.cp.ctl("tmem", "destroy", self.guest.name, status=126)
        self.hinting.cp.ctl("tmem", "destroy", self.guest.name, "--force")
        self.go()
        self.assertIn("frontswap: a page of swap device 0 is lost", self.guest.run("dmesg"))
        self.assertEqual(self.pages(), 0)
        # There is no pool now; and when it is switched off and on there is one.
        for switched in (False, True):
            if switched:
                self.guest.run("echo 0 >/proc/sys/vm/tmem_swap; echo 1 >/proc/sys/vm/tmem_swap")
            self.guest.run("rm /go")
            self.start("kept")
            self.assertEqual(self.pages() > 0, switched)
            self.go()


if __name__ == "__main__":
    unittest.main()
