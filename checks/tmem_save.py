# SPDX-License-Identifier: GPL-2.0
"""Transcendent memory that outlives cpd: tmem save and restore, with the guest that tmem.py uses."""
import json
import os
import pathlib
import shutil
import signal
import tempfile
import unittest

from coopguest import ControlProgram
from systems import SOON, SystemCheck, errors_of, start_cpd
from tmem import BAD_POOL, EPHEMERAL, GET_KEEP, MISS, OK, PERSISTENT, Client, content

PAGES = 700  # More than are written in one turn.


class Restarted(SystemCheck):
    """A cpd that ends and is started again."""

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="coopmem-save-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.cp = ControlProgram(str(self.folder / "cp.sock"))
        self.file = self.folder / "pools"
        self.start()

    def start(self):
        self.cpd = start_cpd(self.cp.socket, "--tmem", "64M")
        self.addCleanup(self.cpd.stdout.close)
        self.addCleanup(self.cpd.wait)
        self.addCleanup(self.cpd.kill)
        self.assertIn("ready", self.cpd.stdout.readline())

    def restart(self, sign):
        self.cpd.send_signal(sign)
        self.cpd.wait(SOON)
        self.start()
        self.eventually(lambda: self.guest.name in self.cp.ctl("query", "names"), "the guest is back")

    def save(self, **more):
        return self.cp.ctl("tmem", "save", self.guest.name, self.file, **more)

    def restore(self, **more):
        return self.cp.ctl("tmem", "restore", self.guest.name, self.file, **more)


