# SPDX-License-Identifier: GPL-2.0
"""Messages between guests, and CP commands as vmcp in a guest and cpctl on the host issue them."""
import re
import time
import unittest

from systems import PairCheck, SOON, Wire, cpctl, errors_of, operator_role


class Messages(PairCheck):
    """SMSG and MESSAGE."""

    def vmcp(self, guest, command, code=0):
        """Issues a CP command in a guest, in the case in which it is written; CP must answer with this return code."""
        output = guest.run(f'vmcp -k "{command}"', status=1 if code else 0)
        if code:
            self.assertIn(f"#{code}", output)
        return output

    def counters(self, guest):
        """How many messages the balloon has accepted and refused."""
        text = guest.run("cd /sys/kernel/debug/cmm/messages && grep . *")
        return {name: int(value) for name, value in re.findall(r"^(\w+):(\d+)$", text, re.M)}

    def test_two_guests_message_each_other(self):
        for guest, other in ((self.first, self.second), (self.second, self.first)):
            self.load(guest, f"sender={other.name}")
        self.vmcp(self.second, "smsg linux01 CMM SHRINK 1100")
        self.vmcp(self.first, "smsg linux02 CMM SHRINK 1200")
        self.settles(self.first, 1100)
        self.settles(self.second, 1200)

    def test_text_arrives_as_it_was_sent(self):
        """smsgiucv_app hands the text of a message to user space."""
        guest, text = self.first, "APP aB 0x1f (all) of: it; 'as' it + is"
        guest.run("modprobe smsgiucv_app sender=LINUX02")
        self.addCleanup(guest.run, "rmmod smsgiucv_app")
        guest.run("uevent env >/tmp/events 2>&1 & echo $! >/tmp/uevent")
        self.addCleanup(guest.run, "kill $(cat /tmp/uevent); rm /tmp/uevent /tmp/events")
        guest.run("sleep 1")
        self.vmcp(self.second, f"smsg linux01 {text}")
        guest.wait_for("grep -c ^SMSG_TEXT /tmp/events", "1", SOON)
        events = guest.run("grep ^SMSG_ /tmp/events")
        self.assertIn("SMSG_SENDER=LINUX02", events)
        self.assertIn(f"SMSG_TEXT={text[4:]}", events)

    def test_who_does_not_receive(self):
        """Not logged on: 045E. Without a driver that listens: 057E."""
        self.assertIn("HCPMSG045E NOBODY not logged on", self.vmcp(self.first, "smsg nobody hello", 45))
        self.second.run("! grep -q ^smsgiucv /proc/modules || rmmod smsgiucv")
        self.assertRegex(self.vmcp(self.first, "smsg linux02 hello", 57), "HCPMFS057E LINUX02 not receiving")
        status, _, _ = cpctl("--as", "VMRMSVM", "smsg", "LINUX02", "hello", path=self.cp.socket)
        self.assertEqual(status, 57)
        status, _, _ = cpctl("--as", "VMRMSVM", "smsg", "LINUX09", "hello", path=self.cp.socket)
        self.assertEqual(status, 45)
        self.second.run("modprobe smsgiucv")
        self.addCleanup(self.second.run, "rmmod smsgiucv")
        self.assertEqual(self.vmcp(self.first, "smsg linux02 hello"), "")

    def test_burst_loses_nothing(self):
        """Of 1000 messages each is either refused to its sender, who can send it again, or arrives."""
        guest = self.first
        self.load(guest, "sender=BURST")
        sent = 0
        deadline = time.monotonic() + SOON
        with Wire(self.cp.socket) as wire:
            wire.greet(operator_role("BURST"))
            while sent < 1000:
                self.assertLess(time.monotonic(), deadline, f"{sent} of 1000 messages were taken")
                code = wire.command(f"SMSG {guest.name} CMM SHRINK {sent + 1}")
                self.assertIn(code, (0, 57))
                sent += code == 0
        self.settles(guest, 1000)
        self.assertEqual(self.counters(guest)["accepted"], 1000)

    def test_stranger_is_refused(self):
        guest = self.first
        self.load(guest)
        guest.run("dmesg -c >/dev/null")
        self.cp.ctl("smsg", guest.name, "CMM", "SHRINK", 90000, user="STRANGER")
        self.vmcp(self.second, "smsg linux01 CMM SHRINK 80000")
        guest.wait_for("dmesg | grep -c 'cmm: .*refused'", "2", SOON)
        said = guest.run("dmesg | grep 'cmm: .*refused'")
        self.assertRegex(said, "STRANGER.*not an accepted sender")
        self.assertRegex(said, "LINUX02.*not an accepted sender")
        self.assertEqual(guest.sysctl("cmm_pages"), "0")
        self.assertEqual(self.counters(guest)["refused_sender"], 2)

    def test_message_reaches_the_console(self):
        self.vmcp(self.second, "message linux01 Good morning")
        said = self.eventually(lambda: re.findall(r".*Good morning.*", errors_of(self.first)), "a message is shown")
        self.assertEqual(len(said), 1)
        self.assertIn("MSG FROM LINUX02 : Good morning", said[0])
        self.assertIn("045E", self.vmcp(self.second, "message linux09 hello", 45))


