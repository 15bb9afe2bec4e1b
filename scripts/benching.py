# SPDX-License-Identifier: GPL-2.0
"""What the benches share: they are made of parts, and each part adds to what the others have found."""
import argparse
import contextlib
import json
import os
import pathlib
import subprocess
import tempfile
import threading

from coopguest import BUILD, TOP

TICK_MS = 1000 // os.sysconf("SC_CLK_TCK")


def say(*lines):
    print(*lines, sep="\n", flush=True)


@contextlib.contextmanager
def image(size, *make):
    """An empty disk image, with a file system or swap area made by a program."""
    with tempfile.NamedTemporaryFile(prefix="coopmem-disk-") as disk:
        disk.truncate(size)
        subprocess.run([*make, disk.name], check=True, capture_output=True,
                       env={**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"})
        yield disk.name


@contextlib.contextmanager
def sampling(sample, interval):
    """Gives a list, to which a thread adds samples as long as the block runs."""
    samples, stop = [], threading.Event()

    def work():
        while not stop.wait(interval):
            samples.append(sample())

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield samples
    finally:
        stop.set()
        thread.join()


def cpu_ms(process):
    """What a process has used of the host's CPUs, in milliseconds."""
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_MS


def run(description, name, parts):
    """Does the parts that the command line names, or all, and writes what they report to build/bench/NAME.json."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("part", nargs="*", choices=[[], *parts], metavar="PART",
                        help=f"only these of {', '.join(parts)}; the others stay as they were measured last")
    chosen = parser.parse_args().part
    out = BUILD / "bench" / f"{name}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    if not chosen:
        out.unlink(missing_ok=True)
    for part in chosen or parts:
        found = {}
        parts[part](found)
        report = json.loads(out.read_text()) if out.exists() else {}
        out.write_text(json.dumps(report | found, indent=2) + "\n")
    print(f"\n{os.path.relpath(out, TOP)}")
