# SPDX-License-Identifier: GPL-2.0
"""Page states: a guest without an operating system executes ESSA and touches pages that the host takes.

Each check says what the machine must do, instruction by instruction; states.S is the guest.
"""
import contextlib
import dataclasses
import json
import os
import pathlib
import struct
import subprocess
import tempfile
import time
import unittest

from coopguest import ControlProgram, Guest, GuestDied
from systems import KERNEL, PAGE, SOON, Stopped, SystemCheck, errors_of, ram_of, resident_pages

# As in states.S.
MAILBOX, COMMAND, REGISTERS, OUTCOME = 0x20000, 0, 24, 56
INSTRUCTIONS = dict(llgc=16, stc=17, mvc_to=18, mvc_from=19, clc=20, mvcl=21, mvcle=22, csg=23, br=24, lra=25, diag308=26,
                    spx=27, lpswe=28, stcrw=29, mvpg=30, lg=31, stfle=32, race=33, tmem=34,
                    tmem_odd=35, command=36, signal=37)

# PSW masks: 64-bit addresses; with DAT, whose table says that all addresses are real; in the problem state.
REAL, DAT, PROBLEM = 0x0000000180000000, 0x0400000180000000, 0x0001000180000000
WAIT = 0x0302000180000000

OPERATION, PRIVILEGED, ADDRESSING, SPECIFICATION, BLOCK_VOLATILITY = 1, 2, 5, 6, 0x1a
GET, STABLE, UNUSED, VOLATILE, POTENTIALLY, RESIDENT, IF_NOT_DISCARDED, NO_DAT = range(8)

# Orders of SIGNAL PROCESSOR.
INITIAL_CPU_RESET, CPU_RESET, SET_PREFIX, STORE_STATUS = 0xb, 0xc, 0xd, 0xe

# Where the checks have their pages: behind the program.
PAGES = 0x100000
SVC = b"\x0a\x00"


@dataclasses.dataclass
class Outcome:
    """How an instruction ended."""
    registers: tuple
    code: int
    length: int
    psw: int
    tec: int
    at: int


class Bare(Guest):
    """The guest without an operating system."""
    folder_of_program = None

    def __init__(self, cp, name="BARE", memory="64M", cpus=1, **more):
        super().__init__(cp, name, memory=memory, cpus=cpus, **more)

    @classmethod
    def program(cls):
        """Assembles states.S, once."""
        if not cls.folder_of_program:
            cls.folder_of_program = tempfile.TemporaryDirectory(prefix="coopmem-states-")
            subprocess.run(["clang-22", "--target=s390x-linux-gnu", "-march=z13", "-nostdlib", "-static", "-fuse-ld=lld",
                            "-Wl,--image-base=0x10000,--build-id=none,-Ttext=0x11000",
                            "-o", f"{cls.folder_of_program.name}/states",
                            pathlib.Path(__file__).with_suffix(".S")], check=True)
        return f"{cls.folder_of_program.name}/states"

    def initramfs(self, path):
        pass

    def _command(self):
        words = [word for word in super()._command() if word != "-no-reboot"]
        words[words.index("-kernel") + 1] = self.program()
        for option in ("-initrd", "-append"):
            place = words.index(option)
            del words[place:place + 2]
        return words

    def _connect(self):
        """The guest runs when it has said so in its mailbox."""
        deadline = time.monotonic() + SOON
        while True:
            self._alive(deadline)
            with contextlib.suppress(AssertionError, OSError):
                self.ram = os.open(ram_of(self), os.O_RDWR)
                self.qmp("query-status")
                break
            time.sleep(0.02)
        if "-S" not in self.qemu:
            self.started(0)

    def __exit__(self, *words):
        if hasattr(self, "ram"):
            os.close(self.ram)
        super().__exit__(*words)

    def started(self, before):
        """Waits until the program has started more often than before; gives how often."""
        deadline = time.monotonic() + SOON
        while (times := self.words(MAILBOX + 96)[0]) <= before:
            self._alive(deadline)
            time.sleep(0.01)
        return times

    def words(self, address, count=1):
        return struct.unpack(f">{count}Q", os.pread(self.ram, 8 * count, address))

    def store(self, address, data):
        os.pwrite(self.ram, data, address)

    def load(self, address, length=PAGE):
        return os.pread(self.ram, length, address)

    def begin(self, instruction, *registers, mask=REAL):
        """Lets the guest execute an instruction with registers from 2 on."""
        if isinstance(instruction, str):
            instruction = INSTRUCTIONS[instruction]
        registers = (*registers, 0, 0, 0, 0)[:4]
        self.store(MAILBOX + 8, struct.pack(">6Q", mask, 0, *registers))
        self.store(MAILBOX + COMMAND, struct.pack(">Q", instruction + 1))

    def execute(self, instruction, *registers, mask=REAL):
        """Executes an instruction; gives how it ended."""
        self.begin(instruction, *registers, mask=mask)
        return self.end()

    def end(self):
        """Waits until the instruction has ended; gives how."""
        deadline = time.monotonic() + SOON
        while self.words(MAILBOX + COMMAND)[0]:
            self._alive(deadline)
        return Outcome(self.words(MAILBOX + REGISTERS, 4), *self.words(MAILBOX + OUTCOME, 5))

    def essa(self, code, address, **more):
        """ESSA; what it returns."""
        outcome = self.execute(code, address, -1 & 0xffffffffffffffff, **more)
        if outcome.code:
            raise AssertionError(f"ESSA {code} of {address:#x}: program interruption {outcome.code:#x}")
        return outcome.registers[1]


