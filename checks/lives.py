# SPDX-License-Identifier: GPL-2.0
"""Lives and deaths: of cpd, of QEMU, of guests and their CPUs. Each ends in one clear line, and leaves nothing behind."""
import pathlib
import shutil
import signal
import subprocess
import tempfile
import unittest

from coopguest import CP_BIN, ControlProgram, Guest, GuestDied
from systems import (KERNEL, SOON, Command, PairCheck, Stopped, SystemCheck, cpctl, errors_of, start_cpd)


class Cpd(SystemCheck):
    """The Control Program comes and goes."""

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="coopmem-lives-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.path = self.folder / "cp.sock"

    def start(self):
        """A cpd that is ready."""
        process = start_cpd(self.path)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.assertIn("ready", process.stdout.readline())
        return process

    def refused(self, *wanted, **more):
        """A guest does not start, and says why in one line."""
        kind = Command if "change" in more else Stopped
        guest = kind(ControlProgram(str(self.path)), **more)
        with self.assertRaises(GuestDied) as caught:
            with guest:
                pass
        self.assertNotIn(guest.process.returncode, (0, -signal.SIGSEGV, -signal.SIGABRT))
        said = [line.removeprefix("    | ") for line in str(caught.exception).splitlines()[1:]]
        self.one_line("\n".join(said), *wanted)

    def ends(self, guest, *wanted):
        """QEMU ends by itself, and says why in one line."""
        self.assertNotEqual(guest.process.wait(SOON), 0)
        self.one_line(errors_of(guest), guest.name, *wanted)

    def test_guest_without_cpd(self):
        self.refused(str(self.path))

    def test_operator_without_cpd(self):
        status, out, errors = cpctl("query", "names", path=self.path)
        self.assertEqual((status, out), (125, ""))
        self.one_line(errors, str(self.path))

    def test_killed_and_started_again(self):
        """Its guests stop; the next one replaces the stale socket, and the guests may come back."""
        cpd = self.start()
        with Stopped(ControlProgram(str(self.path)), "LINUX01") as waiting, \
                Guest(ControlProgram(str(self.path)), "LINUX02", memory="256M", cpus=1, kernel=KERNEL) as running:
            running.run("vmcp query userid")
            cpd.kill()
            cpd.wait()
            for guest in (waiting, running):
                self.ends(guest)
            self.assertEqual(running.complaints(), [])
        self.assertTrue(self.path.exists(), "a stale socket")
        self.start()
        with Stopped(ControlProgram(str(self.path)), "LINUX01") as guest:
            self.assertIn("LINUX01", guest.cp.ctl("query", "names"))

    def test_ends_cleanly(self):
        """On SIGTERM guests are told, and the folder is as it was."""
        cpd = self.start()
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)
        with Stopped(ControlProgram(str(self.path))) as guest:
            cpd.terminate()
            self.assertEqual(cpd.wait(SOON), 0)
            self.ends(guest)
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_two_on_one_socket(self):
        self.start()
        second = start_cpd(self.path)
        said, _ = second.communicate(timeout=SOON)
        self.assertNotEqual(second.returncode, 0)
        self.one_line(said, "another cpd", str(self.path))
        self.assertIn("OPERATOR", cpctl("query", "userid", path=self.path)[1])

    def test_place_is_taken_by_a_file(self):
        self.path.write_text("precious")
        cpd = start_cpd(self.path)
        said, _ = cpd.communicate(timeout=SOON)
        self.assertNotEqual(cpd.returncode, 0)
        self.one_line(said, str(self.path), "not a socket")
        self.assertEqual(self.path.read_text(), "precious")

    def test_two_systems_at_once(self):
        """A user ID is taken in one system only."""
        self.start()
        with ControlProgram() as other, Stopped(other), Stopped(ControlProgram(str(self.path))):
            for path in (self.path, other.socket):
                self.assertIn("LINUX01", cpctl("query", "names", path=path)[1])

    def test_killed_guest_is_logged_off(self):
        self.start()
        cp = ControlProgram(str(self.path))
        with Stopped(cp) as guest:
            guest.process.kill()
            guest.process.wait()
            self.eventually(lambda: "LINUX01" not in cp.ctl("query", "names"), "the guest is logged off")
            self.assertIn("045E", cp.ctl("query", "linux01", status=45))
        with Stopped(cp):
            pass
        self.eventually(lambda: "LINUX01" not in cp.ctl("query", "names"), "the guest is logged off")

    def test_forced_guest_ends(self):
        self.start()
        cp = ControlProgram(str(self.path))
        with Stopped(cp) as guest:
            cp.ctl("force", "linux01")
            self.ends(guest, "FORCED BY OPERATOR")

    def test_user_ids(self):
        """Duplicate, in lower case, too long, empty."""
        self.start()
        with Stopped(ControlProgram(str(self.path))):
            self.refused("LINUX01", "already logged on")
        for name, why in {"linux01": "linux01", "LINUX0001": "LINUX0001", "LINUX 1": "LINUX 1", "": "user ID"}.items():
            with self.subTest(name):
                self.refused(why, name="LINUX05",
                             change=lambda word, name=name: word.replace("userid=LINUX05", f"userid={name}"))

    def test_library_of_another_version(self):
        source = self.folder / "other.c"
        source.write_text('struct { unsigned version, size; void *ops[8]; } zvm_cp_ops = { 999, sizeof(zvm_cp_ops) };')
        library = self.folder / "other.so"
        subprocess.run(["clang-22", "-shared", "-fPIC", "-nostdlib", "-o", library, source], check=True)
        self.start()
        ours = str(CP_BIN / "libcp_guest.so")
        for path, *why in ((library, "version 999"), (self.folder / "missing.so", "missing.so"), (source, "other.c")):
            with self.subTest(path.name):
                self.refused(*why, change=lambda word, path=path: word.replace(ours, str(path)))
        self.assertEqual(cpctl("query", "names", path=self.path)[1].strip(), "")