class Save(Restarted):
    """A guest with a persistent and an ephemeral pool."""

    def setUp(self):
        super().setUp()
        self.guest = self.enterContext(Client(self.cp, "SAVED"))
        self.guest.query()
        self.persistent = self.guest.create(PERSISTENT)
        self.ephemeral = self.guest.create(EPHEMERAL)

    def put(self, pool, pages):
        for index in range(pages):
            self.assertEqual(self.guest.put(pool, index, index), OK)

    def state(self):
        return self.guest.qmp("query-status")["status"]

    def listed(self):
        return [pool["pages"] for pool in json.loads(self.cp.ctl("--json", "tmem", "list"))["guests"][0]["pools"]]

    def test_the_guest_outlives_cpd(self):
        self.put(self.persistent, PAGES)
        self.put(self.ephemeral, 20)
        for sign in (signal.SIGTERM, signal.SIGKILL):
            self.assertEqual(self.save(), f"{PAGES + 20} pages are saved\n")
            self.assertEqual(self.state(), "paused")
            self.assertEqual(self.file.stat().st_mode & 0o777, 0o600)
            self.restart(sign)
            self.assertEqual((self.state(), self.listed()), ("paused", []))
            self.assertEqual(self.restore(), f"{PAGES + 20} pages are restored\n")
            self.eventually(lambda: self.state() == "running", "the guest goes on")
            for index in range(PAGES):
                self.assertEqual(self.guest.get(self.persistent, index, GET_KEEP), content(index))
        self.assertEqual(self.guest.get(self.ephemeral, 19), content(19))
        self.assertEqual(self.guest.put(self.persistent, PAGES, 1), OK)

    def test_it_goes_on_where_it_is(self):
        """Without another cpd, and more than once; but not twice with the same file."""
        self.put(self.persistent, 3)
        for _ in range(2):
            self.save()
            self.restore()
            self.assertEqual(self.guest.get(self.persistent, 2, GET_KEEP), content(2))
        self.one_line(self.restore(status=126), str(self.file), "went on")
        self.assertEqual(self.listed(), [3, 0])

    def test_what_is_not_as_it_was_saved(self):
        self.put(self.persistent, 3)
        self.save()
        old = self.file.read_bytes()
        self.save()
        new = self.file.read_bytes()
        self.restart(signal.SIGTERM)
        middle = len(new) // 2
        damaged = new[:middle] + bytes([new[middle] ^ 1]) + new[middle + 1:]
        for data, why in ((old, "saved once more"), (new[:-1], "too early"), (new + b"x", "follows"),
                          (damaged, "altered"), (b"something else\n" * 9, "not a file of pools"), (b"", "too early")):
            self.file.write_bytes(data)
            self.one_line(self.restore(status=126), str(self.file), why)
            self.assertEqual((self.state(), self.listed()), ("paused", []))
        self.file.unlink()
        self.one_line(self.restore(status=126), str(self.file), "No such file")
        self.file.write_bytes(new)
        with Client(self.cp, "OTHER"):
            said = self.cp.ctl("tmem", "restore", "other", self.file, status=126)
            self.one_line(said, "SAVED")
        self.restore()
        self.assertEqual(self.guest.get(self.persistent, 2), content(2))

    def test_another_life(self):
        """After a reset, also of a guest that is stopped."""
        self.put(self.persistent, 3)
        self.save()
        times = self.guest.words(0x20060)[0]
        self.guest.qmp("system_reset")
        self.eventually(lambda: self.listed() == [], "its pools are gone")
        self.one_line(self.restore(status=126), "reset", "persistent")
        self.guest.qmp("cont")
        self.guest.started(times)
        self.guest.query()
        self.assertEqual(self.guest.get(self.persistent, 0), BAD_POOL)

    def test_ephemeral_pages_alone_are_dropped(self):
        self.put(self.ephemeral, 3)
        self.save()
        self.restore()
        self.assertEqual(self.guest.get(self.ephemeral, 0), content(0))
        self.one_line(self.restore(), "3 ephemeral pages are gone")
        self.assertEqual(self.guest.get(self.ephemeral, 0), MISS)
        self.assertEqual(self.guest.get(self.ephemeral, 1), content(1))

    def test_who_lets_it_run_ends_it(self):
        """A guest that is let run by somebody else without a cpd stops, as any other does."""
        self.put(self.persistent, 3)
        self.save()
        self.cpd.kill()
        self.cpd.wait()
        self.eventually(lambda: "waits for the next Control Program" in errors_of(self.guest), "it says so")
        self.guest.qmp("cont")
        self.guest.begin("tmem", 0xf0000, 0, 0)
        self.assertNotEqual(self.guest.process.wait(SOON), 0)
        self.assertIn("lost its Control Program", errors_of(self.guest))

    def test_what_cannot_be_saved_goes_on(self):
        self.put(self.persistent, 3)
        for file, why in ((self.folder / "none" / "pools", "No such file"), (self.folder, "directory")):
            self.one_line(self.cp.ctl("tmem", "save", self.guest.name, file, status=126), why)
            self.eventually(lambda: self.state() == "running", "the guest goes on")
        self.one_line(self.cp.ctl("tmem", "save", "nobody", self.file, status=126), "NOBODY is not logged on")
        self.assertEqual(self.guest.get(self.persistent, 2), content(2))


class Linux(Restarted):
    """A guest with an operating system."""

    def boot_linux(self, **more):
        self.guest = self.boot(self.cp, "LINUX01", memory="256M", cpus=2, **more)
        return self.guest

    def test_swapped_memory(self):
        """A program's memory is in tmem while cpd ends, and nowhere else."""
        disk = self.folder / "disk"
        disk.touch()
        os.truncate(disk, 32 << 20)
        guest = self.boot_linux(disks=[disk])
        guest.run("modprobe tmem cache=0 && echo 0 >/proc/sys/vm/tmem_home && mkswap /dev/vda && swapon /dev/vda")
        written = guest.disk_stat("vda").sectors_written
        guest.run("(/selftests/tmem_swap kept 8 /go; echo status $?) >/said 2>&1 &")
        guest.wait_for("cat /said", "out", 300)
        self.save()
        self.restart(signal.SIGTERM)
        self.restore()
        guest.run("touch /go")
        guest.wait_for("cat /said", "out\nstatus 0", 300)
        self.assertEqual(guest.disk_stat("vda").sectors_written, written)

    def test_iucv(self):
        """IUCV paths cannot be saved."""
        guest = self.boot_linux()
        guest.run("modprobe smsgiucv")
        self.one_line(self.save(status=126), "IUCV", "smsgiucv")
        guest.run("rmmod smsgiucv")
        self.save()
        self.restore()
        guest.run("true")


if __name__ == "__main__":
    unittest.main()
