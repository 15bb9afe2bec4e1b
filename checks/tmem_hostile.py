# SPDX-License-Identifier: GPL-2.0
"""A hostile guest asks for transcendent memory, while another one uses it.

HOSTILE_BLOCKS= and HOSTILE_SEED= say how many blocks, and which.
"""
import os
import re
import threading
import unittest

from coopguest import megabytes
from systems import SystemCheck
from tmem import EPHEMERAL, GET, GET_KEEP, OK, PERSISTENT, Client, content, system

BLOCKS = int(os.environ.get("HOSTILE_BLOCKS", "100000"))
SEED = int(os.environ.get("HOSTILE_SEED", "1"))


class Hostile(SystemCheck):
    """selftests/tmem_hostile in one guest; it knows what is due for each block, and what is in each of its frames."""

    def use(self, victim, pools, end):
        """Puts pages and gets them, until it is time to end; gives how many."""
        pages = 0
        while not end.is_set():
            for pool in pools:
                for index in range(8):
                    self.assertEqual(victim.put(pool, index, pages + index), OK)
                for index in range(8):
                    self.assertEqual(victim.get(pool, index, GET_KEEP if index % 2 else GET), content(pages + index))
                pages += 8
        return pages

    def test_another_guest_lives_on(self):
        cp = self.enterContext(system("--tmem", "64M"))
        victim = self.enterContext(Client(cp, "VICTIM"))
        victim.query()
        # Numbers that mean nothing to the other one, and such as it has, too.
        pools = [victim.create(kind) for kind in (PERSISTENT, EPHEMERAL) * 4]
        hostile = self.boot(cp, "HOSTILE", memory="256M", cpus=2, timeout=900)
        end, failed, pages = threading.Event(), [], []

        def use():
            try:
                pages.append(self.use(victim, pools, end))
            except BaseException as error:  # pylint: disable=broad-exception-caught
                failed.append(error)
        user = threading.Thread(target=use)
        user.start()
        try:
            said = hostile.run(f"insmod /selftests/tmem_hostile/tmem_hostile.ko storage={megabytes(hostile.memory)} "
                               f"blocks={BLOCKS} seed={SEED} 2>&1; echo status $?; dmesg | grep tmem_hostile:")
        finally:
            end.set()
            user.join()
        self.assertIn("status 0", said, said)
        done = re.search(r"tmem_hostile: (\d+) blocks, all as they must be", said)
        self.assertGreaterEqual(int(done[1]), BLOCKS, said)
        self.assertEqual(failed, [])
        self.assertGreater(pages[0], 1000)
        self.assertEqual(hostile.run("rmmod tmem_hostile && vmcp query userid").split()[0], "HOSTILE")
        self.assertIn("VICTIM", cp.ctl("query", "names"))


if __name__ == "__main__":
    unittest.main()
