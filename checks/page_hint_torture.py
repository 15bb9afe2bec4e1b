# SPDX-License-Identifier: GPL-2.0
"""The host takes what a guest says it may take, at random and hard, and the guest never sees a difference.

TORTURE_SECONDS= is how long each of the two tortures takes (15).
"""
import array
import collections
import concurrent.futures
import contextlib
import hashlib
import itertools
import os
import pathlib
import re
import subprocess
import tempfile
import unittest

from coopguest import ControlProgram, Guest
from systems import IMAGE, KERNEL, PAGE, SystemCheck, vmstat

SECONDS = int(os.environ.get("TORTURE_SECONDS", "15"))
CELL, WORDS, FILE_CELLS = 512, 64, 8192
# A slow machine does not get enough done in one run of a torture.
RUNS = 8
COUNTERS = "/sys/kernel/debug/page_hint/counters"
# Of a guest that is to have too little; KASAN needs a part of it for itself.
LITTLE = "mem=208M" if KERNEL == "kasan" else "mem=160M"

# What reclaim, swap and compaction count.
EVENTS = ("pswpout", "pswpin", "pgmigrate_success", "pgsteal_file", "pgsteal_anon", "pgscan_kswapd")
# No file system need be busy.
MAY_BE_NONE = {"remount ro of a busy one"}


def cells(first, count):
    """What page_hint_torture.c wants in cells with stamps from `first` on."""
    words = array.array("Q", ((stamp << 6 | i) * 0x9E3779B97F4A7C15 & (1 << 64) - 1
                              for stamp in range(first, first + count) for i in range(WORDS)))
    words.byteswap()
    return words.tobytes()


