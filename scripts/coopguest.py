# SPDX-License-Identifier: GPL-2.0
"""Guests in QEMU and the Control Program that they run under, for scripts.

    with ControlProgram() as cp, Guest(cp, "LINUX01", memory="512M") as guest:
        guest.run("modprobe cmm")
        cp.ctl("smsg", "LINUX01", "CMM", "SHRINK", "20000", user="VMRMSVM")
"""
import base64
import contextlib
import io
import json
import os
import pathlib
import re
import select
import shutil
import socket
import stat
import subprocess
import tempfile
import time
import typing

TOP = pathlib.Path(__file__).resolve().parent.parent
BUILD = TOP / "build"
CP_BIN = BUILD / "cp" / "release"

# What no kernel may say, whoever caused it.
COMPLAINT = re.compile(
    r"BUG:|WARNING:|Oops|Kernel panic|possible recursive locking|circular locking|"
    r"inconsistent lock state|sleeping function called|unreferenced object|"
    r"Unable to handle kernel|Unknown program exception|rcu_sched detected stalls|"
    r"task .* blocked for more than|suspicious RCU usage|list_(add|del) corruption|"
    r"ODEBUG:|pagealloc: |rust_kernel: panicked")


class DiskStat(typing.NamedTuple):
    """Requests to a disk, and sectors (Documentation/block/stat.rst)."""
    reads: int
    sectors_read: int
    writes: int
    sectors_written: int


class GuestDied(Exception):
    """The guest ended although it was still needed."""


class GuestTimeout(Exception):
    """The guest did not answer in time."""


class Failed(Exception):
    """A command in the guest, or of the operator, gave an unexpected status."""


def megabytes(text):
    """Bytes of a size such as 512M or 1G."""
    match = re.fullmatch(r"(\d+)([MG])", text)
    if not match:
        raise ValueError(f"a memory size is a number and M or G, such as 512M, not '{text}'")
    return int(match[1]) << {"M": 20, "G": 30}[match[2]]


class Cpio:
    """Writes a cpio archive (newc), which the kernel unpacks as its first file system."""

    def __init__(self):
        self.data = io.BytesIO()
        self.inode = 0
        self.folders = set()

    def _entry(self, name, mode, content=b"", major=0, minor=0):
        self.inode += 1
        encoded = name.encode() + b"\0"
        fields = (self.inode, mode, 0, 0, 1, 0, len(content), 0, 0, major, minor, len(encoded), 0)
        self.data.write(b"070701" + b"".join(b"%08X" % field for field in fields) + encoded)
        self.data.write(b"\0" * (-self.data.tell() % 4) + content)
        self.data.write(b"\0" * (-self.data.tell() % 4))

    def folder(self, name):
        """Adds a folder and those above it, once."""
        path = pathlib.PurePosixPath(name)
        for part in [*reversed(path.parents), path]:
            text = str(part)
            if text not in (".", "/") and text not in self.folders:
                self.folders.add(text)
                self._entry(text, stat.S_IFDIR | 0o755)

    def device(self, name, major, minor):
        self._entry(name, stat.S_IFCHR | 0o600, b"", major, minor)

    def add(self, source, name):
        """Adds a file, or a folder with all that is in it, under a name."""
        source = pathlib.Path(source)
        name = name.strip("/")
        if source.is_dir() and not source.is_symlink():
            self.folder(name)
            for child in sorted(source.iterdir()):
                self.add(child, f"{name}/{child.name}" if name else child.name)
            return
        self.folder(str(pathlib.PurePosixPath(name).parent))
        if source.is_symlink():
            self._entry(name, stat.S_IFLNK | 0o777, os.readlink(source).encode())
        else:
            mode = stat.S_IFREG | (0o755 if os.access(source, os.X_OK) else 0o644)
            self._entry(name, mode, source.read_bytes())

    def finish(self):
        self._entry("TRAILER!!!", 0)
        return self.data.getvalue()


