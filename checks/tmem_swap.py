# SPDX-License-Identifier: GPL-2.0
"""Swapped pages in tmem: none is old, none is lost unless the operator says so, and zswap may be beside it."""
import unittest

from page_hint_torture import Hinting
from systems import PAGE, SystemCheck
from tmem_files import COUNTERS, counters

MIB = 1 << 20


class Swap(SystemCheck):
    """Files in a tmpfs, which has all of them swapped out."""

    @classmethod
    def setUpClass(cls):
        cls.hinting = cls.enterClassContext(Hinting(("swap",), {}, "mem=160M"))
        cls.disk = cls.hinting.device("swap")
        cls.hinting.guest.run("modprobe tmem cache=0 && mkdir /swapped && mount -t tmpfs -o size=150m t /swapped")

    def setUp(self):
        self.guest = self.watch(self.hinting.guest)
        self.addCleanup(self.guest.run, "rm -f /swapped/*; swapoff -a")

    def swap_on(self, mib):
        self.guest.run(f"mkswap {self.disk} {mib * 1024} && swapon {self.disk}")

    def fill(self, name, mib):
        self.guest.run(f"dd if=/dev/urandom of=/swapped/{name} bs=1M count={mib} 2>/dev/null; "
                       f"md5sum /swapped/{name} >/sum.{name}")

    def swap_out(self, name):
        self.guest.run(f"/selftests/tmem_swap out /swapped/{name}")

    def look(self, name):
        self.guest.run(f"md5sum -c /sum.{name}")

    def counters(self):
        return counters(self.guest, "swap")

    def pages(self):
        return int(self.guest.run(f"cat {COUNTERS}/swap/pages"))

    def written(self):
        """Sectors of the swap device."""
        return int(self.guest.run(f"awk '{{ print $7 }}' /sys/block/{self.disk.removeprefix('/dev/')}/stat"))

    def test_freed(self):
        """tmem has nothing of slots that are free."""
        self.swap_on(32)
        self.fill("a", 8)
        written = self.written()
        self.swap_out("a")
        self.assertGreaterEqual(self.pages(), 8 * MIB // PAGE)
        self.assertEqual(self.written(), written)
        self.guest.run("rm /swapped/a")
        self.assertEqual(self.pages(), 0)

    def test_refused(self):
        """What is in a slot counts, and not what tmem had of it before it was used again."""
        self.swap_on(12)
        self.fill("a", 8)
        self.swap_out("a")
        before, written = self.counters(), self.written()
        self.hinting.cp.ctl("tmem", "freeze", self.guest.name)
        self.addCleanup(self.hinting.cp.ctl, "tmem", "thaw", self.guest.name)
        self.guest.run("rm /swapped/a")
        # There is no room but in the same slots.
        self.fill("b", 8)
        self.swap_out("b")
        self.assertGreaterEqual(self.counters()["refused"], before["refused"] + 8 * MIB // PAGE)
        self.assertGreaterEqual(self.written(), written + 8 * MIB // 512)
        self.look("b")
        self.assertEqual(self.counters()["misses"], before["misses"])

    def test_swapoff(self):
        """The pages come home when their swap device goes."""
        self.swap_on(32)
        self.fill("a", 8)
        self.swap_out("a")
        before = self.counters()
        self.assertGreaterEqual(self.pages(), 8 * MIB // PAGE)
        self.guest.run(f"swapoff {self.disk}")
        self.assertEqual(self.pages(), 0)
        self.assertGreaterEqual(self.counters()["hits"], before["hits"] + 8 * MIB // PAGE)
        self.look("a")

    def test_lost(self):
        """A page that the operator destroyed is an I/O error, and its slot can be used again."""
        self.swap_on(32)
        self.fill("a", 4)
        self.swap_out("a")
        self.guest.run("(/selftests/tmem_swap lost 4 /go; echo status $?) >/said 2>&1 &")
        self.guest.wait_for("cat /said", "out")
        # CP refuses that without being forced.
        self.hinting.cp.ctl("tmem", "destroy", self.guest.name, status=126)
        self.hinting.cp.ctl("tmem", "destroy", self.guest.name, "--force")
        self.assertIn("Input/output error", self.guest.run("touch /go; cat /swapped/a 2>&1 >/dev/null || true"))
        self.guest.wait_for("tail -n 1 /said", "status 0")
        self.assertIn("frontswap: a page of swap device 0 is lost", self.guest.run("dmesg"))
        self.guest.run("rm /swapped/a")
        self.assertEqual(self.pages(), 0)
        # There is no pool now; and when it is switched off and on there is one.
        for switched in (False, True):
            if switched:
                self.guest.run("echo 0 >/proc/sys/vm/tmem_swap; echo 1 >/proc/sys/vm/tmem_swap")
            self.fill("b", 8)
            self.swap_out("b")
            self.assertEqual(self.pages() > 0, switched)
            self.look("b")

    def test_zswap(self):
        """What zswap has no room for goes to tmem; each page comes back from where it is."""
        guest, zswap = self.guest, "/sys/module/zswap/parameters"
        self.swap_on(200)
        # A file that can be compressed, and one that cannot.
        make = ("dd if=/dev/urandom of=/swapped/$i.r bs=1M count=14 2>/dev/null; "
                "yes $i.{round} | dd of=/swapped/$i.c bs=1M count=14 iflag=fullblock 2>/dev/null; ")
        before = self.counters()
        stored = int(guest.run("awk '/^zswpout/ { print $2 }' /proc/vmstat"))
        guest.run(f"echo 3 >{zswap}/max_pool_percent; echo 1 >{zswap}/enabled")
        self.addCleanup(guest.run, f"echo 0 >{zswap}/enabled")
        for number, changed in enumerate(("1 2 3 4", "2 3", "1 4", "1 3")):
            if number == 3:
                guest.run(f"echo 0 >{zswap}/enabled")
            guest.run(f"for i in {changed}; do {make.format(round=number)} done; "
                      "md5sum /swapped/* >/sums; md5sum -c /sums >/dev/null && md5sum -c /sums >/dev/null")
        # Both had much to do, in both directions.
        vmstat = dict(line.split() for line in guest.run("cat /proc/vmstat").splitlines())
        self.assertGreater(int(vmstat["zswpout"]), stored + 1000)
        self.assertGreater(int(vmstat["zswpin"]), 1000)
        after = self.counters()
        for what in ("puts", "hits"):
            self.assertGreater(after[what], before[what] + 1000, what)
        self.assertEqual(after["misses"], before["misses"])


if __name__ == "__main__":
    unittest.main()
