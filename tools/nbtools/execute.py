"""Running a notebook in a fresh kernel, with progress, and measuring what it takes."""

import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbconvert import HTMLExporter
from nbformat import NotebookNode
from tqdm import tqdm
from traitlets import default

# The page shows solutions collapsed, as JupyterLab does.
TEMPLATE = """
{%- extends 'lab/index.html.j2' -%}
{%- block input_group -%}
{%- if 'solution' in cell.metadata.get('tags', []) -%}
<details><summary>Solution</summary>{{ super() }}</details>
{%- else -%}{{ super() }}{%- endif -%}
{%- endblock -%}
"""


class CellFailed(Exception):
    """A cell raised an error, ran out of time or killed the kernel. `cell` counts from 1, over all cells."""

    def __init__(self, cell: int, reason: str) -> None:
        super().__init__(f"cell {cell} fails: {reason}")
        self.cell = cell


@dataclass(frozen=True)
class Measured:
    """What a run took: wall seconds, and the most memory that the kernel and its processes held at once."""

    seconds: float
    peak_memory_mb: float


class _ThisPython(AsyncKernelManager):
    """Starts kernels with the Python that runs this, whatever kernels the machine has registered."""

    @default("kernel_spec_manager")
    def _only_the_native_kernel(self) -> KernelSpecManager:
        return KernelSpecManager(parent=self, kernel_dirs=[], ensure_native_kernel=True)


class _MemoryWatch(threading.Thread):
    """Adds up the resident memory of all processes that this one started, five times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self._done = threading.Event()

    def run(self) -> None:
        me = psutil.Process()
        while not self._done.wait(0.2):
            total = 0
            for process in me.children(recursive=True):
                try:
                    total += process.memory_info().rss
                except psutil.Error:  # it has just ended
                    pass
            self.peak = max(self.peak, total)

    def __enter__(self) -> "_MemoryWatch":
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._done.set()
        self.join()


def execute(nb: NotebookNode, folder: Path, name: str = "notebook", timeout: int | None = None) -> Measured:
    """Runs all cells in a fresh kernel that works in `folder`, and puts the outputs in `nb`.

    Args:
        nb: the notebook; its old outputs are replaced.
        folder: the kernel's working directory.
        name: for the progress line.
        timeout: seconds for one cell; None waits as long as it takes.

    Raises:
        CellFailed: at the first cell that fails. The outputs up to there are in `nb`.
    """
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    begin, current = time.monotonic(), 0
    every = 0.5 if sys.stderr.isatty() else 10  # seconds
    progress = tqdm(total=len(nb.cells), desc=name, unit=" cells", mininterval=every, leave=False, delay=every)

    def started(cell: NotebookNode, cell_index: int) -> None:
        nonlocal current
        current = cell_index + 1
        progress.update()

    client = NotebookClient(
        nb,
        kernel_manager_class=_ThisPython,
        kernel_name="python3",
        timeout=timeout,
        record_timing=False,
        coalesce_streams=True,
        extra_arguments=["--IPKernelApp.log_level=ERROR"],
        resources={"metadata": {"path": str(folder)}},
        on_cell_start=started,
    )
    try:
        with _MemoryWatch() as memory:
            client.execute()
    except CellExecutionError as error:
        raise CellFailed(current, f"{error.ename}: {(error.evalue.strip().splitlines() or [''])[0]}") from error
    except CellTimeoutError:
        raise CellFailed(current, f"it takes more than {timeout} s") from None
    except DeadKernelError:
        raise CellFailed(current, "the kernel died (out of memory, perhaps)") from None
    finally:
        progress.close()
    return Measured(time.monotonic() - begin, memory.peak / 2**20)


def page(nb: NotebookNode, title: str) -> str:
    """The notebook as one HTML page."""
    exporter = HTMLExporter(raw_template=TEMPLATE)
    body, _ = exporter.from_notebook_node(nb, resources={"metadata": {"name": title}})
    return body
