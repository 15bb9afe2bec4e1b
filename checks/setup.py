# SPDX-License-Identifier: GPL-2.0
"""Setting up and building on a machine where something is wrong: one clear line, and nothing taken for done."""
import os
import pathlib
import select
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

from coopguest import TOP

# Mounts that only a check's commands see.
APART = ["unshare", "--mount", *(["--map-root-user"] if os.geteuid() else [])]


def alive(pid):
    """Whether a process runs: one that nobody has waited for yet does not."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class SetUp(unittest.TestCase):
    """Scripts of a checkout of its own, which has a cache of its own."""

    def setUp(self):
        self.top = pathlib.Path(tempfile.mkdtemp(prefix="coopmem-setup-"))
        self.addCleanup(shutil.rmtree, self.top)
        self.cache = self.top / "cache"
        self.cache.mkdir()
        for name in ("scripts", "patches"):
            shutil.copytree(TOP / name, self.top / name)

    def start(self, line, **variables):
        """Runs a line of shell in the checkout, in a session of its own."""
        return subprocess.Popen(
            ["env", "--default-signal", "bash", "-c", line], cwd=self.top, start_new_session=True, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={"PATH": os.environ["PATH"], "HOME": str(self.top), "XDG_CACHE_HOME": str(self.cache), **variables})

    def fails(self, line, *wanted, **variables):
        """It fails with one line that says what is wrong, the last; gives what else it said."""
        process = self.start(line, **variables)
        out, errors = process.communicate(timeout=300)
        self.assertNotIn(process.returncode, (0, 127), out + errors)
        lines = [line for line in errors.splitlines() if line.startswith("coopmem: ")]
        self.assertEqual(len(lines), 1, out + errors)
        for word in wanted:
            self.assertIn(word, lines[0])
        self.assertEqual(list(self.cache.glob("coopmem/ready-*")), [])
        return out + errors

    def fails_with(self, file, text, *wanted):
        """The same where a file of the machine has another text."""
        fake = self.top / "fake"
        fake.write_text(text)
        fake.chmod(0o755)
        return self.fails(f"{shlex.join(APART)} sh -c 'mount --bind {fake} {file} && scripts/setup'", *wanted)

    def test_another_distribution(self):
        for text, name in (('ID=ubuntu\nVERSION_ID="26.04"\nPRETTY_NAME="Ubuntu 26.04"\n', "Ubuntu 26.04"),
                           ('ID=debian\nVERSION_ID="11"\nPRETTY_NAME="Debian 11"\n', "Debian 11"), ("", "unknown")):
            with self.subTest(name):
                self.fails_with("/etc/os-release", text, name, "Debian 12 and 13")

    def test_tools_too_old(self):
        self.fails_with("/usr/bin/rustc", "#!/bin/sh\necho 'rustc 1.85.1 (4eb161250 2025-03-15)'\n",
                        "rustc 1.85.1 is too old", "1.96")

    def test_neither_root_nor_sudo(self):
        """One message that lists what to install."""
        subprocess.run(["chmod", "-R", "a+rwX", self.top], check=True)
        said = self.fails(f"{shlex.join(APART)} sh -c 'mount --bind /dev/null /var/lib/dpkg/status && "
                          "exec setpriv --reuid=65534 --regid=65534 --clear-groups scripts/setup'", "only root")
        self.assertRegex(said, r"apt-get install .* clang-22 .* rustc-web")

    def test_sources_that_are_not_there(self):
        for name in ("LINUX_SRC", "QEMU_SRC"):
            with self.subTest(name):
                self.fails("scripts/setup", name, "/nowhere/source", **{name: "/nowhere/source"})

    def test_sources_that_are_something_else(self):
        other = self.top / "other"
        other.mkdir()
        (other / "README").write_text("not what is wanted\n")
        self.fails("scripts/build tree", "Linux 7.3", str(other), LINUX_SRC=str(other))
        self.fails("scripts/build qemu", "QEMU 10.0", str(other), QEMU_SRC=str(other))

    def test_no_network(self):
        """And nothing is left that passes for a download."""
        self.fails(f"{shlex.join(APART)} --net scripts/setup", "the network cannot be reached")
        self.assertEqual(list(self.cache.glob("coopmem/downloads/*")), [])

    def test_disk_too_small(self):
        self.fails(f"{shlex.join(APART)} sh -c 'mount -t tmpfs -o size=64m small {self.cache} && scripts/setup'",
                   "0 GiB free", str(self.cache))

    def test_disk_full_on_the_way(self):
        build = self.top / "build"
        build.mkdir()
        self.fails(f"{shlex.join(APART)} bash -c 'mount -t tmpfs -o size=8m small {build} && . scripts/lib.sh && "
                   "stage filling fill dd if=/dev/zero of=build/file'", "the disk is full", str(build))

    def test_interrupted(self):
        """What a stage has started ends with it, at each way to end."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with self.subTest(number.name):
                process = self.start(". scripts/lib.sh; stage waiting wait sh -c 'sleep 1000 & echo $! >build/pid; wait'")
                deadline = time.monotonic() + 20
                while not (started := self.pid()):
                    self.assertLess(time.monotonic(), deadline)
                    time.sleep(0.05)
                os.killpg(process.pid, number)
                process.communicate(timeout=30)
                self.assertEqual(process.returncode, 130)
                (self.top / "build" / "pid").unlink()
                while alive(started):
                    self.assertLess(time.monotonic(), deadline, "it goes on")
                    time.sleep(0.05)

    def pid(self):
        path = self.top / "build" / "pid"
        return path.exists() and path.read_text().strip()

    def test_two_at_once(self):
        """The second one waits for the first."""
        first = self.start(". scripts/lib.sh; alone build/lock; echo in; sleep 1; echo out")
        self.assertEqual(first.stdout.readline(), "in\n")
        second = self.start(". scripts/lib.sh; alone build/lock; echo in")
        self.assertIn("waiting", second.stdout.readline())
        self.assertEqual(second.stdout.readline(), "in\n")
        # It has said so, but may be still about to end.
        self.assertTrue(select.select([first.stdout], [], [], 0)[0])
        self.assertEqual(first.stdout.readline(), "out\n")
        for process in (first, second):
            process.communicate(timeout=30)


if __name__ == "__main__":
    unittest.main()
