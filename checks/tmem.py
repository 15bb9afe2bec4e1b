# SPDX-License-Identifier: GPL-2.0
"""Transcendent memory: a guest without an operating system issues DIAGNOSE X'1F4'.

Blocks are made and read here as Documentation/tmem-hypercall.rst has them; states.S is the guest.
"""
import contextlib
import json
import struct
import tempfile
import unittest

from coopguest import ControlProgram
from states import ADDRESSING, PAGES, PRIVILEGED, PROBLEM, SPECIFICATION, Bare
from systems import PAGE, SystemCheck, start_cpd

QUERY, POOL_CREATE, POOL_DESTROY, BATCH, STATS = range(5)
PUT, GET, GET_KEEP, FLUSH_RANGE, FLUSH_OBJECT = range(1, 6)
PERSISTENT, EPHEMERAL = 1, 2
OK, MISS, REJECTED, AGAIN = range(4)
BAD_POOL, BAD_ADDR, BAD_LEN, BAD_FLAGS, BAD_OP, BAD_VERSION, EPOCH, DENIED = range(0x10, 0x18)

MEMORY = 64 << 20
BLOCK = 0xf0000
STARTS = 0x20060

HEADER = struct.Struct(">4s6H Q 40x")
ENTRY = struct.Struct(">HHI 3Q QQ II 8s")
POOL = struct.Struct(">II HH I Q 16s 24x")
RECORD = 64
COOKIE = b"a cookie"


