# SPDX-License-Identifier: GPL-2.0
"""VMRM and guests that obey it: memory goes where the work is.

What it decides is tested with crate cp-core, in thousands of systems. Here it is seen that guests are what it takes them
for. On the release kernel: it is the Control Program that is looked at.
"""
import pathlib
import tempfile
import unittest

from coopguest import ControlProgram
from hinting import DISK, WORD, mount
from systems import PAGE, SystemCheck

MIB = (1 << 20) // PAGE
STORAGE = 160 * MIB
CONFIG = """NOTIFY MEMORY LINUX*
MEMORY INTERVAL 5
MEMORY FLOOR 40M
"""
# Reads 74 MiB of sources, over and over.
WORK = f"""
    touch /work
    (cd /mnt/sources && while [ -e /work ]; do grep -rF {WORD} fs kernel mm; done) </dev/null >/dev/null 2>&1 &"""
REST = "rm /work; killall grep; while pidof grep; do sleep 0.1; done"


class Vmrm(SystemCheck):
    """Three guests that own twice as much as there is."""

    def setUp(self):
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory(prefix="coopmem-vmrm-")))
        (folder / "vmrm").write_text(CONFIG)
        self.cp = self.enterContext(ControlProgram(options=(
            "--verbose", "--frames", "240M", "--page-volume", folder / "volume", "--vmrm", folder / "vmrm")))
        self.guests = [self.boot(self.cp, name, memory="160M", cpus=1, append="cmma=off", disks=[DISK])
                       for name in ("LINUX01", "LINUX02", "LINUX03")]
        for guest in self.guests:
            mount(guest)
            guest.run("modprobe cmm")

    def looks(self):
        """How often VMRM has looked at the system, and told what it has decided."""
        return pathlib.Path(self.cp.log.name).read_text().count("VMRM has looked")

    def left(self, guest):
        """What VMRM leaves to a guest, in pages."""
        users = self.cp.overview()["guests"]
        return STORAGE - next(user["asked"] or 0 for user in users if user["user_id"] == guest.name)

    def test_memory_is_back_after_a_burst(self):
        """Within 2 intervals after a burst of another guest, one that goes on has nearly all of its storage again."""
        goes_on, bursts, _ = self.guests
        goes_on.run(WORK)
        for _ in range(2):
            bursts.run(WORK)
            self.eventually(lambda: max(map(self.left, (goes_on, bursts))) < 110 * MIB, "both have the same", 120)
            bursts.run(REST)
            looks = self.looks()
            self.eventually(lambda: self.looks() >= looks + 2, "VMRM looks")
            left, kept = self.left(goes_on), self.left(bursts)
            self.assertGreater(left, 130 * MIB)
            self.assertLess(kept, 80 * MIB)
            # The balloon gives back at once what it shall.
            self.eventually(lambda: STORAGE - int(goes_on.sysctl("cmm_pages")) >= left, "it has that")
            self.assertLess(self.looks(), looks + 4)


if __name__ == "__main__":
    unittest.main()
