# SPDX-License-Identifier: GPL-2.0
"""Where there is no z/VM: under KVM the balloon works without messages, without a hypervisor it refuses.

And guest page hinting where there is no ESSA, or is to be none.
"""
import unittest

from coopguest import ControlProgram
from systems import STORAGE, SystemCheck, fill_memory, once, resident_pages, sentences

ASKED = 15000


class HypervisorCheck(SystemCheck):
    """A check that knows how guest page hinting is absent."""

    def no_page_states(self, guest):
        """One line says why; there is no file, and no thread."""
        self.one_line("\n".join(sentences(guest.run("dmesg"), "page_hint: ")), "no ESSA", "cmma=off")
        self.assertEqual(guest.run("ls /proc/sys/vm /sys/kernel/debug | grep page_hint; grep -l page_hint /proc/[0-9]*/comm",
                                   status=1), "")


class CmmaOff(HypervisorCheck):
    """There is ESSA, and the guest is told to do without."""

    def test_nothing_is_said_of_pages(self):
        guest = self.boot(self.enterContext(ControlProgram()), "LINUX01", memory="256M", append="cmma=off")
        self.no_page_states(guest)
        guest.run("seq 10000 | sort | md5sum")
        self.assertEqual(guest.cp.counters(guest.name)["essa_calls"], 0)


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


class NoHypervisor(HypervisorCheck):
    """Nobody takes the pages: then nobody shall lend them."""

    def test_balloon_refuses(self):
        guest = self.boot(None, "LINUX01", memory="256M", hypervisor="none")
        self.no_page_states(guest)
        guest.run("dmesg -c >/dev/null")
        said = guest.run("modprobe cmm", status=1)
        self.assertIn("No such device", said)
        self.one_line(once(sentences(guest.run("dmesg"), "cmm: ")), "DIAGNOSE X'10'")
        self.assertEqual(guest.run("ls /proc/sys/vm | grep -c cmm; grep -c '^cmm ' /proc/modules", status=1), "0\n0")


if __name__ == "__main__":
    unittest.main()