def content(seed):
    """A page that cannot be compressed; 0: zeroes."""
    if not seed:
        return bytes(PAGE)
    words, state = [], seed
    for _ in range(PAGE // 8):
        state = (state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        words.append(state ^ state >> 29)
    return struct.pack(f">{len(words)}Q", *words)


def block(*records, magic=b"TMEM", version=1, hdr_len=64, ent_len=64, nr=None, done=0, flags=0, epoch=0):
    """A block of records, with a good header unless told otherwise."""
    header = HEADER.pack(magic, version, hdr_len, ent_len, len(records) if nr is None else nr, done, flags, epoch)
    return (header + b"".join(records)).ljust(PAGE, b"\0")


def entry(op, pool, index=0, addr=0, nr_pages=1, oid=1, flags=0):
    return ENTRY.pack(op, 0xeeee, pool, oid, 2, 3, index, addr, nr_pages, flags, COOKIE)


class Client(Bare):
    """A guest that uses transcendent memory."""

    def __init__(self, cp, name, **more):
        super().__init__(cp, name, memory=f"{MEMORY >> 20}M", **more)
        self.epoch = 0

    def call(self, function, data, instruction="tmem"):
        """Executes the DIAGNOSE; gives its return code and the block that it leaves."""
        self.store(BLOCK, data)
        outcome = self.execute(instruction, BLOCK, 0xdead, function)
        if outcome.code:
            raise AssertionError(f"program interruption {outcome.code:#x}")
        return outcome.registers[1], self.load(BLOCK)

    def query(self):
        rc, data = self.call(QUERY, block(bytes(RECORD)))
        assert rc == OK, rc
        self.epoch = HEADER.unpack_from(data)[-1]
        return data[RECORD:2 * RECORD]

    def try_create(self, kind, quota=0):
        rc, data = self.call(POOL_CREATE, block(POOL.pack(0, kind, 12, 0, 0, quota, b"a check"), epoch=self.epoch))
        return rc, POOL.unpack_from(data, RECORD)[0]

    def create(self, kind):
        rc, pool = self.try_create(kind)
        assert rc == OK, rc
        return pool

    def destroy(self, pool):
        return self.call(POOL_DESTROY, block(POOL.pack(pool, 0, 0, 0, 0, 0, b""), epoch=self.epoch))[0]

    def batch(self, *entries, **more):
        """Executes entries; gives the return code, how many are done, and the return code of each."""
        rc, data = self.call(BATCH, block(*entries, epoch=self.epoch, **more))
        rcs = []
        for place in range(len(entries)):
            fields = ENTRY.unpack_from(data, RECORD * (place + 1))
            assert fields[-1] == COOKIE
            rcs.append(fields[1])
        return rc, HEADER.unpack_from(data)[5], rcs

    def one(self, *words, **more):
        """Executes one entry; gives its return code."""
        return self.batch(entry(*words, **more))[2][0]

    def put(self, pool, index, seed, frame=PAGES):
        self.store(frame, content(seed))
        return self.one(PUT, pool, index, frame)

    def get(self, pool, index, op=GET):
        """Gets a page; gives its content, or the return code, when the frame must be as it was."""
        self.store(PAGES, content(999))
        rc = self.one(op, pool, index, PAGES)
        data = self.load(PAGES)
        if rc == OK:
            return data
        assert data == content(999), "a get that failed changed the frame"
        return rc

    def pages(self, pool):
        rc, data = self.call(STATS, block(struct.pack(">I", pool).ljust(RECORD, b"\0"), epoch=self.epoch))
        assert rc == OK, rc
        return struct.unpack_from(">Q", data, RECORD + 8)[0]

    def command(self, text):
        """A CP command; its return code and response."""
        self.store(BLOCK, text.encode("cp037"))
        self.store(BLOCK + PAGE, bytes(PAGE))
        outcome = self.execute("command", BLOCK, BLOCK + PAGE, 0x40000000 | len(text), PAGE)
        # X'15' ends a line.
        response = self.load(BLOCK + PAGE, outcome.registers[3]).decode("cp037").replace("\x85", "\n")
        return outcome.registers[2], response


@contextlib.contextmanager
def system(*options):
    """A Control Program whose cpd has options."""
    with tempfile.TemporaryDirectory(prefix="coopmem-tmem-") as folder:
        path = f"{folder}/cp.sock"
        with start_cpd(path, *options) as cpd:
            try:
                cpd.stdout.readline()
                yield ControlProgram(path)
            finally:
                cpd.terminate()


class Tmem(SystemCheck):
    """Two guests whose pages all fit."""

    @classmethod
    def setUpClass(cls):
        cls.cp = cls.enterClassContext(system("--tmem", "64M"))
        cls.first = cls.enterClassContext(Client(cls.cp, "FIRST"))
        cls.second = cls.enterClassContext(Client(cls.cp, "SECOND"))

    def setUp(self):
        self.cp.ctl("tmem", "destroy", "all", "--force")
        for guest in (self.first, self.second):
            guest.query()
        self.ephemeral = self.first.create(EPHEMERAL)
        self.persistent = self.first.create(PERSISTENT)
        self.addCleanup(self.cp.ctl, "tmem", "thaw", "all")
        self.addCleanup(self.cp.ctl, "tmem", "set", "cap", "all", "none")

    def listed(self, *words):
        return json.loads(self.cp.ctl("--json", "tmem", "list", *words))

    def test_it_is_found_by_asking(self):
        self.assertEqual(self.first.command("QUERY TMEM"), (0, "TMEM: DIAGNOSE 01F4 VERSION 1\n"))
        limits = struct.unpack_from(">4H2I", self.first.query())
        self.assertEqual(limits, (1, 1, 63, 16, 256, 1))
        self.assertNotEqual(self.first.epoch, self.second.epoch)

    def test_without_it_code_and_command_are_unknown(self):
        with system("--tmem", "off") as cp, Client(cp, "WITHOUT") as guest:
            self.assertEqual(guest.command("QUERY TMEM"), (45, "HCPCQU045E TMEM not logged on\n"))
            guest.store(BLOCK, block(bytes(RECORD)))
            self.assertEqual(guest.execute("tmem", BLOCK, 0, QUERY).code, SPECIFICATION)
            self.one_line(cp.ctl("tmem", "list", status=126), "--tmem off")

    def test_exceptions(self):
        guest = self.first
        guest.store(BLOCK, block(bytes(RECORD)))

        def code(*registers, name="tmem", **more):
            return guest.execute(name, *registers, **more).code
        self.assertEqual(code(BLOCK, 0, QUERY, mask=PROBLEM), PRIVILEGED)
        self.assertEqual(code(0, BLOCK, QUERY, name="tmem_odd"), SPECIFICATION)
        for address in (BLOCK + 8, BLOCK + PAGE // 2):
            self.assertEqual(code(address, 0, QUERY), SPECIFICATION, "the block crosses a page")
        for function in (STATS + 1, 1 << 32, (1 << 64) - 1):
            self.assertEqual(code(BLOCK, 0, function), SPECIFICATION)
        for address in (MEMORY, 1 << 40, (1 << 64) - PAGE):
            self.assertEqual(code(address, 0, QUERY), ADDRESSING)

    def test_a_page_comes_back_once(self):
        for pool in (self.ephemeral, self.persistent):
            for seed in (0, 1):
                self.assertEqual(self.first.put(pool, 5, seed), OK)
                self.assertEqual(self.first.get(pool, 5, GET_KEEP), content(seed))
                self.assertEqual(self.first.get(pool, 5), content(seed))
                self.assertEqual(self.first.get(pool, 5), MISS)

    def test_what_is_got_is_what_is_executed(self):
        """A CPU that has executed instructions in a frame executes the new ones after a get."""
        def program(number):
            return bytes.fromhex(f"a739{number:04x}0a00")  # lghi %r3,number; svc 0

        old, new = PAGES, PAGES + PAGE
        self.first.store(old, program(1))
        self.first.store(new, program(2))
        self.assertEqual(self.first.execute("br", old).registers[1], 1)
        self.assertEqual(self.first.one(PUT, self.ephemeral, 0, new), OK)
        self.assertEqual(self.first.one(GET, self.ephemeral, 0, old), OK)
        self.assertEqual(self.first.execute("br", old).registers[1], 2)

    def test_large_entries(self):
        guest, data = self.first, b"".join(map(content, range(256)))
        guest.store(PAGES, data)
        target = PAGES + len(data)
        self.assertEqual(guest.one(PUT, self.ephemeral, 0, PAGES, 256), OK)
        self.assertEqual(guest.one(FLUSH_RANGE, self.ephemeral, 17), OK)
        guest.store(target, b"x" * len(data))
        self.assertEqual(guest.one(GET, self.ephemeral, 0, target, 256), MISS)
        self.assertEqual(guest.load(target, len(data)), b"x" * len(data))
        self.assertEqual(guest.one(GET, self.ephemeral, 18, target, 238), OK)
        self.assertEqual(guest.load(target, 238 * PAGE), data[18 * PAGE:])
        # More than is done in one call.
        entries = [entry(PUT, self.ephemeral, 1000 * n, PAGES, 256) for n in range(5)]
        done, calls = 0, 0
        while done < len(entries):
            rc, done, _ = guest.batch(*entries, done=done)
            self.assertEqual(rc, OK if done == len(entries) else AGAIN)
            calls += 1
        self.assertEqual((calls, guest.pages(self.ephemeral)), (3, 5 * 256))
        self.assertEqual(self.first.one(FLUSH_OBJECT, self.ephemeral, nr_pages=0), AGAIN)

    def test_flush(self):
        guest = self.first
        for index in (0, 1, 2, 2 ** 64 - 1):
            self.assertEqual(guest.put(self.persistent, index, 1), OK)
        self.assertEqual(guest.one(FLUSH_RANGE, self.persistent, 1), OK)
        self.assertEqual([guest.get(self.persistent, index) == MISS for index in (0, 1, 2)], [False, True, False])
        self.assertEqual(guest.one(FLUSH_RANGE, self.persistent, 3, nr_pages=2 ** 32 - 1), OK)
        self.assertEqual(guest.pages(self.persistent), 0)
        self.assertEqual(guest.put(self.persistent, 0, 1), OK)
        self.assertEqual(guest.one(FLUSH_OBJECT, self.persistent, nr_pages=0, oid=9), OK)
        self.assertEqual(guest.pages(self.persistent), 1)
        self.assertEqual(guest.one(FLUSH_OBJECT, self.persistent, nr_pages=0), OK)
        self.assertEqual(guest.pages(self.persistent), 0)

    def test_bad_blocks(self):
        guest, good = self.first, entry(PUT, self.ephemeral, 0, PAGES)
        for wanted, change in (
                (BAD_VERSION, {"magic": b"XXXX"}), (BAD_VERSION, {"version": 0}), (BAD_VERSION, {"version": 2}),
                (BAD_LEN, {"hdr_len": 0}), (BAD_LEN, {"ent_len": 128}), (BAD_LEN, {"nr": 0}), (BAD_LEN, {"nr": 64}),
                (BAD_LEN, {"nr": 0xffff}), (BAD_LEN, {"done": 1}), (BAD_FLAGS, {"flags": 2}),
                (EPOCH, {"epoch": guest.epoch + 1}), (EPOCH, {"epoch": self.second.epoch}), (EPOCH, {"epoch": 0})):
            with self.subTest(change):
                data = block(good, **{"epoch": guest.epoch, **change})
                self.assertEqual(guest.call(BATCH, data), (wanted, data))
                self.assertEqual(guest.pages(self.ephemeral), 0)

    def test_bad_entries(self):
        guest, pool = self.first, self.persistent
        for wanted, change in (
                (BAD_ADDR, {"addr": PAGES + 8}), (BAD_ADDR, {"addr": MEMORY}), (BAD_ADDR, {"addr": 2 ** 64 - PAGE}),
                (BAD_ADDR, {"addr": MEMORY - PAGE, "nr_pages": 2}), (BAD_LEN, {"nr_pages": 257}),
                (BAD_LEN, {"nr_pages": 2 ** 32 - 1}), (BAD_FLAGS, {"flags": 1})):
            with self.subTest(change):
                words = {"pool": pool, "index": 0, "addr": PAGES, "nr_pages": 1, **change}
                self.assertEqual(guest.put(pool, 0, 1), OK)
                self.assertEqual(guest.one(GET, **words), wanted)
                self.assertEqual(guest.pages(pool), 1)
                self.assertEqual(guest.one(PUT, **words), wanted)
                self.assertEqual(guest.pages(pool), 0, "a put that fails leaves nothing")
        self.assertEqual(guest.one(PUT, pool, 2 ** 64 - 1, PAGES, 2), BAD_LEN)
        for op in (0, 6, 0xffff):
            self.assertEqual(guest.one(op, pool, 0, PAGES), BAD_OP)
        for other in (0, pool + 1, pool ^ 0x10000, 2 ** 32 - 1):
            self.assertEqual(guest.one(PUT, other, 0, PAGES), BAD_POOL)
        # One that fails does not keep the others from being executed, unless that is wanted.
        entries = [entry(PUT, pool, 0, PAGES), entry(GET, pool, 9, PAGES), entry(PUT, pool, 1, PAGES)]
        self.assertEqual(guest.batch(*entries), (OK, 3, [OK, MISS, OK]))
        self.assertEqual(guest.batch(*entries, flags=1), (MISS, 1, [OK, MISS, 0xeeee]))

    def test_pools(self):
        guest = self.first
        self.assertEqual(guest.try_create(PERSISTENT | EPHEMERAL)[0], BAD_FLAGS)
        pools = [guest.create(EPHEMERAL) for _ in range(14)]
        self.assertEqual(guest.try_create(EPHEMERAL)[0], REJECTED)
        self.assertEqual(guest.put(pools[0], 0, 1), OK)
        self.assertEqual(guest.destroy(pools[0]), OK)
        self.assertEqual(guest.destroy(pools[0]), BAD_POOL)
        self.assertEqual(guest.get(guest.create(EPHEMERAL), 0), MISS)
        self.assertEqual(guest.get(pools[0], 0), BAD_POOL)

    def test_guests_have_nothing_to_do_with_each_other(self):
        others = [self.second.create(EPHEMERAL) for _ in range(2)]
        self.assertEqual(self.first.put(self.ephemeral, 0, 1), OK)
        for pool in (self.ephemeral, *others):
            self.assertIn(self.second.get(pool, 0), (MISS, BAD_POOL))
            self.second.one(FLUSH_OBJECT, pool, nr_pages=0)
            self.second.destroy(pool)
        self.assertEqual(self.first.get(self.ephemeral, 0), content(1))

    def test_freeze_and_thaw(self):
        guest = self.first
        for index in range(3):
            self.assertEqual(guest.put(self.persistent, index, index), OK)
        self.cp.ctl("tmem", "freeze", "first")
        self.assertEqual(guest.put(self.persistent, 0, 7), REJECTED)
        self.assertEqual(guest.get(self.persistent, 0), MISS)
        self.assertEqual(guest.get(self.persistent, 1), content(1))
        self.assertEqual(guest.one(FLUSH_RANGE, self.persistent, 2), OK)
        self.assertEqual(guest.pages(self.persistent), 0)
        self.assertTrue(self.listed("first")["guests"][0]["settings"]["frozen"])
        self.assertEqual(self.second.put(self.second.create(EPHEMERAL), 0, 1), OK)
        self.cp.ctl("tmem", "thaw", "first")
        self.assertEqual(guest.put(self.persistent, 0, 7), OK)

    def test_cap(self):
        guest = self.first
        for index in range(20):
            self.assertEqual(guest.put(self.ephemeral, index, index + 1), OK)
        self.cp.ctl("tmem", "set", "cap", "first", "40K")
        self.assertEqual(guest.pages(self.ephemeral), 9)
        self.assertEqual(guest.put(self.ephemeral, 20, 21), OK)
        self.assertEqual(guest.get(self.ephemeral, 11), MISS, "the oldest one went")
        self.assertEqual(guest.get(self.ephemeral, 12), content(13))
        for index in range(9):
            self.assertEqual(guest.put(self.persistent, index, 1), OK)
        self.assertEqual(guest.put(self.persistent, 9, 1), REJECTED)
        self.assertEqual(guest.pages(self.ephemeral), 0)
        self.cp.ctl("tmem", "set", "cap", "first", "0")
        self.assertEqual(guest.try_create(PERSISTENT)[0], DENIED)

    def test_flush_and_destroy_by_the_operator(self):
        guest = self.first
        self.assertEqual(guest.put(self.ephemeral, 0, 1), OK)
        self.assertEqual(guest.put(self.persistent, 0, 1), OK)
        name = f"{self.persistent:08x}"
        for words in (("flush", "first"), ("destroy", "all"), ("flush", "first", "--pool", name)):
            said = self.cp.ctl("tmem", *words, status=126)
            self.one_line(said, f"pool {name} of FIRST", "1 pages", "--force")
        self.assertEqual((guest.pages(self.ephemeral), guest.pages(self.persistent)), (1, 1))
        self.assertEqual(int(self.cp.ctl("tmem", "freeable", "first")), 2)
        self.assertEqual(self.cp.ctl("tmem", "flush", "first", "--ephemeral"), "1 pages are gone\n")
        self.assertEqual(self.cp.ctl("tmem", "flush", "first", "--force"), "1 pages are gone\n")
        self.assertEqual(guest.get(self.persistent, 0), MISS)
        self.assertEqual(guest.put(self.persistent, 0, 1), OK)
        self.cp.ctl("tmem", "destroy", "first", "--pool", name, "--force")
        self.assertEqual(guest.get(self.persistent, 0), BAD_POOL)
        self.assertEqual(guest.get(self.ephemeral, 0), MISS)
        self.assertEqual(self.listed()["used"], 0)

    def test_compression(self):
        guest = self.first
        self.assertEqual(guest.one(PUT, self.ephemeral, 0, 0, 2), OK)

        def frames():
            guest.store(PAGES, b"text " * (100 * PAGE // 5) + bytes(100 * PAGE % 5))
            self.assertEqual(guest.one(PUT, self.persistent, 0, PAGES, 100), OK)
            self.assertEqual(guest.one(GET_KEEP, self.persistent, 0, PAGES + 100 * PAGE, 100), OK)
            self.assertEqual(guest.load(PAGES, 100 * PAGE), guest.load(PAGES + 100 * PAGE, 100 * PAGE))
            return self.listed("first")["guests"][0]["pools"][1]["frames"]
        self.assertLess(frames(), 20)
        self.cp.ctl("tmem", "set", "compress", "first", "off")
        self.addCleanup(self.cp.ctl, "tmem", "set", "compress", "first", "on")
        self.assertGreater(frames(), 100)


class Lives(SystemCheck):
    """What ends with a guest's life, and what with want of room."""

    def test_a_reset_leaves_nothing(self):
        with system("--tmem", "64M") as cp, Client(cp, "RESET") as guest:
            resets = {"load normal": lambda: guest.begin("diag308", 0, 0, 1),
                      "the operator's": lambda: guest.qmp("system_reset")}
            for name, reset in resets.items():
                with self.subTest(name):
                    guest.query()
                    pools = [guest.create(EPHEMERAL), guest.create(PERSISTENT)]
                    for pool in pools:
                        self.assertEqual(guest.put(pool, 0, 1), OK)
                    before, times = guest.epoch, guest.words(STARTS)[0]
                    reset()
                    guest.started(times)
                    guest.store(0x20000, bytes(8))
                    self.assertEqual(guest.call(BATCH, block(entry(GET, pools[0]), epoch=before))[0], EPOCH)
                    guest.query()
                    self.assertNotEqual(guest.epoch, before)
                    self.assertEqual([guest.get(pool, 0) for pool in pools], [BAD_POOL, BAD_POOL])
                    listed = json.loads(cp.ctl("--json", "tmem", "list"))
                    self.assertEqual((listed["used"], listed["guests"][0]["pools"]), (0, []))

    def test_a_logoff_leaves_nothing(self):
        with system("--tmem", "64M") as cp:
            with Client(cp, "GONE") as guest:
                guest.query()
                self.assertEqual(guest.put(guest.create(PERSISTENT), 0, 1), OK)
                self.assertEqual(json.loads(cp.ctl("--json", "tmem", "list"))["used"], 2)
            self.eventually(lambda: "GONE" not in cp.ctl("query", "names"), "it is logged off")
            self.assertEqual(json.loads(cp.ctl("--json", "tmem", "list")),
                             {"guests": [], "limit": 16384, "used": 0})

    def test_who_has_more_than_its_share_loses_pages(self):
        with system("--tmem", "360K") as cp, Client(cp, "RICH") as rich, Client(cp, "POOR") as poor:
            pools = {}
            for guest in (rich, poor):
                guest.query()
                pools[guest] = guest.create(EPHEMERAL)

            def fill(guest, pages):
                for index in range(pages):
                    self.assertEqual(guest.put(pools[guest], index, index + 1), OK)
                return rich.pages(pools[rich]), poor.pages(pools[poor])
            self.assertEqual(fill(rich, 100), (85, 0))
            self.assertEqual(fill(poor, 20), (65, 20))
            self.assertIn(fill(poor, 100), ((42, 43), (43, 42)))
            cp.ctl("tmem", "set", "weight", "rich", 300)
            first, second = fill(rich, 100)
            self.assertEqual(first + second, 85)
            self.assertAlmostEqual(first, 3 * second, delta=4)
            # What nobody may take away is a share at most.
            swap = poor.create(PERSISTENT)
            rcs = [poor.put(swap, index, index + 1) for index in range(30)]
            self.assertEqual(rcs, [OK] * 21 + [REJECTED] * 9)
            self.assertEqual([poor.get(swap, index) == content(index + 1) for index in range(21)], [True] * 21)
            self.assertEqual(rich.get(pools[rich], 99), content(100))


if __name__ == "__main__":
    unittest.main()
