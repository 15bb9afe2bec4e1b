# SPDX-License-Identifier: GPL-2.0
"""zswap beside tmem: what it has no room for goes there. A debug kernel would take too long."""
import unittest

from systems import vmstat
from tmem_swap import LONG, SwapCheck


class Zswap(SwapCheck):
    """Memory that is swapped to both."""

    def test_both(self):
        """What zswap has no room for goes to tmem; each page comes back from where it is."""
        guest, zswap = self.guest, "/sys/module/zswap/parameters"
        self.swap_on(200)
        guest.run("mkdir -p /swapped && mount -t tmpfs -o size=150m t /swapped")
        self.addCleanup(guest.run, "umount /swapped")
        # A file that can be compressed, and one that cannot.
        make = ("dd if=/dev/urandom of=/swapped/$i.r bs=1M count=14 2>/dev/null; "
                "yes $i.{round} | dd of=/swapped/$i.c bs=1M count=14 iflag=fullblock 2>/dev/null; ")
        before = self.counters()
        stored = vmstat(guest)["zswpout"]
        guest.run(f"echo 3 >{zswap}/max_pool_percent; echo 1 >{zswap}/enabled")
        self.addCleanup(guest.run, f"echo 0 >{zswap}/enabled")
        for number, changed in enumerate(("1 2 3 4", "2 3", "1 4")):
            if number == 2:
                guest.run(f"echo 0 >{zswap}/enabled")
            guest.run(f"for i in {changed}; do {make.format(round=number)} done; "
                      "md5sum /swapped/* >/sums; md5sum -c /sums >/dev/null", timeout=3 * LONG)
        # Both had much to do, in both directions.
        counted = vmstat(guest)
        self.assertGreater(counted["zswpout"], stored + 1000)
        self.assertGreater(counted["zswpin"], 1000)
        after = self.counters()
        for what in ("puts", "hits"):
            self.assertGreater(after[what], before[what] + 1000, what)
        self.assertEqual(after["misses"], before["misses"])


if __name__ == "__main__":
    unittest.main()