class Hinting:
    """A guest with volatile page cache and disks, under a Control Program that lets no device, and nobody use what
    was taken. The guest knows a disk by its serial number, whatever name it gets."""

    MAKE = {"ext4": ("mke2fs", "-q", "-t", "ext4", "-b", "4096", "-O", "verity"),
            "xfs": ("mkfs.xfs", "-q"),
            "erofs": ("mkfs.erofs", "--quiet"),
            "swap": ("mkswap", "-q")}
    SIZE = {"ext4": 256 << 20, "xfs": 320 << 20, "swap": 256 << 20}

    def __init__(self, names, files, append="", memory="256M"):
        """Disks of the kinds `names`, and the files that are in the one of erofs."""
        self.names, self.files, self.append, self.memory = names, files, append, memory

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self.folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="coopmem-disks-")))
            for name, data in self.files.items():
                path = self.folder / "files" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            for name in self.names:
                if name in self.SIZE:
                    with open(self.image(name), "wb") as image:
                        image.truncate(self.SIZE[name])
                content = [self.folder / "files"] if name == "erofs" else []
                subprocess.run([*self.MAKE[name], self.image(name), *content], check=True, capture_output=True,
                               env={**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"})
            self.cp = stack.enter_context(ControlProgram())
            self.guest = stack.enter_context(Guest(
                self.cp, memory=self.memory, kernel=KERNEL, disks=[self.image(name) for name in self.names],
                append=self.append, device="unused=exception,oracle=on", image=IMAGE))
            self.guest.run("modprobe xfs && modprobe erofs")
            for name, value in (("lost", 0), ("volatile", 1), ("mapped", 1), ("age", 0)):
                self.guest.sysctl(f"page_hint_{name}", value)
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self.stack.close()

    def image(self, name):
        return self.folder / name

    def device(self, name):
        return self.guest.disk(self.names.index(name))

    def torture_devices(self):
        """The disks as page_hint_torture.c takes them. It begins with empty file systems, whatever an earlier run left."""
        for name in ("ext4", "xfs"):
            self.guest.run(f"mount -t {name} {self.device(name)} /mnt && rm -rf /mnt/[01] && umount /mnt")
        return " ".join(f"{name}:{self.device(name)}" for name in ("ext4", "xfs", "erofs"))

    def counters(self):
        names = ("made_volatile", "made_stable", "lost_folios", "unmapped", "freed", "kernel_faults", "user_faults")
        return {name: int(self.guest.run(f"cat {COUNTERS}/{name}")) for name in names}


class HintCheck(SystemCheck):
    """A check that no use was made of what was taken."""

    def check_faults(self, hinting):
        done = hinting.counters()
        self.assertEqual((done["kernel_faults"], done["user_faults"]), (0, 0))
        return done


class Torture(HintCheck):
    """Work of every kind on files and memory, while the host takes unused and volatile pages."""

    # What a run must have done at least, in pages, folios and rounds of the host.
    HARD = {"rounds": SECONDS, "unused taken": 1000, "volatile taken": 1000, "made_volatile": 10000, "lost_folios": 100,
            "unmapped": 20}

    def run_once(self, hinting):
        """One run; what was done, and how often. Nothing was lost."""
        guest = hinting.guest
        devices = hinting.torture_devices()
        before = vmstat(guest) | hinting.counters()
        with concurrent.futures.ThreadPoolExecutor() as beside:
            torment = beside.submit(hinting.cp.ctl, "torment", guest.name, "--seconds", SECONDS,
                                    "--share", 300, "--interval", 20)
            said = guest.run(f"/selftests/page_hint_torture -s {SECONDS} -a 48 {devices}", timeout=SECONDS * 3 + 300)
            taken = torment.result()
        counts = self.check_faults(hinting)
        print(f"{said}\n{taken.strip()}\n{counts}")
        self.assertIn("no differences", said)
        after = vmstat(guest) | counts
        done = {name: after[name] - before[name] for name in (*EVENTS, "made_volatile", "lost_folios", "unmapped")}
        done |= zip(("rounds", "unused taken", "volatile taken"),
                    map(int, re.search(r"in (\d+) rounds: U (\d+), V (\d+);", taken).groups()))
        return collections.Counter(done | {name: int(times) for name, times in
                                           re.findall(r"^torture: did (.+): (\d+)$", said, re.M)})

    def torture(self, unused, enough):
        """Runs until it was hard, and enough: numbers that runs that did nothing would not reach."""
        content = [cells(file * FILE_CELLS + 1, FILE_CELLS) for file in range(5)]
        files = {f"{folder}/{file}": data for folder in range(2) for file, data in enumerate(content)}
        # Little memory, so that there is much to reclaim.
        hinting = self.enterContext(Hinting(("ext4", "xfs", "erofs", "swap"), files,
                                            f"{LITTLE} page_hint.unused={unused}"))
        guest = self.watch(hinting.guest)
        guest.run(f"swapon {hinting.device('swap')}")
        done = collections.Counter()
        for _ in range(RUNS):
            done.update(self.run_once(hinting))
            easy = {name: done[name] for name, least in self.HARD.items() if done[name] < least}
            if not easy and enough(done):
                break
        self.assertEqual(easy, {}, unused)
        return done

    def left_out(self, *runs):
        """Kinds of work that were not done, and what Linux did not do by itself for want of memory."""
        done = collections.Counter()
        for each in runs:
            done.update(each)
        self.assertGreater(len(done), 40)
        return [name for name, times in done.items() if not times and name not in MAY_BE_NONE]

    def test_both_kinds_of_unused_hints(self):
        classic = self.torture("classic", lambda done: True)
        lazy = self.torture("lazy", lambda done: not self.left_out(classic, done))
        self.assertEqual(self.left_out(classic, lazy), [])


class Lost(HintCheck):
    """One way to use a file after the other, each after the host took all of it."""

    DATA = cells(1, FILE_CELLS // 4)
    PAGES = len(DATA) // PAGE

    @classmethod
    def setUpClass(cls):
        # Two blocks of memory that are movable as a whole.
        cls.hinting = cls.enterClassContext(Hinting(("ext4", "xfs", "erofs"), {"data": cls.DATA}, "movablecore=256M",
                                                    memory="512M"))
        for name in cls.hinting.names:
            cls.hinting.guest.run(f"mkdir -p /mnt/{name} && mount -t {name} {cls.hinting.device(name)} /mnt/{name}")

    def setUp(self):
        self.guest = self.watch(self.hinting.guest)
        self.lost = 0
        self.addCleanup(self.check_faults, self.hinting)

    def lose(self, file):
        """Has a file made volatile, and taken by the host."""
        n, _, pages = self.guest.run(f"/selftests/page_hint_file states idle {file}").partition(" of ")
        self.assertEqual(n, pages, file)
        self.lost = self.hinting.counters()["lost_folios"]
        self.hinting.cp.ctl("reclaim", self.guest.name, "all", "--only", "v")

    def holds(self, file, data):
        self.assertEqual(self.guest.run(f"md5sum <{file}").split()[0], hashlib.md5(data).hexdigest(), file)

    def was_lost(self):
        self.assertGreater(self.hinting.counters()["lost_folios"], self.lost)

    def copies(self):
        """A fresh file of each file system that can be written to, taken by the host."""
        for name in ("ext4", "xfs"):
            file = f"/mnt/{name}/file"
            self.guest.run(f"rm -f {file}; cp /mnt/erofs/data {file}; sync")
            self.lose(file)
            yield file

    def test_read(self):
        for file in self.copies():
            self.holds(file, self.DATA)
            self.was_lost()

    def test_read_only_file_system(self):
        self.lose("/mnt/erofs/data")
        self.holds("/mnt/erofs/data", self.DATA)
        self.was_lost()

    def test_write_in_part(self):
        step = 13 * PAGE
        for file in self.copies():
            data = bytearray(self.DATA)
            data[100::step] = b"x" * len(data[100::step])
            self.guest.run(f"i=100; while [ $i -lt {len(data)} ]; do printf x | dd of={file} bs=1 seek=$i "
                           f"conv=notrunc 2>/dev/null; i=$((i + {step})); done")
            self.was_lost()
            self.holds(file, data)

    def test_write_through_a_mapping(self):
        data = bytearray(self.DATA)
        data[::PAGE] = b"x" * self.PAGES
        for file in self.copies():
            self.guest.run(f"/selftests/page_hint_file poke {file}")
            self.was_lost()
            self.holds(file, data)

    def test_faults_read_ahead(self):
        """A file that was lost needs no more requests than one that was never read."""
        for file in self.copies():
            device = self.hinting.device(file.split("/")[2])
            # A folio that is large is read as a whole anyhow.
            self.guest.run(f"echo 1 >/proc/sys/vm/drop_caches; /selftests/page_hint_file scatter {file}")
            self.lose(file)

            def requests(device=device, file=file):
                before = self.guest.disk_stat(device).reads
                self.guest.run(f"/selftests/page_hint_file poke {file}")
                return self.guest.disk_stat(device).reads - before

            lost = requests()
            self.was_lost()
            self.guest.run("sync; echo 1 >/proc/sys/vm/drop_caches")
            cold = requests()
            self.assertGreater(cold, 0)
            self.assertLessEqual(lost, cold + self.PAGES // 16)

    def test_run(self):
        """Around a fault, what is in the page cache is mapped, too."""
        for name in ("ext4", "xfs"):
            file = f"/mnt/{name}/busybox"
            # Whole pages.
            self.guest.run(f"dd if=/bin/busybox of={file} bs=4096 conv=sync 2>/dev/null; "
                           f"chmod 700 {file}; sync; {file} true")
            self.lose(file)
            self.guest.run(f"for i in 1 2 3; do {file} md5sum /proc/self/exe; done | uniq | wc -l | grep -qx 1")
            self.was_lost()

    def test_mapped(self):
        """A process that has mapped a file comes to its content in whatever way after the host took all of it."""
        self.addCleanup(self.guest.run, "echo core >/proc/sys/kernel/core_pattern")
        ways = self.guest.run("/selftests/page_hint_mapped ways").split()
        self.assertGreater(len(ways), 10)
        for way, name in zip(ways, itertools.cycle(("ext4", "xfs"))):
            with self.subTest(way, on=name):
                file = f"/mnt/{name}/mapped"
                unmapped = self.hinting.counters()["unmapped"]
                pid = self.guest.run(f"cp /mnt/erofs/data {file} && sync && "
                                     f"{{ /selftests/page_hint_mapped {way} {file} {file}.out >/tmp/said 2>&1 & echo $!; }}")
                self.eventually(lambda: "T" == self.state_of(pid), "it has mapped the file")
                self.lose(file)
                self.assertGreaterEqual(self.hinting.counters()["unmapped"], unmapped + self.PAGES)
                self.guest.run(f"kill -CONT {pid}")
                self.eventually(lambda: self.state_of(pid) in ("", "Z"), "it has used the file")
                self.assertEqual(self.guest.run("cat /tmp/said").strip(), "the same")
                self.was_lost()
                self.guest.run(f"rm -f {file} {file}.out")

    def state_of(self, pid):
        return self.guest.run(f"sed -n 's/^State:.//p' /proc/{pid.strip()}/status 2>/dev/null | cut -c1").strip()

    def test_do_not_wait(self):
        """What is given without waiting is right."""
        for file in self.copies():
            self.guest.run(f"/selftests/page_hint_file nowait {file} >/tmp/got; "
                           "head -c $(stat -c %s /tmp/got) /mnt/erofs/data | cmp - /tmp/got")
            self.holds(file, self.DATA)

    def test_move(self):
        """Compaction, and memory that goes offline, move lost folios like others."""
        for file in self.copies():
            moved = vmstat(self.guest)["pgmigrate_success"]
            self.guest.run("""cd /sys/devices/system/memory
                for block in memory*; do
                    grep -q Movable $block/valid_zones && echo offline >$block/state && blocks="$blocks $block"
                done
                echo 1 >/proc/sys/vm/compact_memory
                for block in $blocks; do echo online_movable >$block/state; done""")
            self.assertGreater(vmstat(self.guest)["pgmigrate_success"], moved)
            self.holds(file, self.DATA)

    def test_loop(self):
        """A file system in a file."""
        for file in self.copies():
            mount = f"losetup /dev/loop0 {file} && mount -t ext2 /dev/loop0 /mnt/loop"
            unmount = "umount /mnt/loop && losetup -d /dev/loop0"
            self.guest.run(f"mkdir -p /mnt/loop; modprobe loop; mke2fs -F {file} >/dev/null 2>&1 && {mount} && "
                           f"cp /init /mnt/loop && {unmount} && sync")
            self.lose(file)
            self.guest.run(f"{mount} && cmp /init /mnt/loop/init && {unmount}")
            self.was_lost()

    def test_swap_file(self):
        """What is lost is page cache of the file, not what was swapped out to it."""
        for file in self.copies():
            self.guest.run(f"set -e; dd if=/dev/zero of={file} bs=1M count=4 2>/dev/null; mkswap {file} >/dev/null; sync")
            self.lose(file)
            self.guest.run(f"swapon {file}")
            self.guest.run(f"swapoff {file}")
            self.was_lost()

    def test_unmount(self):
        for file in self.copies():
            name = file.split("/")[2]
            self.guest.run(f"mount -o remount,ro /mnt/{name} && mount -o remount,rw /mnt/{name}")
            self.lose(file)
            self.guest.run(f"umount /mnt/{name} && mount -t {name} {self.hinting.device(name)} /mnt/{name}")
            self.holds(file, self.DATA)

    def test_verity(self):
        """What was found right once is looked at again after a loss, the table of digests as well as the data."""
        # The table begins at the next multiple of 64 KiB: behind a hole, where reading the data does not come to it.
        blocks = [self.DATA[at:at + PAGE] for at in range(0, len(self.DATA), PAGE)][:60]
        table = b"".join(hashlib.sha256(block).digest() for block in blocks)
        forged = bytes(PAGE)
        forged_table = table.replace(hashlib.sha256(blocks[9]).digest(), hashlib.sha256(forged).digest())
        for case, change in (("data", {blocks[9]: forged}), ("table", {blocks[9]: forged, table: forged_table})):
            with self.subTest(case):
                file = f"/mnt/ext4/{case}"
                self.guest.run(f"head -c {len(blocks) * PAGE} /mnt/erofs/data >{file}; "
                               f"/selftests/page_hint_file verity {file} && sync && "
                               f"echo 1 >/proc/sys/vm/drop_caches && md5sum {file}")
                self.lose(file)
                with open(self.hinting.image("ext4"), "r+b") as image:
                    content = image.read()
                    for old, new in change.items():
                        self.assertIn(old, content)
                        for found in re.finditer(re.escape(old), content):
                            image.seek(found.start())
                            image.write(new)
                self.assertIn("Input/output error", self.guest.run(f"cat {file} >/dev/null", status=1))
                self.was_lost()
                self.guest.run(f"rm {file}")


class Freed(HintCheck):
    """Lost folios that are freed, by kernels that write to what they free."""

    def test_written_when_freed(self):
        for append in ("init_on_free=1", "page_poison=1"):
            with self.subTest(append), Hinting(("erofs",), {"data": Lost.DATA}, append) as hinting:
                guest = self.watch(hinting.guest)
                guest.run(f"mount -t erofs {hinting.device('erofs')} /mnt && cat /mnt/data >/dev/null && "
                          "/selftests/page_hint_file states idle /mnt/data")
                hinting.cp.ctl("reclaim", guest.name, "all", "--only", "v")
                freed = hinting.counters()["freed"]
                guest.run("echo 1 >/proc/sys/vm/drop_caches")
                self.assertGreaterEqual(hinting.counters()["freed"], freed + Lost.PAGES)
                # What is free is taken, too, and used again.
                hinting.cp.ctl("reclaim", guest.name, "all")
                guest.run("/selftests/hog 64 1")
                self.check_faults(hinting)


if __name__ == "__main__":
    unittest.main()
