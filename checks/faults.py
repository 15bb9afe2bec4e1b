# SPDX-License-Identifier: GPL-2.0
"""Discard faults: whoever meets a page that was taken without a right to does not get on, and it is told of.

Linux never lets this happen, so the hypervisor breaks its word here: it takes a page that the guest uses.
"""
import contextlib
import os
import pathlib
import re
import time
import unittest

from coopguest import ControlProgram, Guest, GuestDied
from systems import KERNEL, SOON, SystemCheck

DISCARDED = b"\x0f"
COUNTERS = "/sys/kernel/debug/page_hint/counters"


def states_of(guest):
    """The table of page states, among the files of the guest's QEMU."""
    for entry in pathlib.Path(f"/proc/{guest.process.pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            if "coopmem-page-states" in os.readlink(entry):
                return entry
    raise AssertionError(f"QEMU of {guest.name} has no table of page states")


class Faults(SystemCheck):
    """A user's page, a user's page that the kernel reads, a page of the kernel's own."""

    def start(self):
        self.cp = self.enterContext(ControlProgram())
        return self.enterContext(Guest(self.cp, "FAULTS", memory="256M", kernel=KERNEL, append="oops=panic",
                                       timeout=120))

    def take(self, guest, how):
        """Starts the program, and takes its page; what it does then is in /tmp/said and /tmp/status."""
        guest.run("rm -f /tmp/taken /tmp/status; cd /selftests; (./discarded %s >/tmp/said 2>&1; echo $? >/tmp/status) "
                  ">/dev/null 2>&1 &" % how)
        deadline = time.monotonic() + SOON
        while not (said := guest.run("cat /tmp/said")).strip().isdigit():
            self.assertLess(time.monotonic(), deadline, said)
        with open(states_of(guest), "r+b", buffering=0) as states:
            states.seek(int(said))
            states.write(DISCARDED)
        # No CPU keeps a translation to it: taking pages empties their TLBs.
        self.assertRegex(self.cp.ctl("reclaim", "FAULTS", "64K"), r"took [1-9]")
        return guest

    def counted(self, guest, who):
        return int(guest.run(f"cat {COUNTERS}/{who}_faults"))

    def test_a_process_gets_a_signal(self):
        guest = self.take(self.start(), "touch")
        guest.run("touch /tmp/taken")
        # 128 and SIGBUS.
        guest.wait_for("cat /tmp/status 2>/dev/null", "135", SOON)
        self.assertEqual(self.counted(guest, "user"), 1)
        self.assertEqual(self.counted(guest, "kernel"), 0)
        # One warning, however often.
        self.take(guest, "touch").run("touch /tmp/taken")
        guest.wait_for("cat /tmp/status 2>/dev/null", "135", SOON)
        self.assertEqual(self.counted(guest, "user"), 2)
        self.assertEqual(len(re.findall("do_discard_fault", guest.run("dmesg | grep WARNING"))), 1)

    def test_the_kernel_takes_its_fixup(self):
        guest = self.take(self.start(), "write")
        guest.run("touch /tmp/taken")
        guest.wait_for("cat /tmp/status 2>/dev/null", "0", SOON)
        # EFAULT.
        self.assertEqual(guest.run("tail -n 1 /tmp/said"), "-1 14")
        self.assertGreater(self.counted(guest, "kernel"), 0)
        self.assertEqual(self.counted(guest, "user"), 0)

    def test_the_kernel_dies_without_one(self):
        guest = self.take(self.start(), "truncate")
        with self.assertRaises(GuestDied) as died:
            guest.run("touch /tmp/taken; sleep 60", timeout=60)
        self.assertIn("discard fault", guest.console_text() + str(died.exception))


if __name__ == "__main__":
    unittest.main()
