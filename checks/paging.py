# SPDX-License-Identifier: GPL-2.0
"""Real memory is limited: guests that do not fit are paged, and never notice but by waiting.

On the release kernel: it is the Control Program that is looked at.
"""
import concurrent.futures
import os
import pathlib
import re
import signal
import tempfile
import time
import unittest

from coopguest import ControlProgram, Guest, GuestDied
from hinting import DISK, mount, sweep
from systems import KERNEL, PAGE, SystemCheck, errors_of, resident_pages

MIB = (1 << 20) // PAGE
# What a guest is made to keep, and reads again: more than its part of the frames.
WORK = """
    set -e
    for round in 1 2; do
        for file in 1 2 3; do
            head -c 12000000 /dev/urandom >/tmp/$file
            md5sum /tmp/$file >/tmp/$file.sum
        done
        cat /tmp/1 /tmp/2 | md5sum >/tmp/both.sum
        cp /tmp/3 /tmp/4 && cmp /tmp/3 /tmp/4
        cat /tmp/?.sum | md5sum -c -s
        cat /tmp/1 /tmp/2 | md5sum | cmp - /tmp/both.sum
    done
    echo right"""


class Paged(SystemCheck):
    """A check of a system whose guests own more than there is."""

    def start(self, frames, volume="1G", *options):
        folder = self.enterContext(tempfile.TemporaryDirectory(prefix="coopmem-paging-"))
        self.volume = pathlib.Path(folder) / "volume"
        self.frames = frames * MIB
        self.cp = self.enterContext(ControlProgram(options=(
            "--frames", f"{frames}M", "--page-volume", self.volume, "--page-size", volume, *options)))

    def guest(self, name, memory="256M", **more):
        return self.boot(self.cp, name, memory=memory, cpus=1, **more)

    def figures(self, command, pattern):
        return tuple(map(int, re.search(pattern, self.cp.ctl(*command.split())).groups()))

    def paged(self, guest):
        """Pages that are resident, preserved, came back and have left, as the operator sees them."""
        return self.figures(f"indicate user {guest.name}", r"(?s)RES=(\d+).*NPREF=(\d+).*READS=(\d+) WRITES=(\d+)")

    def fill(self, guest, mib):
        """Has a guest keep what cannot be had otherwise; gives its sum."""
        return guest.run(f"head -c {mib << 20} /dev/urandom >/tmp/kept; md5sum /tmp/kept")


