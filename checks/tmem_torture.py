# SPDX-License-Identifier: GPL-2.0
"""tmem in a guest: the host drops, refuses and limits what it gives, and it never sees a difference.

TORTURE_SECONDS= is how long the torture takes at least (15).
"""
import concurrent.futures
import contextlib
import os
import re
import threading
import unittest

from coopguest import ControlProgram, Failed, Guest
from page_hint_torture import FILE_CELLS, LITTLE, RUNS, Hinting, cells
from systems import KERNEL, PAGE, SystemCheck, resident_pages
from tmem_files import COUNTERS, counters, references, traced

SECONDS = int(os.environ.get("TORTURE_SECONDS", "15"))


class Switches(SystemCheck):
    """The module and its two halves."""

    def switch(self, guest, half, to):
        guest.run(f"echo {to} >/proc/sys/vm/tmem_{half}")
        self.assertEqual(guest.run(f"cat /proc/sys/vm/tmem_{half}"), str(to))

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
        hinting = self.enterContext(Hinting(("swap",), {}, LITTLE))
        guest = self.watch(hinting.guest)
        disk = hinting.device("swap")
        guest.run(f"modprobe tmem && swapon {disk} && mkdir /swapped && mount -t tmpfs -o size=150m t /swapped")
        before = guest.disk_stat(disk).sectors_written
        guest.run("for i in 1 2 3 4 5; do dd if=/dev/urandom of=/swapped/$i bs=1M count=24 2>/dev/null; done; "
                  "md5sum /swapped/* >/sums; md5sum -c /sums")
        self.assertEqual(guest.disk_stat(disk).sectors_written, before)
        self.assertGreater(references(guest), 1000)
        with self.assertRaises(Failed):
            guest.run("rmmod tmem")
        guest.run("md5sum -c /sums")
        self.switch(guest, "swap", 0)
        self.assertEqual(references(guest), 0)
        self.assertEqual(guest.run(f"cat {COUNTERS}/swap/pages"), "0")
        self.assertRegex(hinting.cp.ctl("tmem", "list"), re.compile(r"^0 of", re.M))
        guest.run("rmmod tmem && md5sum -c /sums")


class Governor(SystemCheck):
    """Whether page cache is put as long as that is worth it."""

    # Pages of which nearly none came back before it rests.
    WINDOW = 4096

    def test_rests_and_begins_again(self):
        """A file that is larger than all there is, read again and again, has it rest: for long, but not for ever."""
        hinting = self.enterContext(Hinting(("ext4",), {}, "mem=128M"))
        guest = self.watch(hinting.guest)
        state = f"{COUNTERS}/cache/state"
        guest.run(f"modprobe tmem swap=0 && mount {hinting.device('ext4')} /mnt && truncate -s 1G /mnt/file")
        hinting.cp.ctl("tmem", "set", "cap", guest.name, "8M")
        with traced(guest, "tmem_rest") as trace:
            reader = guest.run("(while :; do cat /mnt/file; done) >/dev/null 2>&1 </dev/null & echo $!")
            for wanted in ("resting", "on", "resting"):
                guest.wait_for(f"cat {state}", wanted, 300)
            guest.run(f"kill {reader}")
            told = re.findall(r"tmem_rest: puts=\d+ hits=\d+ evicted=\d+ reclaims=(\d+)", trace())
        # Many times as much is reclaimed as was put to no avail, and still more when it was so again.
        self.assertEqual(len(told), 2)
        self.assertGreaterEqual(int(told[0]), self.WINDOW * 64)
        self.assertGreaterEqual(int(told[1]), self.WINDOW * 128)
        # Switched off and on it begins anew.
        guest.run("echo 0 >/proc/sys/vm/tmem_cache; echo 1 >/proc/sys/vm/tmem_cache")
        self.assertEqual(guest.run(f"cat {state}"), "on")