def states_of(guest):
    """The name of the guest's page states among the files of its QEMU."""
    for entry in pathlib.Path(f"/proc/{guest.process.pid}/fd").iterdir():
        if "coopmem-page-states" in os.readlink(entry):
            return str(entry)
    raise AssertionError(f"QEMU of {guest.name} has no page states")


class States(SystemCheck):
    """What an instruction sees of page states."""

    @classmethod
    def setUpClass(cls):
        cls.cp = cls.enterClassContext(ControlProgram())
        cls.guest = cls.enterClassContext(Bare(cls.cp))

    def setUp(self):
        self.page = PAGES
        self.addCleanup(self.stabilise)

    def stabilise(self):
        for page in range(PAGES, PAGES + 64 * PAGE, PAGE):
            self.guest.essa(STABLE, page)

    def take(self, *words):
        self.cp.ctl("reclaim", self.guest.name, "all", *words)

    def in_state(self, state):
        """A page of content in a state: S, U, P, V, or Z for one that is volatile and discarded.

        The CPU knows its translation.
        """
        self.page += PAGE
        self.guest.store(self.page, SVC * (PAGE // 2))
        for mask in (REAL, DAT):
            self.assertEqual(self.guest.execute("llgc", self.page, mask=mask).registers[1], SVC[0])
        self.guest.essa({"S": STABLE, "U": UNUSED, "P": POTENTIALLY, "V": VOLATILE, "Z": VOLATILE}[state], self.page)
        if state == "Z":
            self.take("--only", "v")
        return self.page

    def test_every_operation_on_every_state(self):
        #         get   S     U     V     P     5     6
        after = {
            "S": (0x00, 0x00, 0x04, 0x0c, 0x08, 0x00, 0x00),
            "U": (0x04, 0x00, 0x04, 0x0c, 0x08, 0x00, 0x00),
            "P": (0x08, 0x00, 0x04, 0x0c, 0x08, 0x00, 0x00),
            "V": (0x0c, 0x00, 0x04, 0x0c, 0x08, 0x00, 0x00),
            "Z": (0x0f, 0x00, 0x04, 0x0f, 0x0f, 0x00, 0x0f),
        }
        for state, states in after.items():
            for code, wanted in enumerate(states):
                with self.subTest(state=state, code=code):
                    page = self.in_state(state)
                    self.assertEqual(self.guest.essa(code, page), after[state][0], "the state of before")
                    left = self.guest.essa(GET, page)
                    # Without content, a stable or unused page is zero; code 5 makes it resident.
                    zero = state == "Z" and code in (STABLE, UNUSED)
                    self.assertEqual(left, wanted | 3 if zero else wanted)
                    if state == "Z" and wanted != 0x0f:
                        self.assertEqual(self.guest.load(page), bytes(PAGE))
                    elif state != "Z":
                        self.assertEqual(self.guest.load(page), SVC * (PAGE // 2), "the content stays")
                    self.guest.essa(STABLE, page)

    def test_exceptions(self):
        essa = self.guest.execute
        for code in range(7, 16):
            self.assertEqual(essa(code, PAGES).code, SPECIFICATION, code)
        for code in range(16):
            self.assertEqual(essa(code, PAGES, mask=PROBLEM).code, PRIVILEGED, code)
        for address in (64 << 20, 1 << 40, 0xfffffffffffff000):
            for code in range(16):
                self.assertEqual(essa(code, address).code, ADDRESSING if code < 7 else SPECIFICATION, hex(address))
        self.assertEqual(self.guest.essa(GET, (64 << 20) - 1), 3)

    def test_a_discarded_page_interrupts_whoever_touches_it(self):
        """Nullifying: the old PSW is at the instruction, no register or storage has changed."""
        stable = self.in_state("S")
        for name, registers in (("llgc", (0, 7)), ("lg", (0, 7)), ("stc", (0, 7)), ("mvc_to", (0, 0, stable)),
                                ("mvc_from", (0, 0, stable)), ("clc", (0, 0, stable)), ("mvcl", (0, 64, stable, 64)),
                                ("mvcle", (stable, 64, 0, 64)), ("csg", (0, 0, 1)), ("br", (0,)),
                                ("mvpg", (0, 0, stable)), ("stcrw", (0,))):
            for mask in (REAL, DAT):
                with self.subTest(name, mask=hex(mask)):
                    page = self.in_state("Z")
                    words = list(registers)
                    words[2 if name == "mvcle" else 0] = page + 0x128
                    outcome = self.guest.execute(name, *words, mask=mask)
                    self.assertEqual(outcome.code, BLOCK_VOLATILITY)
                    self.assertEqual(outcome.tec, page)
                    self.assertEqual(outcome.psw, page + 0x128 if name == "br" else outcome.at)
                    self.assertEqual(outcome.registers, (*words, 0, 0, 0)[:4])
                    self.assertEqual(self.guest.essa(GET, page), 0xf)
                    self.assertEqual(self.guest.load(stable), SVC * (PAGE // 2))
                    self.guest.essa(STABLE, page)
        counted = json.loads(self.cp.ctl("--json", "counters", self.guest.name))["block_volatility"]
        self.assertEqual(counted, 24)

    def test_the_second_of_two_pages(self):
        self.in_state("S")
        page = self.in_state("Z")
        outcome = self.guest.execute("lg", page - 4)
        self.assertEqual((outcome.code, outcome.tec, outcome.psw), (BLOCK_VOLATILITY, page, outcome.at))

    def test_a_page_made_stable_again_is_used_as_ever(self):
        page = self.in_state("Z")
        self.assertEqual(self.guest.execute("llgc", page).code, BLOCK_VOLATILITY)
        self.assertEqual(self.guest.essa(IF_NOT_DISCARDED, page), 0xf)
        self.assertEqual(self.guest.essa(STABLE, page), 0xf)
        self.assertEqual(self.guest.execute("llgc", page, 7).registers[1], 0)
        self.guest.execute("stc", page, 7)
        self.take()
        self.assertEqual(self.guest.execute("llgc", page).registers[1], 7)

    def test_addresses_are_absolute_and_prefix_areas_are_kept(self):
        """With a prefix, real address 0 is not absolute address 0."""
        prefix, place = 0x180000, PAGES
        self.guest.store(prefix, self.guest.load(0, 2 * PAGE))
        self.guest.store(place, struct.pack(">I", prefix))
        self.guest.execute("spx", place)
        try:
            with open(states_of(self.guest), "rb", buffering=0) as states:
                for page in (0, prefix, prefix + PAGE):
                    self.guest.essa(VOLATILE, page)
                    self.assertEqual(os.pread(states.fileno(), 1, page // PAGE), b"\x0c", hex(page))
            self.take()
            for page in (0, prefix, prefix + PAGE):
                self.assertEqual(self.guest.essa(GET, page), 0xc, hex(page))
        finally:
            for page in (0, prefix, prefix + PAGE):
                self.guest.essa(STABLE, page)
            self.guest.store(place, bytes(4))
            self.guest.execute("spx", place)

    def test_taking_gives_the_host_its_memory(self):
        """What is said, what the states are, and what the host's file system says are the same."""
        pages = 4096
        first = 16 << 20
        self.guest.store(first, b"x" * pages * PAGE)
        for page in range(first, first + pages * PAGE, PAGE):
            self.guest.essa(VOLATILE if page & PAGE else UNUSED, page)
        before = resident_pages(self.guest)
        said = self.cp.ctl("reclaim", self.guest.name, "9M")
        self.assertEqual(said, f"took 2304 pages of BARE: U 2048, V 256; resident {before} -> {before - 2304}\n")
        self.assertEqual(resident_pages(self.guest), before - 2304)
        self.assertEqual(self.cp.resident(self.guest.name), before - 2304)
        table = json.loads(self.cp.ctl("--json", "states", self.guest.name))
        self.assertEqual(table["U"], {"tot": 2048, "r": 0, "p": 0, "z": 2048})
        self.assertEqual(table["V"], {"tot": 2048, "r": 1792, "p": 0, "z": 256})
        self.assertEqual(table["S"]["r"] + 1792, before - 2304)
        rows = self.cp.ctl("states", self.guest.name).splitlines()
        self.assertEqual(rows[0], f"{'':<3} {'tot':>10} {'r':>10} {'p':>10} {'z':>10}")
        self.assertEqual(rows[4], f"{'V':<3} {2048:>10} {1792:>10} {0:>10} {256:>10}")
        self.assertEqual([row.split()[0] for row in rows[1:]], ["S", "U", "P", "V", "tot"])
        self.assertIn("V 896;", self.cp.ctl("torment", self.guest.name, "--seconds", 0, "--share", 500))
        self.assertIn("U 0, V 896;", self.cp.ctl("reclaim", self.guest.name, "all", "--only", "v", "--random"))
        for page in range(first, first + pages * PAGE, PAGE):
            self.guest.essa(STABLE, page)

    def test_taking_from_a_guest_that_waits_or_is_stopped(self):
        """Nothing that the guest has to do is needed for it: it executes no instruction."""
        with Bare(self.cp, "IDLE", count=True) as guest:
            guest.store(PAGES, b"x" * 4 * PAGE)
            for page in range(4):
                guest.essa(UNUSED if page & 1 else VOLATILE, PAGES + page * PAGE)
            guest.store(PAGES - PAGE, struct.pack(">QQ", WAIT, 0))
            guest.begin("lpswe", PAGES - PAGE)
            self.eventually(lambda: self.sleeps(guest), "the guest waits")
            executed = guest.instructions()
            self.assertIn("U 2, V 1;", self.cp.ctl("reclaim", "IDLE", "12K"))
            self.assertEqual(guest.instructions(), executed)
            guest.qmp("stop")
            self.assertIn("U 0, V 1;", self.cp.ctl("reclaim", "IDLE", "12K"))
            self.assertEqual(guest.load(PAGES, 4 * PAGE), bytes(4 * PAGE))

    @staticmethod
    def sleeps(guest):
        """The guest has executed nothing for a while."""
        before = guest.instructions()
        time.sleep(0.2)
        return guest.instructions() == before

    def test_no_page_is_taken_that_the_guest_has_made_stable(self):
        """The guest changes pages, and the host takes them, as fast as they can."""
        pages, rounds = 200, 1500
        first = 32 << 20
        self.guest.store(first, bytes(pages * PAGE))
        for page in range(pages):
            self.guest.essa(VOLATILE, first + page * PAGE)
        self.guest.begin("race", first, pages, rounds)
        taken = 0
        while self.guest.words(MAILBOX + COMMAND)[0]:
            said = self.cp.ctl("--json", "torment", self.guest.name, "--seconds", 1, "--interval", 0)
            taken += json.loads(said)["volatile"]
        outcome = self.guest.end()
        self.assertEqual(outcome.code, 0, outcome)
        lost, wrong = outcome.registers[:2]
        self.assertEqual(wrong, 0)
        self.assertTrue(100 < lost <= taken, (lost, taken))
        for page in range(pages):
            self.guest.essa(STABLE, first + page * PAGE)

    def test_instructions_are_counted(self):
        """From its first to its last: 22 up to the one in the mailbox, a branch, a loop, and one that waits."""
        loops = 1000003
        with Bare(self.cp, "COUNT", count=True, qemu=("-S",)) as guest:
            guest.store(PAGES, bytes.fromhex("a7360000" "b2b24000"))
            guest.store(PAGES + PAGE, struct.pack(">QQ", WAIT, 0))
            guest.begin("br", PAGES, loops, PAGES + PAGE)
            self.assertEqual(guest.instructions(), 0)
            guest.qmp("cont")
            self.eventually(lambda: guest.instructions() and self.sleeps(guest), "the guest waits")
            self.assertEqual(guest.instructions(), 22 + 1 + loops + 1)

    def test_a_reset_makes_all_pages_stable(self):
        resets = {
            "DIAGNOSE X'308' 0: modified clear": lambda guest: guest.begin("diag308", 0, 0, 0),
            "DIAGNOSE X'308' 1: load normal": lambda guest: guest.begin("diag308", 0, 0, 1),
            "DIAGNOSE X'308' 3: IPL": lambda guest: guest.begin("diag308", 0, 0, 3),
            "the operator's": lambda guest: guest.qmp("system_reset"),
        }
        with Bare(self.cp, "RESET", device="nodat=on") as guest:
            for name, reset in resets.items():
                with self.subTest(name):
                    guest.store(PAGES, b"x" * 4 * PAGE)
                    for page, code in enumerate((UNUSED, POTENTIALLY, VOLATILE, NO_DAT)):
                        guest.essa(code, PAGES + page * PAGE)
                    self.cp.ctl("reclaim", "RESET", "all")
                    times = guest.words(MAILBOX + 96)[0]
                    guest.store(MAILBOX + COMMAND, bytes(8))
                    reset(guest)
                    guest.started(times)
                    guest.store(MAILBOX + COMMAND, bytes(8))
                    got = [guest.essa(GET, PAGES + page * PAGE) for page in range(4)]
                    self.assertEqual(got, [3, 0, 3, 0])
                    self.assertEqual(guest.execute("llgc", PAGES + 2 * PAGE).code, 0)
            # QEMU has no 4, load normal and dump. Should it learn to, it belongs to those above.
            self.assertEqual(guest.execute("diag308", 0, 0, 4).code, SPECIFICATION)

    def test_a_reset_of_one_cpu_leaves_them(self):
        prefix, status = 0x180000, PAGES + 4 * PAGE
        with Bare(self.cp, "TWO", cpus=2, device="nodat=on") as guest:
            def signal(order, parameter=0):
                outcome = guest.execute("signal", 0, parameter, 1, order)
                self.assertEqual((outcome.code, outcome.registers[0]), (0, 0), hex(order))

            def prefix_of_the_other():
                signal(STORE_STATUS, status)
                return struct.unpack(">I", guest.load(status + 0x118, 4))[0]

            guest.store(PAGES, b"x" * 4 * PAGE)
            for page, code in enumerate((UNUSED, POTENTIALLY, VOLATILE, NO_DAT)):
                guest.essa(code, PAGES + page * PAGE)
            self.cp.ctl("reclaim", "TWO", "all")
            signal(SET_PREFIX, prefix)
            for order, left in ((CPU_RESET, prefix), (INITIAL_CPU_RESET, 0)):
                self.assertEqual(prefix_of_the_other(), prefix)
                signal(order)
                self.assertEqual(prefix_of_the_other(), left)
                got = [guest.essa(GET, PAGES + page * PAGE) for page in range(4)]
                self.assertEqual(got, [7, 8, 0xf, 0x20], hex(order))


class Options(SystemCheck):
    """Properties of the device."""

    @classmethod
    def setUpClass(cls):
        cls.cp = cls.enterClassContext(ControlProgram())

    def test_facility_147(self):
        def facility(guest):
            guest.execute("stfle", PAGES + PAGE)
            return guest.words(PAGES + PAGE, 3)[2] >> (63 - (147 - 128)) & 1
        with Bare(self.cp) as guest:
            self.assertEqual(facility(guest), 0)
        with Bare(self.cp, device="nodat=on") as guest:
            self.assertEqual(facility(guest), 1)
            self.assertEqual(guest.essa(NO_DAT, PAGES), 0)
            self.assertEqual(guest.essa(UNUSED, PAGES) & 0x20, 0x20)
            self.assertEqual(guest.essa(GET, PAGES), 0x27)
            self.assertEqual(guest.essa(STABLE, PAGES), 0x24)
            self.assertEqual(guest.essa(GET, PAGES), 3)
            self.assertEqual(guest.execute(8, PAGES).code, SPECIFICATION)
            self.assertEqual(guest.execute(NO_DAT, 64 << 20).code, ADDRESSING)

    def test_no_dat_from_every_state(self):
        """It is kept until the page is made stable without it; without content a page is zero."""
        with Bare(self.cp, device="nodat=on") as guest:
            for code, taken, before, after in (
                    (STABLE, False, 0, 0x20), (UNUSED, False, 4, 0x20), (UNUSED, True, 4, 0x23),
                    (POTENTIALLY, False, 8, 0x20), (VOLATILE, False, 0xc, 0x20), (VOLATILE, True, 0xf, 0x23)):
                with self.subTest(code=code, taken=taken):
                    guest.store(PAGES, b"x" * PAGE)
                    guest.essa(code, PAGES)
                    if taken:
                        self.cp.ctl("reclaim", "BARE", "all")
                    self.assertEqual(guest.essa(NO_DAT, PAGES), before)
                    self.assertEqual(guest.essa(GET, PAGES), after)
                    self.assertEqual(guest.execute("llgc", PAGES).registers[1], 0 if taken else ord("x"))
                    # Each but plain stable leaves it; a page that is read is resident.
                    for change, state in ((VOLATILE, 0x2c), (POTENTIALLY, 0x28), (UNUSED, 0x24),
                                          (IF_NOT_DISCARDED, 0x20), (RESIDENT, 0x20), (STABLE, 0)):
                        guest.essa(change, PAGES)
                        self.assertEqual(guest.essa(GET, PAGES), state)

    def test_an_unused_page_may_be_no_page_at_all(self):
        with Bare(self.cp, device="unused=exception") as guest:
            guest.store(PAGES, b"x" * PAGE)
            guest.essa(UNUSED, PAGES)
            for name in ("llgc", "stc", "br"):
                self.assertEqual(guest.execute(name, PAGES).code, ADDRESSING, name)
            self.cp.ctl("reclaim", "BARE", "all")
            self.assertEqual(guest.execute("llgc", PAGES).code, ADDRESSING)
            guest.essa(STABLE, PAGES)
            self.assertEqual(guest.execute("llgc", PAGES).registers[1], 0)
        with Bare(self.cp) as guest:
            guest.store(PAGES, b"x" * PAGE)
            guest.essa(UNUSED, PAGES)
            self.assertEqual(guest.execute("llgc", PAGES).registers[1], ord("x"))
            self.cp.ctl("reclaim", "BARE", "all")
            self.assertEqual(guest.execute("llgc", PAGES).registers[1], 0)

    def test_other_values_are_refused(self):
        for device, why in (("unused=never", "'zero' or 'exception'"), ("oracle=maybe", "oracle"), ("nodat=2", "nodat")):
            with self.subTest(device), self.assertRaises(GuestDied) as died, Bare(self.cp, device=device):
                pass
            self.assertIn(why, str(died.exception))


class Assist(SystemCheck):
    """SET MEMASSIST."""

    def test_without_it_there_is_no_essa(self):
        """What the guest found when it was started it keeps until a reset; what it did not find it gets at once."""
        with ControlProgram() as cp, Bare(cp) as guest:
            def status():
                return cp.ctl("query", "memassist", "bare").splitlines()[-1].split(maxsplit=1)[1]
            self.assertEqual(status(), "ON       INACTIVE")
            guest.essa(VOLATILE, PAGES)
            self.assertEqual(status(), "ON       ACTIVE,SIMULATED")
            cp.ctl("set", "memassist", "off", "for", "bare")
            self.assertEqual(status(), "ON       ACTIVE,PENDING OFF,SIMULATED")
            self.assertEqual(guest.essa(GET, PAGES), 0x0c)
            times = guest.words(MAILBOX + 96)[0]
            guest.qmp("system_reset")
            guest.started(times)
            self.assertEqual(status(), "OFF      INACTIVE")
            for code in range(16):
                self.assertEqual(guest.execute(code, PAGES).code, OPERATION)
            cp.ctl("set", "memassist", "on", "for", "bare")
            self.eventually(lambda: not guest.execute(GET, PAGES).code, "ESSA is back")
            self.assertEqual(guest.essa(GET, PAGES), 3)


class Oracle(SystemCheck):
    """Devices must not touch what the guest has given up."""

    @classmethod
    def setUpClass(cls):
        cls.cp = cls.enterClassContext(ControlProgram())

    def give_everything_up(self, guest):
        """What a guest may do that has lost its mind: its stable pages are volatile."""
        with open(states_of(guest), "r+b") as file:
            states = bytearray(file.read())
            states[:] = (0x0c if state == 0 else state for state in states)
            file.seek(0)
            file.write(states)

    def stopped(self, guest, pattern):
        self.assertEqual(guest.process.wait(SOON), 1)
        self.assertRegex(errors_of(guest), pattern)

    def test_devices_end_a_guest_that_gave_everything_up(self):
        """Not before: the guest boots and uses its devices."""
        with Guest(self.cp, kernel=KERNEL, device="oracle=on") as guest:
            guest.run("modprobe cmm; rmmod cmm; yes | head -c 1000000 | md5sum")
            self.assertGreater(json.loads(self.cp.ctl("--json", "states", guest.name))["U"]["tot"], 10000)
            self.give_everything_up(guest)
            with self.assertRaises(GuestDied):
                guest.run("true")
            self.stopped(guest, r": LINUX01: oracle: device virtio-\w+ (reads|writes) page 0x\w+000: volatile\n")

    def test_so_do_channel_programs(self):
        # With cmma=on, Linux puts right whatever it allocates.
        with Stopped(self.cp, device="oracle=on", append="cmma=off") as guest:
            self.give_everything_up(guest)
            guest.qmp("cont")
            self.stopped(guest, r": LINUX01: oracle: device channel program (reads|writes) page 0x\w+000: volatile\n")

    def test_without_it_nothing_ends(self):
        with Guest(self.cp, kernel=KERNEL) as guest:
            self.give_everything_up(guest)
            guest.run("true")


if __name__ == "__main__":
    unittest.main()
