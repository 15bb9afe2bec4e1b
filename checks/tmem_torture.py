# SPDX-License-Identifier: GPL-2.0
"""tmem in a guest: the host drops, refuses and limits what it gives, and it never sees a difference.

TORTURE_SECONDS= is how long the torture takes (15).
"""
import concurrent.futures
import contextlib
import os
import re
import threading
import unittest

from coopguest import ControlProgram, Failed, Guest
from page_hint_torture import FILE_CELLS, Hinting, cells
from systems import KERNEL, SystemCheck
from tmem_files import COUNTERS, counters

SECONDS = int(os.environ.get("TORTURE_SECONDS", "15"))


class Switches(SystemCheck):
    """The module and its two halves."""

    def switch(self, guest, half, to):
        guest.run(f"echo {to} >/proc/sys/vm/tmem_{half}")
        self.assertEqual(guest.run(f"cat /proc/sys/vm/tmem_{half}"), str(to))

    def references(self, guest):
        return int(guest.run("awk '$1 == \"tmem\" { print $3 }' /proc/modules"))

    def test_absent(self):
        with ControlProgram() as cp, Guest(cp, memory="192M", kernel=KERNEL, hypervisor="kvm") as guest:
            self.watch(guest)
            with self.assertRaises(Failed):
                guest.run("modprobe tmem")
            self.assertIn("tmem: KVM has no transcendent memory", guest.run("dmesg"))

    def test_wrong_texts(self):
        hinting = self.enterContext(Hinting((), {}))
        guest = self.watch(hinting.guest)
        guest.run("modprobe tmem swap=0")
        for half, now in (("cache", "1"), ("swap", "0")):
            for text in ("2", "-1", "yes", "1 1", ""):
                with self.assertRaises(Failed):
                    guest.run(f"echo '{text}' >/proc/sys/vm/tmem_{half}")
                self.assertEqual(guest.run(f"cat /proc/sys/vm/tmem_{half}"), now)

    def test_cache(self):
        """What changes while it is off is not found in an old state later."""
        hinting = self.enterContext(Hinting(("ext4",), {}))
        guest = self.watch(hinting.guest)
        guest.run(f"modprobe tmem swap=0 && mount {hinting.device('ext4')} /mnt && /selftests/tmem_file /mnt put")
        self.assertRegex(hinting.cp.ctl("tmem", "list", guest.name), r"ephemeral .* 64 pages")
        self.switch(guest, "cache", 0)
        self.assertNotIn("ephemeral", hinting.cp.ctl("tmem", "list", guest.name))
        guest.run("/selftests/tmem_file /mnt overwrite")
        self.switch(guest, "cache", 1)
        guest.run("/selftests/tmem_file /mnt look && rmmod tmem")

    def test_swap(self):
        """Swapped pages keep the module, and come home."""
        hinting = self.enterContext(Hinting(("swap",), {}, "mem=160M"))
        guest = self.watch(hinting.guest)
        disk = hinting.device("swap")
        written = f"awk '{{ print $7 }}' /sys/block/{disk.removeprefix('/dev/')}/stat"
        guest.run(f"modprobe tmem && swapon {disk} && mkdir /swapped && mount -t tmpfs -o size=150m t /swapped")
        before = guest.run(written)
        guest.run("for i in 1 2 3 4 5; do dd if=/dev/urandom of=/swapped/$i bs=1M count=24 2>/dev/null; done; "
                  "md5sum /swapped/* >/sums; md5sum -c /sums")
        self.assertEqual(guest.run(written), before)
        self.assertGreater(self.references(guest), 1000)
        with self.assertRaises(Failed):
            guest.run("rmmod tmem")
        guest.run("md5sum -c /sums")
        self.switch(guest, "swap", 0)
        self.assertEqual(self.references(guest), 0)
        self.assertEqual(guest.run(f"cat {COUNTERS}/swap/pages"), "0")
        self.assertRegex(hinting.cp.ctl("tmem", "list"), re.compile(r"^0 of", re.M))
        guest.run("rmmod tmem && md5sum -c /sums")


class Torture(SystemCheck):
    """Work of every kind on files and memory."""

    @contextlib.contextmanager
    def torment(self, hinting):
        """The operator does what he can, again and again; what is swapped he may not take. And the host takes unused
        and volatile pages."""
        stop, name = threading.Event(), hinting.guest.name
        orders = (("freeze", name), ("thaw", name), ("flush", name, "--ephemeral"),
                  ("set", "cap", name, "8M"), ("set", "cap", name, "none"))

        def work():
            rounds = 0
            while not stop.wait(0.1):
                hinting.cp.ctl("tmem", *orders[rounds % len(orders)])
                rounds += 1
            hinting.cp.ctl("tmem", "thaw", name)
            return rounds

        with concurrent.futures.ThreadPoolExecutor() as beside:
            done = beside.submit(work)
            taken = beside.submit(hinting.cp.ctl, "torment", name, "--seconds", SECONDS, "--share", 300, "--interval", 20)
            try:
                yield done, taken
            finally:
                stop.set()

    def test_all(self):
        content = [cells(file * FILE_CELLS + 1, FILE_CELLS) for file in range(5)]
        files = {f"{folder}/{file}": data for folder in range(2) for file, data in enumerate(content)}
        # Little memory, so that there is much to reclaim.
        hinting = self.enterContext(Hinting(("ext4", "xfs", "erofs", "swap"), files, "mem=160M"))
        guest = self.watch(hinting.guest)
        guest.run(f"modprobe tmem && swapon {hinting.device('swap')}")
        devices = " ".join(f"{name}:{hinting.device(name)}" for name in ("ext4", "xfs", "erofs"))
        with self.torment(hinting) as (rounds, taken):
            # While tmem is off page cache becomes volatile, and may be taken when it is on again.
            said = guest.run("cd /proc/sys/vm; while sleep 2; do echo 0 >tmem_cache; sleep 2; echo 1 >tmem_cache; done & "
                             f"/selftests/page_hint_torture -s {SECONDS} -a 128 {devices}; status=$?; kill $!; "
                             "echo 1 >tmem_cache; exit $status", timeout=SECONDS * 3 + 300)
        cache, swap = counters(guest, "cache"), counters(guest, "swap")
        print(f"{said}\n{rounds.result()} orders\n{taken.result().strip()}\ncache {cache}\nswap {swap}")
        self.assertIn("no differences", said)

        # It was hard: numbers that a run that did nothing would not reach.
        self.assertGreater(cache["puts"], 1000)
        self.assertGreater(cache["refused"], 10)
        for half in (cache, swap):
            self.assertGreater(half["puts"], 10)
        self.assertGreater(cache["hits"], 0)

        # All that was swapped comes back, and nothing is left when all is gone.
        guest.run(f"swapoff {hinting.device('swap')}")
        swap = counters(guest, "swap")
        self.assertGreater(swap["hits"], 0)
        self.assertEqual(swap["misses"], 0)
        guest.run("rmmod tmem")
        self.assertRegex(hinting.cp.ctl("tmem", "list"), re.compile(r"^0 of", re.M))


if __name__ == "__main__":
    unittest.main()
