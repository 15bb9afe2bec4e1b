# SPDX-License-Identifier: GPL-2.0
"""What the checks of whole systems share: guests, ways to look at them, and how to talk to cpd in its own words.

COOPMEM_KERNEL=release runs them on another kernel than the debug one, COOPMEM_IMAGE=debian the tortures in
another system than that of the initramfs.
"""
import atexit
import concurrent.futures
import contextlib
import os
import pathlib
import re
import socket
import subprocess
import tempfile
import time
import unittest

from coopguest import BUILD, CP_BIN, ControlProgram, Guest, megabytes

IMAGE = os.environ.get("COOPMEM_IMAGE")
KERNEL = os.environ.get("COOPMEM_KERNEL", IMAGE or "debug")
PAGE = 4096
# Pages of a guest with 256 MiB.
STORAGE = 65536
# How long what takes milliseconds may take on a busy machine.
SOON = 30


class Pair:
    """Two guests under one Control Program, booted when first needed and shared by all checks."""

    def __init__(self):
        with contextlib.ExitStack() as stack:
            self.cp = stack.enter_context(ControlProgram())
            guests = (Guest(self.cp, "LINUX01", memory="256M", kernel=KERNEL),
                      Guest(self.cp, "LINUX02", memory="256M", cpus=1, kernel=KERNEL))
            with concurrent.futures.ThreadPoolExecutor() as both:
                self.first, self.second = both.map(stack.enter_context, guests)
            # Only now: what fails before leaves nothing behind.
            self.stack = stack.pop_all()

    def alive(self):
        return all(each.process.poll() is None for each in (self.cp, self.first, self.second))


class Shared:
    """Keeps the pair; a check that broke it costs the next one a boot, not its result."""
    pair = None

    @classmethod
    def get(cls):
        if cls.pair and not cls.pair.alive():
            cls.pair.stack.close()
            cls.pair = None
        if not cls.pair:
            cls.pair = Pair()
            atexit.register(cls.pair.stack.close)
        return cls.pair


class SystemCheck(unittest.TestCase):
    """A check of whole guests: when it ends, no kernel may have complained.

    Kernels that a check watches are those it has given to watch().
    """
    maxDiff = None

    def watch(self, guest):
        seen = len(guest.complaints())
        self.addCleanup(lambda: self.assertEqual(guest.complaints()[seen:], [], f"console of {guest.name}"))
        return guest

    def boot(self, *words, **more):
        """A guest of this check's own."""
        more.setdefault("kernel", KERNEL)
        kind = more.pop("kind", Guest)
        guest = kind(*words, **more)
        self.enterContext(guest)
        return self.watch(guest)

    def next_kernel(self):
        """Files of a kernel and its first file system, for selftests/next_kernel."""
        initramfs = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory())) / "initramfs"
        Guest(None, kernel=KERNEL).initramfs(initramfs)
        return BUILD / f"kernel-{KERNEL}" / "bzImage", initramfs

    def run_next_kernel(self, guest, after=1):
        """Has the kernel run that a guest has loaded, with `next` in its options."""
        guest.run(f"(sleep {after}; /selftests/next_kernel run) </dev/null >/dev/null 2>&1 &")
        guest.ready()
        self.assertIn("next", guest.run("cat /proc/cmdline"))

    def one_line(self, text, *wanted):
        """A text is a single line, and says what must be said."""
        lines = [line for line in text.splitlines() if line.strip()]
        self.assertEqual(len(lines), 1, text)
        for word in wanted:
            self.assertIn(word, lines[0])

    def eventually(self, right, what, timeout=SOON):
        """Waits until something holds; gives what it gave."""
        deadline = time.monotonic() + timeout
        while not (got := right()):
            if time.monotonic() > deadline:
                self.fail(f"not within {timeout} s: {what}")
            time.sleep(0.05)
        return got


class PairCheck(SystemCheck):
    """A check on the shared guests, which it leaves as it found them: without the balloon."""

    def setUp(self):
        pair = Shared.get()
        self.cp = pair.cp
        self.first, self.second = self.watch(pair.first), self.watch(pair.second)

    def load(self, guest, *parameters):
        """Loads the balloon until the check ends."""
        guest.run(f"modprobe cmm {' '.join(parameters)}")
        self.addCleanup(guest.run, "rmmod cmm")

    def settles(self, guest, pages, timeout=120):
        guest.wait_for("cat /proc/sys/vm/cmm_pages", str(pages), timeout)


def errors_of(guest):
    """What QEMU said."""
    return (guest.folder / "qemu.log").read_text(errors="replace")