class Rebooting(Guest):
    """A guest that may start again."""

    def _command(self):
        return [word for word in super()._command() if word != "-no-reboot"]

    def reboot(self):
        """Starts the guest again, and waits until it takes commands."""
        self.run("(sleep 1; reboot -f) >/dev/null 2>&1 &")
        self.ready()


class Reboot(SystemCheck):
    """A guest's reset ends its paths and settings, and it can have new ones."""

    def test_reboot(self):
        cp = self.enterContext(ControlProgram())
        guest = self.boot(cp, "LINUX01", memory="256M", cpus=1, kind=Rebooting)
        for _ in range(2):
            guest.run("vmcp set msg off; modprobe cmm")
            cp.ctl("smsg", "LINUX01", "CMM", "SHRINK", 1000, user="VMRMSVM")
            guest.wait_for("cat /proc/sys/vm/cmm_pages", "1000")
            self.assertIn("SMSG IUCV", guest.run("vmcp query set"))
            guest.reboot()
            self.assertRegex(guest.run("vmcp query set"), r"MSG ON (.*\n)*.*SMSG OFF")
            cp.ctl("smsg", "LINUX01", "CMM", "SHRINK", 1000, user="VMRMSVM", status=57)


class Cpus(PairCheck):
    """A CPU of the guest goes and comes back."""

    def test_messages_still_arrive(self):
        guest = self.first
        self.load(guest)
        online = "/sys/devices/system/cpu/cpu1/online"
        self.addCleanup(guest.run, f"echo 1 >{online}")
        pages = 0
        for state in (0, 1, 0, 1):
            guest.run(f"echo {state} >{online}")
            for _ in range(5):
                pages += 100
                self.cp.ctl("smsg", guest.name, "CMM", "SHRINK", pages, user="VMRMSVM")
                self.settles(guest, pages)


if __name__ == "__main__":
    unittest.main()