class Lent(SystemCheck):
    """Self-ballooning and tmem together."""

    MIB = 120

    def test_page_cache_is_lent(self):
        """The guest gives up what its page cache occupies, and has it from tmem when it misses it."""
        hinting = self.enterContext(Hinting(("ext4",), {}))
        guest = self.watch(hinting.guest)
        sum_of = "md5sum </mnt/data"
        disk = hinting.device("ext4")
        guest.run(f"modprobe tmem swap=0 && modprobe cmm && mount {disk} /mnt && "
                  f"head -c {self.MIB << 20} /dev/urandom >/mnt/data && sync")
        found, read = guest.run(sum_of), guest.disk_stat(disk).sectors_read
        self.assertEqual(counters(guest, "cache")["puts"], 0)
        # All but what it keeps in any case.
        lent = (self.MIB << 20) // PAGE - int(guest.run("cat /sys/kernel/debug/cmm/floor"))
        self.assertGreater(lent, 10000)
        full = resident_pages(guest)
        guest.run("echo 2 >/proc/sys/vm/cmm_self")
        self.eventually(lambda: counters(guest, "cache")["puts"] > lent * 0.8, "page cache goes to tmem", 120)
        self.eventually(lambda: resident_pages(guest) < full - lent * 0.8, "the host has its memory", 120)
        self.assertEqual(guest.run(sum_of), found)
        self.assertGreater(counters(guest, "cache")["hits"], lent * 0.6)
        self.assertLess((guest.disk_stat(disk).sectors_read - read) * 512, (self.MIB << 20) // 5)


class Torture(SystemCheck):
    """Work of every kind on files and memory."""

    # What it must exceed, in pages: numbers that a run that did nothing would not reach.
    HARD = {("cache", "puts"): 1000, ("cache", "refused"): 10, ("cache", "hits"): 0, ("swap", "puts"): 10}

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

    def start(self):
        """A guest with little memory, so that there is much to reclaim."""
        content = [cells(file * FILE_CELLS + 1, FILE_CELLS) for file in range(5)]
        files = {f"{folder}/{file}": data for folder in range(2) for file, data in enumerate(content)}
        hinting = self.enterContext(Hinting(("ext4", "xfs", "erofs", "swap"), files, LITTLE))
        guest = self.watch(hinting.guest)
        guest.run(f"modprobe tmem && swapon {hinting.device('swap')}")
        return hinting, guest

    def work(self, hinting, meanwhile):
        """Works, while the guest does something else in a loop, in /proc/sys/vm."""
        devices = hinting.torture_devices()
        said = hinting.guest.run(
            f"cd /proc/sys/vm; touch /go; while [ -e /go ]; do {meanwhile}; done </dev/null >/dev/null 2>&1 & "
            f"/selftests/page_hint_torture -s {SECONDS} -a 128 {devices}; status=$?; rm /go; wait; exit $status",
            timeout=SECONDS * 3 + 300)
        self.assertIn("no differences", said)
        return said

    def empty(self, hinting):
        """All that was swapped comes back, and nothing is left when all is gone."""
        guest = hinting.guest
        guest.run(f"swapoff {hinting.device('swap')}")
        swap = counters(guest, "swap")
        self.assertEqual(swap["misses"], 0)
        guest.run("rmmod tmem")
        self.assertRegex(hinting.cp.ctl("tmem", "list"), re.compile(r"^0 of", re.M))
        return swap

    def easy(self, guest):
        """What it does not exceed yet."""
        done = {half: counters(guest, half) for half in ("cache", "swap")}
        print("\n".join(f"{half} {figures}" for half, figures in done.items()))
        return {f"{half} {name}": done[half][name] for (half, name), most in self.HARD.items()
                if done[half][name] <= most}

    def test_all(self):
        hinting, guest = self.start()
        for _ in range(RUNS):
            with self.torment(hinting) as (rounds, taken):
                # While tmem is off page cache becomes volatile, and may be taken when it is on again.
                said = self.work(hinting, "sleep 2; echo 0 >tmem_cache; sleep 2; echo 1 >tmem_cache")
            print(f"{said}\n{rounds.result()} orders\n{taken.result().strip()}")
            if not (easy := self.easy(guest)):
                break
        self.assertEqual(easy, {})
        self.assertGreater(self.empty(hinting)["hits"], 0)

    def test_comes_and_goes(self):
        """The module is unloaded, after its swapped pages came home, and loaded, while all are at work."""
        hinting, guest = self.start()
        for _ in range(RUNS):
            self.work(hinting, "sleep 1; echo 0 >tmem_swap && rmmod tmem && echo >>/unloaded; modprobe tmem")
            if (unloaded := int(guest.run("touch /unloaded; wc -l </unloaded"))) > 2:
                break
        self.assertGreater(unloaded, 2)
        self.empty(hinting)


if __name__ == "__main__":
    unittest.main()