class ControlProgram:
    """A cpd of one's own in a folder of its own, or one that runs already."""

    def __init__(self, path=None, options=()):
        self.own = path is None
        self.options = options
        self.process = None
        self.folder = None
        self.socket = path

    def __enter__(self):
        if self.own:
            self.folder = tempfile.mkdtemp(prefix="coopmem-")
            self.socket = f"{self.folder}/cp.sock"
            self.log = open(f"{self.folder}/cpd.log", "w+")
            self.process = subprocess.Popen(
                [CP_BIN / "cpd", "--socket", self.socket, *self.options], stdout=self.log, stderr=self.log)
            deadline = time.monotonic() + 20
            while not os.path.exists(self.socket):
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise Failed(f"cpd did not start:\n{pathlib.Path(self.log.name).read_text()}")
                time.sleep(0.02)
        return self

    def __exit__(self, *_):
        if self.process:
            self.process.terminate()
            self.process.wait()
            self.log.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    def ctl(self, *words, user="OPERATOR", status=0):
        """Issues an operator's command as a user ID; gives what CP answers."""
        done = subprocess.run(
            [CP_BIN / "cpctl", "--socket", self.socket, "--as", user, *map(str, words)],
            capture_output=True, text=True)
        text = done.stdout + done.stderr
        if status is not None and done.returncode != status:
            raise Failed(f"cpctl {' '.join(map(str, words))}: status {done.returncode}, "
                         f"not {status}: {text.strip()}")
        return text

    def resident(self, guest):
        """The pages of a guest that are in the host's memory."""
        return int(self.ctl("resident", guest).split()[-1])

    def frames(self):
        """How many frames the system has, and how many of them nobody has."""
        return tuple(map(int, re.search(r"(?s)Usable=(\d+).*GlobalClearedAvail=(\d+)",
                                        self.ctl("query", "frames")).groups()))

    def overview(self):
        """What cpctl top shows."""
        return json.loads(self.ctl("--json", "top"))

    def counters(self, guest):
        """What is counted of a guest."""
        return {name: int(count) for name, count in map(str.split, self.ctl("counters", guest).splitlines())}


