# SPDX-License-Identifier: GPL-2.0
"""What the lab compares, and what its results mean."""
import dataclasses
import json
import statistics
import subprocess

from coopguest import BUILD, CP_BIN

RESULTS = BUILD / "lab" / "results.json"
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
# Linux as it is; all of ours; and what is more than one answer.
BASELINES = ("paging", "essa")
ALL = "all"
TOGETHER = (ALL, "all-volatile")
# What guests do if nobody takes anything from them, and the host knows what is unused.
TRACED = ("essa", 1.0)
# Run three times where there is too little memory.
HEADLINE = (*BASELINES, ALL)
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


def trace(workload):
    """Where it is written what guests had and did."""
    return RESULTS.parent / "traces" / f"{workload}.json"


def traced():
    """Whether that is there of each workload."""
    return all(trace(workload).exists() for workload in WORKLOADS)


def simulation(*options):
    """What VMRM is worth to a thousand guests that do what these did, as text or JSON."""
    return subprocess.run([CP_BIN / "vmrm-sim", *options, *map(trace, WORKLOADS)], check=True, capture_output=True,
                          text=True).stdout


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


def conclusions(results):
    """What all of ours together is worth beside the others, as far as it was measured: a sentence each."""
    def of(factor, workload, names):
        return {name: cell for name in names if (cell := Cell.of(results, name, factor, workload)).runs}

    def time(cell):
        return modelled(cell.middle)

    faster = {}
    for workload in WORKLOADS:
        cells = of(2.0, workload, APPROACHES)
        if ALL not in cells or not set(BASELINES) & set(cells):
            continue
        ours = time(cells[ALL])
        faster[workload] = min(time(cells[name]) for name in BASELINES if name in cells) / ours
        yield f"{workload}, 2.0: {faster[workload]:.2f} times as fast as the better baseline"
        best = min((name for name in cells if name not in TOGETHER), key=lambda name: time(cells[name]))
        yield f"{workload}, 2.0: {100 * ours / time(cells[best]) - 100:+.1f} % beside the best single answer ({best})"
    if len(faster) == len(WORKLOADS):
        yield f"2.0: {statistics.geometric_mean(faster.values()):.2f} times as fast in the geometric mean of the workloads"
    for workload in WORKLOADS:
        # Whether tmem is a subset of page hinting, as was asked in 2009.
        cells = of(2.0, workload, ("volatile", "tmem", "tmem-self"))
        if len(cells) == 3:
            yield f"{workload}, 2.0: " + ", ".join(f"{APPROACHES[name]} {time(cell):.1f} s" for name, cell in cells.items())
    for workload in WORKLOADS:
        cells = of(1.0, workload, (BASELINES[0], ALL))
        if len(cells) == 2:
            plain, ours = (cells[name].middle["instructions"] for name in (BASELINES[0], ALL))
            yield f"{workload}, 1.0: {100 * ours / plain - 100:+.2f} % beside the instructions of the plain kernel"
