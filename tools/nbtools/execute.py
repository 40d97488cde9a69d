"""Running a notebook in a fresh kernel, with progress, and measuring what it takes."""

import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbconvert.preprocessors import ClearOutputPreprocessor
from nbformat import NotebookNode
from tqdm import tqdm

from nbtools.project import Problem


@dataclass(frozen=True)
class Measured:
    """What a run took: wall seconds, and the most memory that the kernel and its processes held at once."""

    seconds: float
    peak_memory_mb: float

    def __str__(self) -> str:
        return f"{self.seconds:.0f} s, {self.peak_memory_mb:,.0f} MB of memory at most"


def execute(nb: NotebookNode, folder: Path, name: str = "notebook") -> Measured:
    """Runs all cells in a fresh kernel of this Python that works in `folder`, and puts the outputs in `nb`.

    Args:
        nb: the notebook; its old outputs are replaced.
        folder: the kernel's working directory.
        name: for the progress line.

    Raises:
        Problem: at the first cell that fails. The outputs up to there are in `nb`.
    """
    ClearOutputPreprocessor().preprocess(nb, {})
    begin, current, done = time.monotonic(), 0, threading.Event()
    every = 0.5 if sys.stderr.isatty() else 10  # seconds
    progress = tqdm(total=len(nb.cells), desc=name, unit=" cells", mininterval=every, leave=False, delay=every)

    def started(cell: NotebookNode, cell_index: int) -> None:
        nonlocal current
        current = cell_index + 1
        progress.update()

    client = NotebookClient(
        nb,
        kernel_name="python3",  # an environment's own is found before the user's
        timeout=None,
        record_timing=False,
        coalesce_streams=True,
        extra_arguments=["--IPKernelApp.log_level=ERROR"],
        resources={"metadata": {"path": str(folder)}},
        on_cell_start=started,
    )
    with progress, ThreadPoolExecutor() as pool:
        memory = pool.submit(_peak_memory, done)
        try:
            client.execute(env=os.environ | {"MMKIT_STATIC": "1"})  # what is stored has no kernel
        except CellExecutionError as error:
            reason = f"{error.ename}: {(error.evalue.strip().splitlines() or [''])[0]}"
            raise Problem(f"cell {current} fails: {reason}") from error
        except DeadKernelError:
            raise Problem(f"cell {current} fails: the kernel died (out of memory, perhaps)") from None
        finally:
            done.set()
    return Measured(time.monotonic() - begin, memory.result() / 2**20)


def _peak_memory(done: threading.Event) -> int:
    """The most memory that all processes which this one started hold at once, in bytes, seen five times a second."""
    me, peak = psutil.Process(), 0
    while not done.wait(0.2):
        with suppress(psutil.Error):  # one that has just ended
            peak = max(peak, sum(process.memory_info().rss for process in me.children(recursive=True)))
    return peak