class Paging(Paged):
    """What becomes of the guests of such a system."""

    def in_use(self):
        return self.figures("query alloc page", r"SUMMARY +\d+K? +(\d+)")[0]

    def test_guests_that_do_not_fit(self):
        """Three guests at once and in turn, 1.8 times as large as all frames: none sees a difference."""
        self.start(frames=320)
        names = ("LINUX01", "LINUX02", "LINUX03")
        guests = [self.guest(name, memory="192M") for name in names]
        most = 0
        with concurrent.futures.ThreadPoolExecutor() as pool:
            kept = list(pool.map(lambda guest: self.fill(guest, 25), guests))
            working = [pool.submit(guest.run, WORK) for guest in guests]
            while not all(each.done() for each in working):
                most = max(most, sum(map(resident_pages, guests)))
            self.assertEqual([each.result() for each in working], ["right"] * 3)
        self.assertEqual([guest.run("md5sum /tmp/kept") for guest in guests], kept)
        # There are as many frames as there are; each guest has some, and all have been paged.
        self.assertLessEqual(most, self.frames)
        self.assertGreater(most, self.frames * 3 // 4)
        paged = [self.paged(guest) for guest in guests]
        for figures in paged:
            self.assertGreater(min(figures), 100, paged)
        for figure in zip(*paged):
            self.assertGreater(sum(figure), 1000, paged)
        for guest in guests:
            # What the guest and its operator are told is the same, but for what has happened in between.
            self.assertIn(f"USERID={guest.name}", guest.run("vmcp indicate user"))
        total, available = self.cp.frames()
        self.assertEqual(total, self.frames)
        self.assertLess(available, self.frames // 10)
        self.assertGreater(self.in_use(), 1000)
        # Whoever leaves takes everything with him.
        for guest in guests:
            self.cp.ctl("force", guest.name)
            guest.process.wait(30)
        self.eventually(lambda: self.in_use() == 0, "the paging volume is empty")

    def test_what_is_not_needed_goes_first(self):
        """Unused pages are taken before volatile ones, and these before any page is written."""
        self.start(frames=100)
        guest = self.guest("LINUX01", memory="192M", append="page_hint.volatile=1", disks=[DISK])
        mount(guest)
        guest.sysctl("page_hint_lost", 0)
        for folder in ("kernel", "mm", "fs", "kernel"):
            guest.run(f"find /mnt/sources/{folder} -type f -exec cat {{}} + >/dev/null")
            sweep(guest)
        counters = self.cp.counters(guest.name)
        taken = counters["unused_taken"] + counters["volatile_taken"]
        self.assertGreater(taken, 1000, counters)
        _, _, _, left = self.paged(guest)
        # A guest that is slow to give them up is not waited for.
        self.assertLess(left * 2, taken)

    def test_what_is_given_up_unasked(self):
        """A guest that may do so gives up what it does not need once there is paging, and not before."""
        self.start(frames=180)
        guest, other = self.guest("LINUX01", memory="192M"), self.guest("LINUX02")
        guest.run("modprobe cmm && echo 1 >/proc/sys/vm/cmm_self")
        given = lambda: int(guest.run("cat /sys/kernel/debug/cmm/self_pages"))
        # It asks each second.
        time.sleep(5)
        self.assertEqual((given(), self.in_use()), (0, 0))
        self.fill(other, 100)
        self.eventually(lambda: given() > 5000, "the guest gives pages up", 60)

    def test_early_writes(self):
        """What must leave has been written already, if the operator wants that; it is what it was all the same."""
        self.start(96, "1G", "--early-writes")
        guest = self.guest("LINUX01")
        kept = self.fill(guest, 60)
        size, = self.figures("query agelist", r"SIZE=(\d+)  EARLYWRITES=YES  KEEPSLOT=YES")
        self.assertEqual(size, self.frames // 100 * 2)

        def counts():
            counters = self.cp.counters(guest.name)
            return [counters[name] for name in ("pages_out", "pages_written", "pages_written_early")]

        def settled():
            """What is counted when the looks of some seconds have found nothing to do."""
            found = None
            while found != (found := counts()):
                time.sleep(3)
            return found

        def more_leaves():
            """Pages that leave, and are written as they do, when a guest needs a few frames."""
            left, written, early = settled()
            while counts()[0] == left:
                guest.run("head -c 100000 /dev/urandom >>/tmp/more")
            now = settled()
            return now[0] - left, now[1] - now[2] - (written - early)

        # The list is full, of what nobody has used.
        self.eventually(lambda: counts()[2] >= size, "pages are written early")
        left, late = more_leaves()
        self.assertLess(late * 4, left)
        self.assertIn("HCPCFS003E", guest.run("vmcp set agelist earlywrites no", status=None))
        self.cp.ctl("set", "agelist", "earlywrites", "no", "keepslot", "no")
        self.assertIn("EARLYWRITES=NO  KEEPSLOT=NO", guest.run("vmcp query agelist"))
        # What was written until then leaves first.
        early, gone = counts()[2], 0
        while gone < size:
            gone += more_leaves()[0]
        left, late = more_leaves()
        self.assertGreater(late * 2, left)
        self.assertEqual((counts()[2], guest.run("md5sum /tmp/kept")), (early, kept))

    def given_up(self, options, give_up):
        """Pages of a file that is no more, most of them paged out, do not come back, and give their slots up."""
        self.start(72)
        # Linux does not say which pages are unused.
        guest = self.guest("LINUX01", append="cmma=off", qemu=("-device", f"virtio-balloon-ccw{options}"))
        kept = self.fill(guest, 5)
        guest.run(f"yes | head -c {80 << 20} >/tmp/gone && rm /tmp/gone")
        (_, preserved, came, _), slots = self.paged(guest), self.in_use()
        give_up(guest)
        # Much of what is out is the kernel's own.
        least = 12 * MIB
        self.eventually(lambda: self.paged(guest)[1] < preserved - least, "what was given up is not preserved any longer")
        self.eventually(lambda: self.in_use() < slots - least, "nor has it slots")
        self.assertLess(self.paged(guest)[2] - came, least)
        return guest, kept

    def test_balloon(self):
        def inflate(guest):
            guest.run("modprobe virtio_balloon")
            guest.qmp("balloon", value=96 << 20)
            self.eventually(lambda: guest.qmp("query-balloon")["actual"] == 96 << 20, "the balloon is full", 120)

        guest, kept = self.given_up("", inflate)
        guest.qmp("balloon", value=256 << 20)
        self.eventually(lambda: guest.qmp("query-balloon")["actual"] == 256 << 20, "the balloon is empty", 120)
        other = guest.run(f"yes other | head -c {80 << 20} | tee /tmp/other | md5sum")
        self.assertEqual(guest.run("md5sum </tmp/other; md5sum /tmp/kept"), f"{other}\n{kept}")

    def test_free_page_reporting(self):
        guest, kept = self.given_up(",free-page-reporting=on", lambda guest: guest.run("modprobe virtio_balloon"))
        self.assertEqual(guest.run("md5sum /tmp/kept"), kept)

    def ends(self, guest, *wanted):
        """It ends by itself, and says why in one line."""
        self.assertNotEqual(guest.process.wait(60), 0)
        self.one_line(errors_of(guest), guest.name, *wanted)

    def test_full_volume(self):
        """Who needs a frame when there is none, and no slot, ends; who does not lives on."""
        self.start(96, "8M")
        idle, greedy = self.guest("LINUX01"), self.guest("LINUX02")
        with self.assertRaises(GuestDied):
            greedy.run(f"head -c {150 << 20} /dev/urandom >/tmp/more")
        self.ends(greedy, "paging volume is full")
        self.assertEqual(idle.run("echo alive"), "alive")

    def test_volume_in_error(self):
        """What does not come back as it was is not given to anybody."""
        self.start(96, "1G")
        guest = self.guest("LINUX01")
        self.fill(guest, 90)
        self.assertGreater(self.in_use(), 1000)
        with open(self.volume, "r+b") as volume:
            volume.write(os.urandom(self.volume.stat().st_size))
        with self.assertRaises(GuestDied):
            guest.run("md5sum /tmp/kept")
        self.ends(guest, "not what was written")

    def test_cpd_is_killed(self):
        """Memory that only cpd knows is gone with it: guests end at once, and say why."""
        self.start(96)
        guest = self.guest("LINUX01")
        self.fill(guest, 60)
        guest.port.sendall(b"bWQ1c3VtIC90bXAva2VwdAo=\n")
        self.cp.process.send_signal(signal.SIGKILL)
        self.ends(guest, "lost its Control Program")

    def test_direct_io_is_refused(self):
        self.start(96)
        disk = pathlib.Path(self.volume.parent) / "disk"
        disk.write_bytes(bytes(1 << 20))
        with self.assertRaises(GuestDied) as caught:
            with Guest(self.cp, "LINUX01", kernel=KERNEL, disks=[disk], cache="none"):
                pass
        self.assertIn("O_DIRECT", str(caught.exception))

    def test_saving_is_refused(self):
        self.start(96)
        guest = self.guest("LINUX01")
        said = self.cp.ctl("tmem", "save", guest.name, self.volume.parent / "saved", status=None)
        self.one_line(said, "paging volume")
        self.assertEqual(guest.run("echo alive"), "alive")


if __name__ == "__main__":
    unittest.main()
