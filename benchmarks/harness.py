"""How we measure: every measurement in a process of its own, the contestants in turn, medians and spread."""

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("tensorflow", "keras", "numpy", "torch")

Case = dict[str, Any]  # what a worker is to measure: its arguments
Sample = dict[str, Any]  # what it measured


def in_turn(
    part: str, cases: dict[str, Case], rounds: int, work: Callable[[str, Case], Sample] | None = None
) -> dict[str, list[Sample]]:
    """Measures every case once a round: A, B, C, A, B, C … A slow minute of the machine then strikes all of them.

    Args:
        part: the module of this package whose `measure(**case)` does it.
        cases: from a case's name to its arguments.
        rounds: how many times.
        work: measures one case; by default in a fresh process.

    Returns:
        From name to one sample a round.
    """
    work = work or in_fresh_process
    samples: dict[str, list[Sample]] = {name: [] for name in cases}
    for turn in range(rounds):
        for name, case in cases.items():
            start = time.monotonic()
            samples[name].append(work(part, case))
            print(f"  round {turn + 1} of {rounds}  {time.monotonic() - start:4.0f} s  {name}", flush=True)
    return samples


def in_fresh_process(part: str, case: Case) -> Sample:
    """What `measure(**case)` of module `part` returns, from a process of its own.

    Raises:
        RuntimeError: with the end of what the process said, if it failed.
    """
    command = [sys.executable, "-m", "benchmarks.worker", part, json.dumps(case)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"measuring {part} {case} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def cpu_seconds() -> float:
    """Of all threads of this process, and of its children that are still at work."""
    children = psutil.Process().children(recursive=True)
    return time.process_time() + sum(sum(child.cpu_times()[:2]) for child in children)


class Clock:
    """Wall and CPU seconds of the `with` block."""

    def __enter__(self) -> "Clock":
        self.wall, self.cpu = -time.perf_counter(), -cpu_seconds()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall += time.perf_counter()
        self.cpu += cpu_seconds()


def peak_memory() -> float:
    """The largest memory that this process has held so far, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def threads() -> int:
    """How many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> dict[str, str]:
    """The machine in general words: no name, no path."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    flags = Path("/proc/cpuinfo").read_text().split() if Path("/proc/cpuinfo").exists() else []
    wide = next((f" with {name}" for flag, name in (("avx512f", "AVX-512"), ("avx2", "AVX2")) if flag in flags), "")
    about = {
        "processor": f"{threads()} cores, {platform.machine()}{wide}, no accelerator used",
        "memory": f"{memory:.0f} GiB",
        "system": platform.system(),
        "python": platform.python_version(),
    }
    for package in PACKAGES:
        try:
            about[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            about[package] = "not installed"
    return about


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """The median, and the quartiles below and above it (the interquartile range).

    Raises:
        ValueError: if there are no values.
    """
    if not values:
        raise ValueError("no values: measure at least one round")
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return middle, low, high


def show(values: Sequence[float], digits: int = 1) -> str:
    """`median [quartile, quartile]`."""
    return "{} [{}, {}]".format(*(f"{value:,.{digits}f}" for value in spread(values)))


def ratios(first: Sequence[float], second: Sequence[float]) -> list[float]:
    """One ratio a round, of two measurements taken shortly after one another."""
    return [a / b for a, b in zip(first, second)]


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """How y grows with x: the exponent p of the power law y = c x^p that fits best (least squares of the logarithms).

    Raises:
        ValueError: if there are fewer than two points, or one is not positive.
    """
    import numpy as np

    if len(x) < 2 or len(x) != len(y) or min(*x, *y) <= 0:
        raise ValueError(f"a slope wants two or more points, all positive: got {list(x)}, {list(y)}")
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are right-aligned."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def put_between(text: str, name: str, body: str) -> str:
    """`text` with `body` between the markers of `name`.

    Raises:
        ValueError: if the markers are not there, once each and in order.
    """
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"the text must hold {begin.strip()!r} and then {end!r}, once each")
    before, rest = text.split(begin)
    return before + begin + body.strip() + "\n" + end + rest.split(end)[1]
