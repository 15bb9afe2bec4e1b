# SPDX-License-Identifier: GPL-2.0
"""Files whose pages are in tmem: whoever changes them in whatever way, no old page comes back."""
import array
import collections
import contextlib
import json
import os
import re
import subprocess
import unittest

from page_hint_torture import Hinting
from systems import PAGE, SystemCheck

COUNTERS = "/sys/kernel/debug/tmem"
PAGES = 64
XFS_EXCHANGE = 0x40


def counters(guest, half):
    """What the guest has counted of page cache or swapped pages."""
    lines = guest.run(f"cd {COUNTERS}/{half} && grep -H '^[0-9]*$' *").splitlines()
    return {name: int(count) for name, count in (line.split(":") for line in lines)}


def references(guest):
    """What keeps the module: swapped pages do."""
    return int(guest.run("awk '$1 == \"tmem\" { print $3 }' /proc/modules"))


@contextlib.contextmanager
def traced(guest, event=""):
    """Tracepoints are on, all of tmem's or one; gives a function that returns what they have told."""
    tracing = "/sys/kernel/debug/tracing"
    enable = f"{tracing}/events/tmem/{event}/enable"
    guest.run(f"echo >{tracing}/trace; echo 1 >{enable}")
    try:
        yield lambda: guest.run(f"cat {tracing}/trace")
    finally:
        guest.run(f"echo 0 >{enable}")


def version(number):
    """What tmem_file.c writes into a file as this version."""
    words = array.array("Q", (number << 32 | at for at in range(0, PAGES * PAGE, 8)))
    words.byteswap()
    return words.tobytes()


def allow_exchange(image):
    """mkfs.xfs of Debian 12 does not know the feature."""
    def superblock(*words):
        return subprocess.run(["xfs_db", "-x", "-c", "sb 0", "-c", " ".join(words), image], check=True, text=True,
                              capture_output=True, env={**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}).stdout

    features = int(superblock("print", "features_incompat").split()[-1], 0)
    superblock("write", "-d", "features_incompat", hex(features | XFS_EXCHANGE))