def ram_of(guest):
    """The name of the guest's storage among the files of its QEMU: what the hypervisor sees."""
    size = megabytes(guest.memory)
    for entry in pathlib.Path(f"/proc/{guest.process.pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            if "memfd:" in os.readlink(entry) and entry.stat().st_size == size:
                return str(entry)
    raise AssertionError(f"QEMU of {guest.name} has no memfd of {size} bytes")


def resident_pages(guest):
    """Pages of the guest's storage that take memory of the host."""
    return os.stat(ram_of(guest)).st_blocks * 512 // PAGE


def vmstat(guest):
    """What Linux has counted of memory since its boot."""
    return {name: int(count) for name, count in map(str.split, guest.run("cat /proc/vmstat").splitlines())}


def fill_memory(guest, word="COOPMEM", most=1 << 20, keep=12):
    """Lets a guest write lines of a word into its memory, `most` MiB but not the last `keep`; it is free afterwards."""
    guest.run(f"""
        set -e
        mkdir -p /mnt/fill
        mount -t tmpfs -o size=95% fill /mnt/fill
        trap 'umount /mnt/fill' EXIT
        yes {word} | dd of=/mnt/fill/part bs=1M count=8 iflag=fullblock 2>/dev/null
        n=0
        while [ $((n * 8)) -lt {most} ] &&
              [ $(awk '/^MemAvailable/ {{ print $2 }}' /proc/meminfo) -gt $((({keep} + 8) * 1024)) ]; do
            cp /mnt/fill/part /mnt/fill/$n || break
            n=$((n + 1))
        done""")


class Stopped(Guest):
    """A guest whose CPUs do not start: it only logs on. For checks of what happens around guests."""

    def __init__(self, cp, name="LINUX01", **more):
        super().__init__(cp, name, kernel=KERNEL, **more)

    def _command(self):
        return [*super()._command(), "-S"]

    def initramfs(self, path):
        path.write_bytes(b"")

    def _connect(self):
        """QEMU's monitor answers once all its devices are there."""
        deadline = time.monotonic() + SOON
        while True:
            with contextlib.suppress(OSError):
                self.qmp("query-status")
                break
            self._alive(deadline)
            time.sleep(0.02)


class Command(Stopped):
    """Such a guest with words of its command line changed."""

    def __init__(self, *words, change, **more):
        super().__init__(*words, **more)
        self.change = change

    def _command(self):
        return [self.change(word) for word in super()._command()]


def start_cpd(path, *options, **more):
    """A cpd that a check starts and ends by itself."""
    return subprocess.Popen([CP_BIN / "cpd", "--socket", path, *options], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, **more)


def cpctl(*words, path=None):
    """Runs cpctl; gives its status, output and errors."""
    where = [] if path is None else ["--socket", path]
    done = subprocess.run([CP_BIN / "cpctl", *map(str, [*where, *words])], capture_output=True, text=True, timeout=SOON)
    return done.returncode, done.stdout, done.stderr


# The protocol of cpd's socket, as crate cp-proto has it: postcard, one message a packet.

def number(value):
    """A number of variable length."""
    out = b""
    while value > 0x7f:
        out += bytes([value & 0x7f | 0x80])
        value >>= 7
    return out + bytes([value])


def string(text):
    data = text.encode()
    return number(len(data)) + data


def hello(role, version=5):
    return number(version) + role


def guest_role(user, storage, cpus):
    return number(0) + string(user) + number(storage) + number(cpus) + number(0)


def cpu_role(session, cpu):
    return number(1) + session + number(cpu)


def operator_role(user):
    return number(2) + string(user)


def command_request(text):
    return number(0) + string(text)


def iucv_request(function, plist):
    return number(1) + number(function) + plist


class Wire:
    """A connection to cpd."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.connect(str(path))
        self.socket.settimeout(SOON)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def ask(self, message, fds=()):
        """Sends a message; gives the answer, empty if the connection was closed instead."""
        try:
            socket.send_fds(self.socket, [message], list(fds))
            return self.socket.recv(1 << 17)
        except (BrokenPipeError, ConnectionResetError):
            return b""

    def greet(self, role, fds=()):
        """Says hello; gives the session."""
        answer = self.ask(hello(role), fds)
        if not answer or answer[0] != 0:
            raise AssertionError(f"not welcome: {answer}")
        length = answer[1]
        return answer[2 + length:2 + length + 16]

    def command(self, text):
        """Issues a CP command; gives its return code."""
        answer = self.ask(command_request(text))
        if not answer or answer[0] != 0:
            raise AssertionError(f"no response to {text}: {answer}")
        return answer[1]


class FakeGuest:
    """A guest without QEMU, which says to cpd what no QEMU would."""

    def __init__(self, path, user, storage=1 << 20, cpus=1):
        self.path, self.user = path, user
        self.ram = os.memfd_create("ram")
        os.truncate(self.ram, storage)
        self.counters = os.memfd_create("counters")
        os.truncate(self.counters, PAGE)
        self.states = os.memfd_create("page-states")
        os.truncate(self.states, storage // PAGE)
        self.storage, self.cpus = storage, cpus

    def __enter__(self):
        self.events = Wire(self.path)
        self.session = self.events.greet(guest_role(self.user, self.storage, self.cpus),
                                         (self.ram, self.counters, self.states))
        return self

    def cpu(self, address=0):
        wire = Wire(self.path)
        wire.greet(cpu_role(self.session, address))
        return wire

    def __exit__(self, *_):
        self.events.socket.close()
        os.close(self.ram)
        os.close(self.counters)
        os.close(self.states)


def sentences(text, pattern):
    """Lines of a text that match."""
    return [line for line in text.splitlines() if re.search(pattern, line)]


def once(lines):
    """Lines without those that are said again: busybox's modprobe tries twice, in two ways, what fails."""
    return "\n".join(dict.fromkeys(lines))


__all__ = [name for name in dir() if not name.startswith("_")]