class Monitor:
    """QEMU's monitor: CPUs are stopped there, and virtio-balloon takes its orders."""

    def __init__(self, path):
        with contextlib.ExitStack() as stack:
            connection = stack.enter_context(socket.socket(socket.AF_UNIX))
            connection.settimeout(30)
            connection.connect(str(path))
            self.stream = stack.enter_context(connection.makefile("rw"))
            self._read()
            self.call("qmp_capabilities")
            self.connection = stack.pop_all()

    def _read(self):
        line = self.stream.readline()
        if not line:
            raise ConnectionResetError("QEMU's monitor is gone")
        return json.loads(line)

    def call(self, command, **arguments):
        self.stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.stream.flush()
        while True:
            answer = self._read()
            if "error" in answer:
                raise Failed(f"{command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def close(self):
        self.connection.close()


class Guest:
    """A guest that runs commands as root, one after the other."""

    def __init__(self, cp, name="LINUX01", memory="512M", cpus=2, kernel=None,
                 hypervisor="zvm", add=(), disks=(), append="", console=False, timeout=300,
                 qemu=(), device="", count=False, cache="writeback", image=None):
        self.cp, self.name, self.memory, self.cpus = cp, name, memory, cpus
        # That of the image, if nothing else is said.
        self.kernel = BUILD / f"kernel-{kernel or image or 'release'}"
        self.hypervisor, self.add, self.disks = hypervisor, add, disks
        # The system that it comes up with, such as "debian"; without, it is what is in the initramfs.
        self.image = image
        # Options of the kernel for all guests of a run: COOPMEM_APPEND.
        self.append = f"{append} {os.environ.get('COOPMEM_APPEND', '')}"
        self.console, self.timeout = console, timeout
        self.qemu, self.cache = qemu, cache
        # More options of the device zvm-cp, such as "unused=exception,oracle=on".
        self.device = f",{device}" if device else ""
        self.count = count
        self.buffer = b""
        self.port = None
        self.monitor = None
        self.process = None
        self.errors = None

    def initramfs(self, path):
        """The guest's first file system: programs, modules, selftests and what was asked for."""
        cpio = Cpio()
        cpio.add((BUILD / "userland").resolve(), "/")
        cpio.device("dev/console", 5, 1)
        top, lib = ("image/", "usr/lib") if self.image else ("", "lib")
        cpio.add(self.kernel / "lib" / "modules", f"{top}{lib}/modules")
        cpio.add(self.kernel / "c", f"{top}{lib}/cmm-c")
        if (self.kernel / "selftests").exists():
            cpio.add(self.kernel / "selftests", f"{top}selftests")
        for source, target in self.add:
            cpio.add(source, top + target)
        path.write_bytes(cpio.finish())

    def _command(self):
        words = [
            BUILD / "qemu" / "qemu-system-s390x", "-L", BUILD / "qemu", "-nodefaults", "-no-reboot",
            "-display", "none", "-cpu", "max", "-smp", str(self.cpus), "-m", self.memory,
            "-object", f"memory-backend-memfd,id=ram0,size={self.memory},share=on",
            "-M", "s390-ccw-virtio,accel=tcg,memory-backend=ram0",
            "-kernel", self.kernel / "bzImage", "-initrd", self.folder / "initramfs",
            "-append", f"console=ttysclp0 panic=-1 coopmem.name={self.name} "
                       f"coopmem.run={'shell' if self.console else 'agent'} {self.append}",
            "-device", "virtio-serial-ccw",
            "-chardev", f"socket,id=agent,path={self.folder}/agent,server=on,wait=off",
            "-device", "virtserialport,chardev=agent,nr=1",
            "-qmp", f"unix:{self.folder}/qmp,server=on,wait=off",
        ]
        if self.console:
            words += ["-chardev", "stdio,id=console,signal=off,mux=on", "-mon", "console"]
        else:
            words += ["-chardev", f"file,id=console,path={self.folder}/console"]
        words += ["-device", "sclpconsole,chardev=console"]
        library = CP_BIN / "libcp_guest.so"
        if self.hypervisor == "zvm":
            words += ["-device", f"zvm-cp,library={library},userid={self.name},"
                      f"socket={self.cp.socket}{self.device}"]
        elif self.hypervisor == "kvm":
            words += ["-device", f"zvm-cp,library={library},userid={self.name},flavour=kvm{self.device}"]
        if self.image:
            # What the guest writes is gone with it.
            words += ["-drive", f"file={BUILD}/{self.image}/{self.image}.ext4,format=raw,if=none,id=image,snapshot=on",
                      "-device", "virtio-blk-ccw,drive=image,serial=image"]
        for number, image in enumerate(self.disks):
            # An image that nobody may write is for several guests at once.
            access = "off" if os.stat(image).st_mode & 0o222 else "on"
            words += ["-drive", f"file={image},format=raw,if=none,id=disk{number},cache={self.cache},readonly={access}",
                      "-device", f"virtio-blk-ccw,drive=disk{number},serial=disk{number}"]
        if self.count:
            words += ["-plugin", f"{BUILD}/qemu/libinstructions.so,socket={self.folder}/instructions"]
        return list(map(str, [*words, *self.qemu]))

    def __enter__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"coopmem-{self.name}-"))
        self.initramfs(self.folder / "initramfs")
        if self.console:
            self.process = subprocess.Popen(self._command())
            return self
        self.errors = open(self.folder / "qemu.log", "w+")
        self.process = subprocess.Popen(self._command(), stdin=subprocess.DEVNULL,
                                        stdout=self.errors, stderr=self.errors)
        try:
            self._connect()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _connect(self):
        deadline = time.monotonic() + self.timeout
        while True:
            try:
                self.port = socket.socket(socket.AF_UNIX)
                self.port.connect(f"{self.folder}/agent")
                break
            except OSError:
                self.port.close()
                self._alive(deadline)
                time.sleep(0.02)
        self.ready()

    def ready(self):
        """Waits until the guest takes commands: after its start, and after each later one."""
        deadline = time.monotonic() + self.timeout
        while self._line(deadline) != "ready":
            pass

    def _alive(self, deadline):
        if self.process.poll() is not None:
            raise GuestDied(f"guest {self.name} ended:\n{self.tail()}")
        if time.monotonic() > deadline:
            raise GuestTimeout(f"guest {self.name} does not answer:\n{self.tail()}")

    def _line(self, deadline):
        """The agent's next line."""
        while b"\n" not in self.buffer:
            if select.select([self.port], [], [], 0.2)[0]:
                try:
                    data = self.port.recv(65536)
                except ConnectionResetError:
                    data = b""
                if not data:
                    self.process.wait(10)
                    self._alive(0)
                self.buffer += data
            else:
                self._alive(deadline)
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.decode(errors="replace").rstrip("\r")

    def stream(self, command, output, timeout=None):
        """Runs a command, writes its output as it comes, gives its status."""
        deadline = time.monotonic() + (timeout or self.timeout)
        self.port.sendall(base64.b64encode(command.encode()) + b"\n")
        while True:
            line = self._line(deadline)
            if line.startswith("s "):
                return int(line[2:])
            if line.startswith("o "):
                output(line[2:] + "\n")

    def run(self, command, status=0, timeout=None):
        """Runs a command; gives its output; another status than expected is an error."""
        text = []
        got = self.stream(command, text.append, timeout)
        if status is not None and got != status:
            raise Failed(f"{self.name}: {command}: status {got}, not {status}:\n{''.join(text)}")
        return "".join(text).rstrip("\n")

    def qmp(self, command, **arguments):
        """Tells QEMU's monitor something; gives its answer."""
        self.monitor = self.monitor or Monitor(self.folder / "qmp")
        return self.monitor.call(command, **arguments)

    def instructions(self):
        """How many instructions the guest has executed since it was started with count=True."""
        with socket.socket(socket.AF_UNIX) as counter, counter.makefile() as answer:
            counter.connect(f"{self.folder}/instructions")
            return int(answer.read())

    def disk(self, number):
        """The device of one of the guest's disks: it may have any name."""
        return self.run(f"cd /sys/block && for d in vd*; do [ $(cat $d/serial) != disk{number} ] || echo /dev/$d; done")

    def disk_stat(self, device):
        """What a disk of the guest has done since the boot."""
        return self.disk_stats(device.removeprefix("/dev/"))

    def disk_stats(self, disks="vd*"):
        """What all disks of the guest have done together since the boot."""
        rows = [list(map(int, line.split())) for line in self.run(f"cat /sys/block/{disks}/stat").splitlines()]
        return DiskStat(*(sum(row[at] for row in rows) for at in (0, 2, 4, 6)))

    def sysctl(self, name, value=None):
        """Reads or writes one of the files in /proc/sys/vm."""
        if value is None:
            return self.run(f"cat /proc/sys/vm/{name}")
        return self.run(f"echo {value} >/proc/sys/vm/{name}")

    def wait_for(self, command, wanted, timeout=60):
        """Waits until a command prints what is wanted."""
        deadline = time.monotonic() + timeout
        while (got := self.run(command)) != wanted:
            if time.monotonic() > deadline:
                raise Failed(f"{self.name}: {command} prints '{got}', not '{wanted}'")
            time.sleep(0.1)
        return got

    def console_text(self):
        path = self.folder / "console"
        return path.read_text(errors="replace") if path.exists() else ""

    def complaints(self):
        """Lines of the console that no kernel may print."""
        return [line for line in self.console_text().splitlines() if COMPLAINT.search(line)]

    def must_be_content(self):
        """Raises Failed if its kernel has complained."""
        if complaints := self.complaints():
            raise Failed("\n".join([f"{self.name}: the kernel complained:", *complaints]))

    def tail(self, lines=30):
        text = self.console_text().splitlines()[-lines:]
        errors = (self.folder / "qemu.log").read_text(errors="replace").splitlines()[-5:]
        return "\n".join(f"    | {line}" for line in text + errors)

    def __exit__(self, *_):
        for connection in (self.port, self.monitor):
            if connection:
                connection.close()
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.errors:
            self.errors.close()
        if keep := os.environ.get("COOPMEM_KEEP"):
            shutil.copytree(self.folder, f"{keep}/{self.name}", dirs_exist_ok=True,
                            ignore=shutil.ignore_patterns("agent", "qmp", "instructions", "initramfs"))
        shutil.rmtree(self.folder, ignore_errors=True)
