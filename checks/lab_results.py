# SPDX-License-Identifier: GPL-2.0
"""What the lab makes of its counts."""
import unittest

import lab


def results(**times):
    """Two runs a cell at 2.0; each time is that of the first, in seconds of 10^9 instructions; the second is 1 % longer."""
    return {lab.key(name, 2.0, workload): [
        {"instructions": seconds * longer * 1e9 // 1, "page_ins": 0, "disk_reads": 0} for longer in (1, 1.01)]
        for workload in lab.WORKLOADS for name, seconds in times.items()}


class Lab(unittest.TestCase):
    """No guests: only what is said of them."""

    def test_modelled_time(self):
        found = {"instructions": 3_000_000_000, "page_ins": 1500, "disk_reads": 500}
        self.assertAlmostEqual(lab.modelled(found), 5)
        self.assertAlmostEqual(lab.modelled(found, 0.2), 3.4)

    def test_spread(self):
        def shown(*seconds):
            return lab.Cell([{"instructions": each * 1e9, "page_ins": 0, "disk_reads": 0} for each in seconds]).shown_spread
        self.assertEqual(shown(100), "")
        self.assertEqual(shown(100, 104, 102), "3.9%")
        self.assertEqual(shown(100, 106, 102), "void")

    def test_conclusions(self):
        said = list(lab.conclusions(results(paging=30, essa=20, tmem=8, all=10)))
        self.assertIn("files, 2.0: 2.00 times as fast as the better baseline", said)
        self.assertIn("database, 2.0: +25.0 % beside the best single answer (tmem)", said)
        self.assertIn("2.0: 2.00 times as fast in the geometric mean of the workloads", said)
        self.assertEqual(len(said), 7)

    def test_what_was_asked_in_2009(self):
        question = {"volatile": 30, "tmem": 20, "tmem-self": 10}
        self.assertEqual(list(lab.conclusions(results(**question)))[0],
                         "files, 2.0: unused hints and volatile page cache 30.0 s, tmem 20.0 s, tmem and self-ballooning 10.0 s")
        del question["tmem"]
        self.assertEqual(list(lab.conclusions(results(**question))), [])

    def test_nothing_is_said_of_what_was_not_measured(self):
        self.assertEqual(list(lab.conclusions({})), [])
        self.assertEqual(list(lab.conclusions(results(paging=30, tmem=8))), [])


if __name__ == "__main__":
    unittest.main()
