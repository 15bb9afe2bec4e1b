# SPDX-License-Identifier: GPL-2.0
"""The balloon built into the kernel: there without modprobe, with parameters from the command line."""
import unittest

from coopguest import ControlProgram
from systems import SystemCheck, sentences


class BuiltIn(SystemCheck):
    """Each hypervisor, from the first moment on."""

    def start(self, cp, hypervisor, append=""):
        return self.boot(cp, "LINUX01", memory="256M", cpus=1, kernel="builtin", hypervisor=hypervisor, append=append)

    def said(self, guest):
        return "\n".join(sentences(guest.run("dmesg"), "cmm: "))

    def settles(self, guest, pages):
        guest.wait_for("cat /proc/sys/vm/cmm_pages", str(pages))

    def test_zvm(self):
        """Orders by SMSG, from whom the command line allows, down to the floor that it sets."""
        cp = self.enterContext(ControlProgram())
        guest = self.start(cp, "zvm", "cmm.sender=VMRMSVM,LINUX09 cmm.floor=32")
        self.assertEqual(self.said(guest), "")
        self.assertEqual(guest.run("cat /sys/module/cmm/parameters/sender /proc/sys/vm/cmm_floor"),
                         f"VMRMSVM,LINUX09\n{32 << 8}")
        for pages, user in ((1000, "VMRMSVM"), (500, "LINUX09")):
            cp.ctl("smsg", "LINUX01", "CMM", "SHRINK", pages, user=user)
            self.settles(guest, pages)
        cp.ctl("smsg", "LINUX01", "CMM", "SHRINK", 9, user="STRANGER")
        self.eventually(lambda: "STRANGER refused" in self.said(guest), "a stranger is refused")
        self.settles(guest, 500)

    def test_zvm_with_a_bad_parameter(self):
        """The guest starts, without the balloon and with one line why."""
        guest = self.start(self.enterContext(ControlProgram()), "zvm", "cmm.sender=NINECHARS")
        self.one_line(self.said(guest), "parameter sender", "NINECHARS")
        self.assertEqual(guest.run("ls /proc/sys/vm | grep -c cmm", status=1), "0")

    def test_kvm(self):
        """No SMSG, said once; the files work."""
        guest = self.start(None, "kvm")
        self.one_line(self.said(guest), "no orders by SMSG under KVM", "cmm_pages")
        guest.sysctl("cmm_pages", 2000)
        self.settles(guest, 2000)
        guest.sysctl("cmm_pages", 0)
        self.settles(guest, 0)

    def test_no_hypervisor(self):
        """The guest starts, without the balloon and with one line why."""
        guest = self.start(None, "none")
        self.one_line(self.said(guest), "DIAGNOSE X'10'")
        self.assertEqual(guest.run("ls /proc/sys/vm | grep -c cmm", status=1), "0")


if __name__ == "__main__":
    unittest.main()
