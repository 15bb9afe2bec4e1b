# SPDX-License-Identifier: GPL-2.0
"""What the lab compares, and what its results mean."""
import dataclasses
import json
import pathlib
import statistics

RESULTS = pathlib.Path(__file__).resolve().parent.parent / "build" / "lab" / "results.json"
GUESTS = 3
# Of each guest, in MiB.
MEMORY = 160
APPROACHES = {
    "paging": "host paging alone, ESSA off",
    "essa": "host paging, unused hints as C gives them",
    "c-cmm": "the C cmm and VMRM",
    "cmm": "cmm and VMRM",
    "unused": "unused hints, lazy",
    "volatile": "unused hints and volatile page cache",
    "tmem": "tmem",
    "tmem-self": "tmem and self-ballooning",
    "all": "unused hints, tmem, self-ballooning, VMRM",
    "all-volatile": "these and volatile page cache",
    "virtio": "virtio-balloon and VMRM",
    "reporting": "free page reporting",
}
WORKLOADS = {"files": "sources are searched again and again", "database": "entries of a database are looked up and changed",
             "memory": "memory comes and goes"}
NANOSECOND = 1e-9
# What a page-in or a disk read takes, in milliseconds; the one in the middle is the headline's.
LATENCIES = (0.2, 1, 5)
# What no two runs of a cell may differ by, in percent.
SPREAD = 5


def load():
    """All results so far: the runs of each cell."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def key(approach, factor, workload):
    return f"{approach} {factor} {workload}"


def title(workload, factor):
    return (f"{WORKLOADS[workload].capitalize()}: {GUESTS} guests of {MEMORY} MiB in {int(GUESTS * MEMORY / factor)} MiB "
            f"({factor})")


def modelled(found, latency=LATENCIES[1]):
    """Seconds that the work would take if an instruction took a nanosecond and a page-in or disk read so many milliseconds."""
    return found["instructions"] * NANOSECOND + (found["page_ins"] + found["disk_reads"]) * latency / 1000


@dataclasses.dataclass
class Cell:
    """The runs of one approach, overcommit and workload."""
    runs: list

    @classmethod
    def of(cls, results, approach, factor, workload):
        return cls(results.get(key(approach, factor, workload), []))

    @property
    def middle(self):
        """The run in the middle, by modelled time."""
        runs = sorted(self.runs, key=modelled)
        return runs[(len(runs) - 1) // 2]

    @property
    def spread(self):
        """What the runs differ by, in percent of their median."""
        times = [modelled(run) for run in self.runs]
        return 100 * (max(times) - min(times)) / statistics.median(times)

    @property
    def shown_spread(self):
        if len(self.runs) == 1:
            return ""
        return f"{self.spread:.1f}%" if self.spread <= SPREAD else "void"
