# SPDX-License-Identifier: GPL-2.0
"""The balloon where there is no z/VM: under KVM it works without messages, without a hypervisor it refuses."""
import unittest

from systems import STORAGE, SystemCheck, fill_memory, once, resident_pages, sentences

ASKED = 15000


class Kvm(SystemCheck):
    """KVM knows DIAGNOSE X'10', but has no SMSG."""

    def test_balloon_by_sysctl(self):
        guest = self.boot(None, "LINUX01", memory="256M", hypervisor="kvm")
        self.assertIn("KVM", guest.run("cat /proc/sysinfo"))
        guest.run("dmesg -c >/dev/null")
        guest.run("modprobe cmm")
        # Said once, and nothing else.
        self.one_line("\n".join(sentences(guest.run("dmesg"), "cmm: ")), "no orders by SMSG under KVM", "cmm_pages")
        # More of its storage is touched than it keeps, then no page of the balloon takes memory of the host.
        fill_memory(guest)
        self.assertGreater(resident_pages(guest), STORAGE - ASKED)
        guest.sysctl("cmm_pages", ASKED)
        guest.wait_for("cat /proc/sys/vm/cmm_pages", str(ASKED), 120)
        self.assertLessEqual(resident_pages(guest), STORAGE - ASKED)
        guest.run("rmmod cmm; modprobe cmm; rmmod cmm")
        self.assertEqual(len(sentences(guest.run("dmesg"), "cmm: no orders by SMSG")), 2)


class NoHypervisor(SystemCheck):
    """Nobody takes the pages: then nobody shall lend them."""

    def test_balloon_refuses(self):
        guest = self.boot(None, "LINUX01", memory="256M", hypervisor="none")
        guest.run("dmesg -c >/dev/null")
        said = guest.run("modprobe cmm", status=1)
        self.assertIn("No such device", said)
        self.one_line(once(sentences(guest.run("dmesg"), "cmm: ")), "DIAGNOSE X'10'")
        self.assertEqual(guest.run("ls /proc/sys/vm | grep -c cmm; grep -c '^cmm ' /proc/modules", status=1), "0\n0")


if __name__ == "__main__":
    unittest.main()
