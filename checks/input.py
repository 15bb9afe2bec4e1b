# SPDX-License-Identifier: GPL-2.0
"""Bad input at every door: it gets a clear answer, and nobody else notices."""
import os
import random
import subprocess
import sys
import unittest

from coopguest import TOP
from systems import (FakeGuest, PAGE, PairCheck, SOON, SystemCheck, Wire, command_request, cpctl, cpu_role,
                     guest_role, hello, iucv_request, number, once, operator_role, sentences)


class Lines(SystemCheck):
    """Command lines on the host."""

    def test_guest(self):
        """scripts/guest says what is wrong, and with what."""
        for words, wanted in (
            (["run"], "run takes a command"),
            (["console", "--", "true"], "console takes none"),
            (["walk", "--", "true"], "walk"),
            (["run", "--name", "linux01", "--", "true"], "linux01"),
            (["run", "--name", "LINUX0001", "--", "true"], "LINUX0001"),
            (["run", "--memory", "512", "--", "true"], "'512'"),
            (["run", "--memory", "-1M", "--", "true"], "--memory"),
            (["run", "--cpus", "0", "--", "true"], "0"),
            (["run", "--cpus", "many", "--", "true"], "many"),
            (["run", "--kernel", "fast", "--", "true"], "fast"),
            (["run", "--hypervisor", "xen", "--", "true"], "xen"),
            (["run", "--timeout", "soon", "--", "true"], "soon"),
            (["run", "--add", "/nowhere/file", "--", "true"], "/nowhere/file"),
            (["run", "--disk", "/nowhere/image", "--", "true"], "/nowhere/image"),
            (["run", "--cp", "/nowhere/cp.sock", "--", "true"], "/nowhere/cp.sock"),
            (["run", "--nonsense", "--", "true"], "--nonsense"),
        ):
            with self.subTest(" ".join(words)):
                done = subprocess.run([sys.executable, TOP / "scripts" / "guest", *words],
                                      capture_output=True, text=True, timeout=120)
                self.assertIn(done.returncode, (2, 125), done.stderr)
                self.assertNotIn("Traceback", done.stderr)
                self.assertIn(wanted, done.stderr.splitlines()[-1])

    def test_check(self):
        done = subprocess.run([sys.executable, TOP / "scripts" / "check", "nonsense"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 2)
        self.assertIn("nonsense", done.stderr.splitlines()[-1])


class Operators(PairCheck):
    """cpctl's command lines."""

    def test_cpctl(self):
        for words, wanted in (
            ([], "sage"),
            (["--as", "linux01", "query", "names"], "linux01"),
            (["--as", "LINUX0001", "query", "names"], "LINUX0001"),
            (["--as", "", "query", "names"], "user ID"),
            (["--nonsense", "query", "names"], "--NONSENSE"),
            (["resident"], "resident"),
            (["resident", "LINUX09"], "LINUX09"),
            (["counters", "LINUX09"], "LINUX09"),
            (["smsg", "LINUX01", "\u20ac"], "\u20ac"),
            (["smsg", "LINUX01", "x" * 300], "240"),
        ):
            with self.subTest(" ".join(words)):
                status, out, errors = cpctl(*words, path=self.cp.socket)
                self.assertNotIn(status, (0, 101))
                self.assertIn(wanted, out + errors)
                self.assertNotIn("panicked", errors)


class Packets(PairCheck):
    """Whatever arrives at cpd's socket, cpd lives, and guests do not notice."""

    def tearDown(self):
        self.assertIsNone(self.cp.process.poll(), "cpd lives")
        self.assertIn("LINUX01", self.first.run("vmcp query userid"))
        self.assertEqual(self.cp.ctl("query", "names").split(), "LINUX01 - DSC , LINUX02 - DSC".split())

    def setUp(self):
        super().setUp()
        # The same bytes in every run.
        self.random = random.Random(7)

    def open_files(self):
        return len(os.listdir(f"/proc/{self.cp.process.pid}/fd"))

    def test_junk_instead_of_a_hello(self):
        before = self.open_files()
        for _ in range(300):
            with Wire(self.cp.socket) as wire:
                answer = wire.ask(self.random.randbytes(self.random.choice((1, 2, 5, 20, 300, 60000))))
                self.assertTrue(not answer or answer[0] == 1, answer)
        self.eventually(lambda: self.open_files() <= before, "no connection is left over")

    def test_hellos_that_are_wrong(self):
        """Each is refused with its reason."""
        with open("/dev/null", "rb") as null:
            ram = os.memfd_create("ram")
            self.addCleanup(os.close, ram)
            os.truncate(ram, 1 << 20)
            page = os.memfd_create("page")
            self.addCleanup(os.close, page)
            os.truncate(page, PAGE)
            fds = (ram, page, page)
            for message, sent, wanted in (
                (hello(operator_role("OPERATOR"), version=99), (), "99"),
                (hello(operator_role("operator")), (), "operator"),
                (hello(operator_role("WAYTOOLONG")), (), "WAYTOOLONG"),
                (hello(operator_role("OPERATOR")) + b"more", (), ""),
                (hello(number(7)), (), ""),
                (hello(cpu_role(bytes(16), 0)), (), "session"),
                (hello(guest_role("LINUX05", 1 << 20, 1)), (), "descriptors"),
                (hello(guest_role("LINUX05", 1 << 20, 1)), (ram,), "descriptors"),
                (hello(guest_role("LINUX05", 1 << 20, 1)), (ram, page), "descriptors"),
                (hello(guest_role("LINUX05", 1 << 20, 1)), (ram, page, page, ram), ""),
                (hello(guest_role("LINUX05", 1 << 25, 1)), (ram, page, page), ""),
                (hello(guest_role("LINUX05", 1 << 20, 1)), (null.fileno(), page, page), ""),
                (hello(guest_role("LINUX05", 1 << 20, 1)), (ram, page, null.fileno()), "page states"),
                (hello(guest_role("LINUX05", 1 << 40, 1)), fds, ""),
                (hello(guest_role("LINUX05", (1 << 20) + 1, 1)), fds, ""),
                (hello(guest_role("LINUX05", 0, 1)), fds, "0"),
                (hello(guest_role("LINUX05", 1 << 20, 0)), fds, "0"),
                (hello(guest_role("LINUX05", 1 << 20, 100000)), fds, "100000"),
                (hello(guest_role("LINUX01", 1 << 20, 1)), fds, "LINUX01"),
            ):
                with self.subTest(message), Wire(self.cp.socket) as wire:
                    answer = wire.ask(message, sent)
                    self.assertEqual(answer[:1], b"\x01", "refused")
                    self.assertIn(wanted, answer[2:].decode(errors="replace"))

    def test_junk_after_the_hello(self):
        for _ in range(100):
            with Wire(self.cp.socket) as wire:
                wire.greet(operator_role("OPERATOR"))
                wire.ask(number(self.random.randrange(8)) + self.random.randbytes(self.random.randrange(60)))

    def test_commands_no_operator_would_type(self):
        with Wire(self.cp.socket) as wire:
            wire.greet(operator_role("OPERATOR"))
            for _ in range(300):
                words = self.random.choices(["q", "set", "smsg", "*", "ind", "user", "\t", "\n", "LINUX09", "term", "\0",
                                             "more", "x" * 50, "-1", "99999999999999999999", "\u00e9"], k=7)
                self.assertTrue(wire.ask(command_request(" ".join(words))))
            for text in ("x" * 241, "\u20ac", "\n" * 240):
                self.assertTrue(wire.ask(command_request(text)))
            # Not for operators.
            self.assertTrue(wire.ask(iucv_request(0, bytes(40))))

    def test_hostile_guest(self):
        """IUCV with parameter lists of any content, from a guest with a megabyte."""
        with FakeGuest(self.cp.socket, "HOSTILE", cpus=2) as guest, guest.cpu(0) as first, guest.cpu(1) as second:
            users = [text.ljust(8).encode("cp037") for text in ("LINUX01", "LINUX02", "*MSG", "HOSTILE", "NOBODY")]
            for step in range(4000):
                function = self.random.choice([*range(19), 1 << 31, (1 << 64) - 1])
                plist = bytearray(self.random.randbytes(40))
                if self.random.random() < 0.8:
                    plist[0:2] = self.random.randrange(6).to_bytes(2)
                    plist[2] = self.random.choice((0, 0x80, 0x10, 0x40, 0x90, 0x01))
                    plist[4:8] = self.random.randrange(1 << 8).to_bytes(4)
                    plist[8:16] = self.random.choice(users)
                answer = self.random.choice((first, second)).ask(iucv_request(function, bytes(plist)))
                self.assertIn(answer[:1], (b"\x01", b"\x02"), f"step {step}: {answer}")
                self.drain(guest)

    def drain(self, guest):
        guest.events.socket.setblocking(False)
        try:
            while guest.events.socket.recv(1 << 16):
                pass
        except BlockingIOError:
            pass

    def test_guest_that_does_not_listen(self):
        """It is logged off, and nobody waits for it."""
        with FakeGuest(self.cp.socket, "DEAF"), Wire(self.cp.socket) as wire:
            wire.greet(operator_role("OPERATOR"))
            codes = {wire.command("MSGNOH DEAF " + "x" * 200) for _ in range(20000)}
            self.assertEqual(codes, {0, 45})

    def test_many_who_say_nothing(self):
        """Others are served meanwhile."""
        silent = []
        try:
            for _ in range(100):
                silent.append(Wire(self.cp.socket))
            self.assertIn("OPERATOR", self.cp.ctl("query", "userid"))
        finally:
            for wire in silent:
                wire.socket.close()


class Balloon(PairCheck):
    """The balloon's parameters, files and messages."""

    def test_sysctls(self):
        """EINVAL, and what was there before still holds."""
        guest = self.second
        self.load(guest)
        guest.sysctl("cmm_pages", 300)
        self.settles(guest, 300)
        guest.run("echo 40 5 >/proc/sys/vm/cmm_timeout")
        for name, texts in {
            "cmm_pages": ("x", "-1", "1 2", "1x", "99999999999999999999999", "0x", "1.5", " "),
            "cmm_timed_pages": ("x", "-1", "99999999999999999999999"),
            "cmm_timeout": ("x", "1 x", "1 2 3", "-1 5", "1 99999999999999999999999"),
        }.items():
            for text in texts:
                with self.subTest(f"{name} {text}"):
                    said = guest.run(f"echo '{text}' >/proc/sys/vm/{name}", status=1)
                    self.assertIn("Invalid argument", said)
        self.assertEqual(guest.sysctl("cmm_pages"), "300")
        self.assertEqual(guest.sysctl("cmm_timed_pages"), "0")
        self.assertEqual(guest.sysctl("cmm_timeout"), "40 5")

    def test_messages(self):
        """Refused as a whole, with the reason in the log."""
        guest = self.second
        self.load(guest)
        guest.sysctl("cmm_pages", 300)
        self.settles(guest, 300)
        for text in ("SHRINK", "SHRINK x", "SHRINK 1 2", "GROW 5", "SHRINK 99999999999999999999999", "REUSE 1", "",
                     "SHRINK " + "9" * 200, "\u00e4\u00f6\u00fc"):
            self.cp.ctl("smsg", guest.name, f"CMM {text}".strip(), user="VMRMSVM")
        guest.wait_for("cat /sys/kernel/debug/cmm/messages/refused_* | awk '{ n += $1 } END { print n }'", "9", SOON)
        self.assertTrue(sentences(guest.run("dmesg"), "cmm: message from VMRMSVM refused: "))
        self.assertEqual(guest.sysctl("cmm_pages"), "300")

    def test_parameters(self):
        guest = self.second
        for parameter, wanted in (("sender=WAYTOOLONG", "WAYTOOLONG"), ("sender=A,,B", "sender"), ("floor=x", "floor"),
                                  ("floor=-1", "floor")):
            with self.subTest(parameter):
                guest.run("dmesg -c >/dev/null")
                self.assertIn("Invalid argument", guest.run(f"modprobe cmm {parameter}", status=1))
                self.one_line(once(sentences(guest.run("dmesg"), "cmm")), wanted)


if __name__ == "__main__":
    unittest.main()