class Files(SystemCheck):
    """An ext4, an xfs, and an ext4 without checksums, each changed while all of a file is in tmem."""

    @classmethod
    def setUpClass(cls):
        cls.hinting = cls.enterClassContext(Hinting(("ext4", "xfs", "swap"), {}))
        allow_exchange(cls.hinting.image("xfs"))
        guest = cls.hinting.guest
        guest.run("modprobe tmem swap=0")
        # Any disk will do: it gets a file system of another kind here.
        guest.run(f"mke2fs -b {PAGE} {cls.hinting.device('swap')}")
        for name, kind in (("ext4", "ext4"), ("xfs", "xfs"), ("swap", "ext4")):
            guest.run(f"mkdir -p /mnt/{name} && mount -t {kind} {cls.hinting.device(name)} /mnt/{name}")

    def setUp(self):
        self.guest = self.watch(self.hinting.guest)

    def counters(self):
        return counters(self.guest, "cache")

    def file(self, name, *words):
        return self.guest.run(f"/selftests/tmem_file /mnt/{name} {' '.join(words)}")

    def test_changes_ext4(self):
        self.file("ext4")

    def test_changes_xfs(self):
        self.file("xfs")

    def test_generation(self):
        """A page is not found again when its inode has the generation again with which it was put."""
        self.file("swap", "generation")

    def test_verity(self):
        """What fs-verity is to check is read."""
        self.file("ext4", "put")
        self.guest.run("/selftests/page_hint_file verity /mnt/ext4/tmem_file")
        self.file("ext4", "verified")
        self.guest.run("rm -f /mnt/ext4/tmem_file")

    def test_tracepoints(self):
        """They tell of each folio, which file it belongs to and what became of it."""
        for name in ("ext4", "xfs"):
            with traced(self.guest) as trace:
                before = self.counters()
                self.file(name, "put")
                self.file(name, "parts")
                after = self.counters()
                inode = self.guest.run(f"stat -c %i /mnt/{name}/tmem_file")
                told = re.findall(rf"tmem_cache_(put|get): dev=\S+ ino={inode} index=\d+ pages=(\d+) (done|not done)", trace())
            pages = collections.Counter()
            for what, count, outcome in told:
                pages[what, outcome] += int(count)
            self.assertEqual(pages["put", "done"], after["puts"] - before["puts"], name)
            self.assertEqual(pages["get", "done"], after["hits"] - before["hits"], name)
            self.assertGreater(pages["get", "not done"], 0, name)

    def test_refused_put(self):
        """What tmem has of a page goes when a newer one is not taken."""
        for name in ("ext4", "xfs"):
            self.file(name, "put")
            before = self.counters()
            self.hinting.cp.ctl("tmem", "freeze", self.guest.name)
            self.file(name, "overwrite")
            self.hinting.cp.ctl("tmem", "thaw", self.guest.name)
            self.assertGreaterEqual(self.counters()["refused"], before["refused"] + PAGES)
            self.file(name, "look")

    def test_unmade_pool(self):
        """What the operator has unmade is missed, and page cache goes to a new pool."""
        for name in ("ext4", "xfs"):
            self.file(name, "put")
            self.hinting.cp.ctl("tmem", "destroy", self.guest.name)
            self.assertEqual(self.kept(name), 0)
            # The first put finds out.
            before = self.counters()
            self.file(name, "overwrite")
            self.assertGreater(self.counters()["refused"], before["refused"], name)
            self.file(name, "look")
            self.file(name, "put")
            self.assertEqual(self.kept(name), PAGES, name)

    def test_no_volatile_beside(self):
        """Page cache that tmem wants does not become volatile; it does while tmem has none."""
        for name in ("ext4", "xfs"):
            self.file(name, "put")
            self.guest.run(f"cat /mnt/{name}/tmem_file >/dev/null")
            states = f"/selftests/page_hint_file states idle /mnt/{name}/tmem_file"
            self.assertEqual(self.guest.run(states), f"0 of {PAGES}")
            self.guest.run("echo 0 >/proc/sys/vm/tmem_cache")
            self.assertEqual(self.guest.run(states), f"{PAGES} of {PAGES}")
            # All is lost, and what is read again in its place is new.
            self.hinting.cp.ctl("reclaim", self.guest.name, "all", "--only", "v")
            self.guest.run("echo 1 >/proc/sys/vm/tmem_cache")
            self.file(name, "overwrite")
            self.file(name, "look")

    def test_flight(self):
        """Direct I/O that is under way while others have the old content put."""
        for name in ("ext4", "xfs"):
            self.file(name, "put")
            self.throttle(name, PAGES * PAGE // 4)
            before = self.counters()
            try:
                self.file(name, "fly")
            finally:
                self.throttle(name, 0)
            after = self.counters()
            self.assertGreaterEqual(after["puts"], before["puts"] + PAGES, name)
            self.assertEqual(after["hits"], before["hits"], name)
            self.file(name, "look")

    def throttle(self, name, rate):
        """Lets a disk write so many bytes a second, or all that it can."""
        self.guest.qmp("block_set_io_throttle", device=f"disk{self.hinting.names.index(name)}", bps=0, bps_rd=0,
                       bps_wr=rate, iops=0, iops_rd=0, iops_wr=0)

    def changed_outside(self, away, back):
        """A file is put, and changed on its disk when the guest does not look; then the new content is read."""
        for name in ("ext4", "xfs"):
            place = int(self.file(name, "put"))
            before = self.counters()
            self.guest.run(away.format(name=name))
            with open(self.hinting.image(name), "r+b") as image:
                image.seek(place)
                self.assertEqual(image.read(PAGES * PAGE), version(1), name)
                image.seek(place)
                image.write(version(2))
            self.guest.run(back.format(name=name, device=self.hinting.device(name)))
            self.file(name, "look")
            self.assertEqual(self.counters()["hits"], before["hits"], name)

    def test_mounted_again(self):
        self.changed_outside("umount /mnt/{name}", "mount -t {name} {device} /mnt/{name}")

    def test_writable_again(self):
        self.changed_outside("mount -o remount,ro /mnt/{name}", "mount -o remount,rw /mnt/{name}")

    def test_parts_of_folios(self):
        """A large folio that tmem has only a part of is read, and what is left of it takes no room."""
        for name in ("ext4", "xfs"):
            self.file(name, "put")
            before = self.counters()
            self.file(name, "parts")
            after = self.counters()
            self.assertGreater(after["hits"], before["hits"], name)
            # Page by page there would be as many as are gone.
            self.assertGreater(after["misses"], before["misses"] + PAGES // 3 + 1, name)
            self.assertEqual(self.kept(name), 0, name)

    def kept(self, name):
        """How many pages of a file system the hypervisor has."""
        number = self.guest.run(f"cat /sys/block/{self.hinting.device(name).removeprefix('/dev/')}/dev")
        guests = json.loads(self.hinting.cp.ctl("--json", "tmem", "list", self.guest.name))["guests"]
        return sum(pool["pages"] for pool in guests[0]["pools"] if pool["label"].endswith(number))


if __name__ == "__main__":
    unittest.main()