class Commands(PairCheck):
    """CP's answers."""
    ANSWERS = {
        "query userid": r"LINUX01  AT COOPMEM",
        "q names": r"LINUX01  - DSC , LINUX02  - DSC ?",
        "QUERY CPLEVEL": r"z/VM Version 7 Release 3\.0, service level 2201 \(64-bit\)\nGenerated at .+\nIPL at .+",
        "q virtual storage": r"STORAGE = 256M",
        "Query V STOR": r"STORAGE = 256M",
        "q v cpus": r"CPU 00 .*\nCPU 01 .*",
        "query frames": r"All Frames:\n(.*\n)*.*Usable=\d+(.*\n?)*",
        "query memassist": r"ALL USERS SET - ON\nUSER +SETTING +STATUS\nLINUX01 +ON +(ACTIVE,SIMULATED|INACTIVE)",
        "query set": r"MSG ON (.*\n)*IMSG ON  , SMSG (OFF |IUCV), (.*\n?)*",
        "indicate": r"AVGPROC-\d+%(.*\n?)*",
        "indicate load": r"AVGPROC-\d+%(.*\n?)*",
        "ind user": r"USERID=LINUX01 +MACH=\w+ +STOR=256M (.*\n)*PAGES: RES=\d+ (.*\n?)*",
        "ind spaces": r"Spaceid=LINUX01:BASE +Owned size=256M +PRIVATE\n(.*\n)*.*Main=\d+ (.*\n?)*",
        "q linux02": r"LINUX02  - DSC ?",
    }
    ERRORS = {
        "frobnicate": (1, "HCPCMD001E Unknown CP command: FROBNICATE"),
        "force linux02": (1, "HCPCMD001E Unknown CP command: FORCE"),
        "query": (26, "HCPCQU026E Operand missing or invalid"),
        "query nobody": (45, "HCPCQU045E NOBODY not logged on"),
        "query virtual tapes": (3, "HCPCQU003E Invalid option - TAPES"),
        "query userid now": (3, "HCPCQU003E Invalid option - command contains extra option(s) starting with NOW"),
        "set smsg maybe": (3, "HCPCFS003E Invalid option - MAYBE"),
        "smsg": (20, "HCPMSG020E Userid missing or invalid"),
        "smsg linux02": (26, "HCPMSG026E Operand missing or invalid"),
        "indicate user linux02": (3, "HCPIND003E Invalid option - LINUX02"),
    }

    def test_answers_in_the_guest(self):
        for command, answer in self.ANSWERS.items():
            with self.subTest(command):
                self.assertRegex(self.first.run(f"vmcp {command}"), f"^{answer}$")

    def test_errors_in_the_guest(self):
        for command, (code, message) in self.ERRORS.items():
            with self.subTest(command):
                got = self.first.run(f"vmcp {command}", status=1)
                self.assertIn(message, got)
                self.assertIn(f"#{code}", got)

    def test_operator_says_the_same(self):
        """And may ask for everybody."""
        for command in ("query names", "query frames", "indicate user LINUX02", "indicate spaces user LINUX01",
                        "query memassist", "indicate load", "query cplevel"):
            with self.subTest(command):
                self.assertTrue(self.cp.ctl(*command.split()))
        self.assertIn("OPERATOR AT COOPMEM", self.cp.ctl("query", "userid"))
        self.assertIn("VMRMSVM  AT COOPMEM", self.cp.ctl("query", "userid", user="VMRMSVM"))
        self.assertIn("HCPCMD001E", self.cp.ctl("frobnicate", status=1))

    def test_settings_hold(self):
        before = re.search(r"SMSG (\w+)", self.first.run("vmcp query set"))[1]
        self.addCleanup(self.first.run, f"vmcp set smsg {before}")
        self.first.run("vmcp set smsg iucv")
        self.assertRegex(self.first.run("vmcp query set"), "SMSG IUCV")
        self.first.run("vmcp set smsg off")
        self.assertRegex(self.first.run("vmcp query set"), "SMSG OFF")

    def test_longest_and_too_long(self):
        """240 characters are a command, 241 are none."""
        text = "query userid".ljust(240)
        self.assertIn("LINUX01  AT COOPMEM", self.first.run(f"vmcp '{text}'"))
        self.first.run(f"vmcp '{'q' * 241}'", status=None)
        self.assertIn("LINUX01  AT COOPMEM", self.first.run("vmcp query userid"))
        status, _, said = cpctl("smsg", "LINUX01", "x" * 240, path=self.cp.socket)
        self.assertNotEqual(status, 0)
        self.one_line(said, "240")

    def test_answer_longer_than_its_buffer(self):
        """vmcp asks again with a larger buffer, by what DIAGNOSE X'08' says does not fit."""
        whole = self.first.run("vmcp query cplevel")
        self.assertGreater(len(whole), 80)
        self.assertIn("service level", self.first.run("grep -A2 VM /proc/service_levels"))


if __name__ == "__main__":
    unittest.main()
