# SPDX-License-Identifier: GPL-2.0
"""Memory that a guest gives up is the host's again: fewer pages in the guest's storage, and they read as zero."""
import os
import re
import time
import unittest

from systems import PAGE, STORAGE, PairCheck, fill_memory, ram_of, resident_pages

ASKED = 20000
# Lines of which a page holds a whole number.
WORD, OTHER = b"COOPMEM\n", b"ANOTHER\n"


def pages_with(path, word):
    """Numbers of the pages of a file that begin with a word, and of those that take no memory."""
    filled, holes = set(), set()
    with open(path, "rb", buffering=0) as file:
        end = os.fstat(file.fileno()).st_size
        at = 0
        while at < end:
            try:
                start = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:
                start = end
            holes.update(range(at // PAGE, start // PAGE))
            if start == end:
                break
            at = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            for offset in range(start, at, 1 << 20):
                data = os.pread(file.fileno(), min(1 << 20, at - offset), offset)
                filled.update((offset + i) // PAGE for i in range(0, len(data), PAGE)
                              if data.startswith(word, i))
    return filled, holes


class Memory(PairCheck):
    """What the host gets."""

    def indicated(self, guest):
        return int(re.search(r"RES=(\d+)", self.cp.ctl("indicate", "user", guest.name))[1])

    def test_shrink_gives_the_host_what_was_asked(self):
        guest = self.first
        self.load(guest)
        guest.run("mount -t tmpfs precious /mnt && head -c 1000000 /dev/urandom >/mnt/precious")
        self.addCleanup(guest.run, "umount /mnt")
        digest = guest.run("md5sum /mnt/precious")
        fill_memory(guest)
        self.assertGreater(resident_pages(guest), STORAGE - ASKED)
        filled, _ = pages_with(ram_of(guest), WORD)
        self.assertGreater(len(filled), ASKED)

        self.cp.ctl("smsg", guest.name, "CMM", "SHRINK", ASKED, user="VMRMSVM")
        self.settles(guest, ASKED)
        after = resident_pages(guest)
        self.assertLessEqual(after, STORAGE - ASKED)
        # CP tells the same as the host's file system, while the guest goes on touching a page here and there.
        self.assertAlmostEqual(self.indicated(guest), after, delta=500)
        self.assertAlmostEqual(self.cp.resident(guest.name), after, delta=500)

        # What the guest had written there is gone: the pages take no memory, and read as zero.
        _, holes = pages_with(ram_of(guest), WORD)
        taken = filled & holes
        self.assertGreater(len(taken), ASKED * 9 // 10)
        with open(ram_of(guest), "rb", buffering=0) as ram:
            for page in sorted(taken)[::97]:
                self.assertEqual(os.pread(ram.fileno(), PAGE, page * PAGE), bytes(PAGE))

        # The guest kept what it needs, and may use the pages again.
        self.cp.ctl("smsg", guest.name, "CMM", "SHRINK", 0, user="VMRMSVM")
        self.settles(guest, 0)
        self.assertEqual(guest.run("md5sum /mnt/precious"), digest)
        fill_memory(guest, OTHER.decode().strip())
        self.assertGreater(resident_pages(guest), after + ASKED * 9 // 10)
        filled, _ = pages_with(ram_of(guest), OTHER)
        self.assertGreater(len(filled & taken), ASKED * 8 // 10)
        self.assertEqual(guest.run("md5sum /mnt/precious"), digest)

    def test_loan_drains(self):
        """RELEASE takes pages for a time, and REUSE says how fast they come back."""
        guest = self.second
        self.load(guest)
        self.cp.ctl("smsg", guest.name, "CMM", "REUSE", 500, 1, user="VMRMSVM")
        self.cp.ctl("smsg", guest.name, "CMM", "RELEASE", 2000, user="VMRMSVM")
        seen, deadline = [], time.monotonic() + 60
        while (not seen or seen[-1] or max(seen) == 0) and time.monotonic() < deadline:
            seen.append(int(guest.sysctl("cmm_timed_pages")))
            time.sleep(0.1)
        self.assertGreaterEqual(max(seen), 1500, seen)
        self.assertEqual(seen[-1], 0, seen)
        self.assertGreaterEqual(len(set(seen) - {0}), 3, "in steps, not at once")

    def test_unloading_gives_back(self):
        guest = self.second
        guest.run("modprobe cmm")
        guest.sysctl("cmm_pages", 10000)
        self.settles(guest, 10000)
        held = int(guest.run("awk '/^MemAvailable/ { print $2 }' /proc/meminfo"))
        guest.run("rmmod cmm")
        free = int(guest.run("awk '/^MemAvailable/ { print $2 }' /proc/meminfo"))
        self.assertGreater(free - held, 10000 * 4 * 9 // 10)

    def test_hypfs_shows_what_the_host_sees(self):
        """DIAGNOSE X'2FC' through the guest's hypfs."""
        guest = self.first
        guest.run("mkdir -p /mnt/hypfs && mount -t s390_hypfs none /mnt/hypfs")
        self.addCleanup(guest.run, "umount /mnt/hypfs")
        self.assertEqual(guest.run("cat /mnt/hypfs/hyp/type"), "z/VM Hypervisor")
        used = int(guest.run("cat /mnt/hypfs/systems/LINUX01/mem/used_KiB"))
        self.assertAlmostEqual(used * 1024 // PAGE, resident_pages(guest), delta=1000)
        most = int(guest.run("cat /mnt/hypfs/systems/LINUX01/mem/max_KiB"))
        self.assertEqual(most, 256 << 10)


if __name__ == "__main__":
    unittest.main()
