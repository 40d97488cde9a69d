"""(e) Seconds that an import takes."""

import importlib
import time
from pathlib import Path

from benchmarks import harness

MODULES = ("tensorflow", "keras", "mmkit", "mmkit.layers")


def run(quick: bool, folder: Path) -> dict:
    """Imports each module in a process of its own, in turn."""
    cases = {f"import {module}": {"module": module} for module in MODULES}
    harness.in_turn("imports", cases, 0 if quick else 1)  # what the disk holds, it then holds in memory for all
    return {"samples": harness.in_turn("imports", cases, 1 if quick else 5)}


def measure(module: str) -> dict:
    """Seconds, CPU seconds, and MB that the process has grown by at its peak."""
    start, cpu, wall = harness.peak_memory(), time.process_time(), time.perf_counter()
    importlib.import_module(module)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"s": wall, "cpu_s": cpu, "memory_mb": harness.peak_memory() - start}


def report(found: dict) -> str:
    """A row a module; the ratio is to `import tensorflow` of the same round."""
    samples = {name: {key: [one[key] for one in those] for key in those[0]} for name, those in found["samples"].items()}
    theirs = samples[f"import {MODULES[0]}"]["s"]
    rows = [
        [
            f"`{name}`",
            harness.show(mine["s"], 2),
            harness.show(mine["cpu_s"], 2),
            harness.show(mine["memory_mb"], 0),
            harness.show(harness.ratios(mine["s"], theirs), 2),
        ]
        for name, mine in samples.items()
    ]
    return harness.table(["in a fresh process", "s", "CPU s", "peak MB", "× import tensorflow"], rows)
