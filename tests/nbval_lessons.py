"""A pytest plugin for the lessons, beside nbval, which runs their cells.

Each cell is run a second time at once, since a reader may do that, if it is quick; with `--twice` the slow ones as well
(`make test-course NB=2.1 TWICE=1`). With `--course` (`make test`, `make test-course`) a lesson's test also

- fails if a definition of mmkit ran that the lesson's fingerprint does not hold;
- runs each cell tagged `pattern` alone, in a fresh kernel, after the Setup cell (with `--patterns`);
- reports the claims of a stale lesson of the first edition where they fail, and lets it pass;
- starts only if it will be done by the time `--until`, on a machine that takes `--reference` seconds for that job.
"""

import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from nbval.plugin import IPyNbCell, IPyNbFile, NbCellError

QUICK = 2.0  # seconds
LATE = "does not fit into the time that is left"
START = """
def start():
    import coverage, os
    os.environ["COVERAGE_CORE"] = "{core}"
    coverage.Coverage(data_file=None, config_file=False, include=[{kit!r}]).start()
start()
del start
"""
STOP = """
def stop():
    import coverage, json, pathlib
    running = coverage.Coverage.current()
    running.stop()
    data = running.get_data()
    pathlib.Path({told!r}).write_text(json.dumps({{path: data.lines(path) for path in data.measured_files()}}))
stop()
del stop
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("course", "the lessons of the course")
    group.addoption("--course", type=Path, help="the checkout whose lessons these notebooks are")
    group.addoption("--twice", action="store_true", help="slow cells a second time too")
    group.addoption("--patterns", action="store_true", help="each pattern cell alone as well")
    group.addoption(
        "--until", type=float, help="start no lesson that will not be done by then, in seconds of the epoch"
    )
    group.addoption("--reference", type=float, help="seconds that the reference job takes here")


@cache
def _course(root: Path):
    from nbtools.course import Course
    from nbtools.project import Project

    return Course(Project(root.resolve()))


def _lesson(file: IPyNbFile):
    """The lesson of a notebook file, None without `--course`."""
    if not hasattr(file, "lesson"):
        root = file.config.option.course
        file.lesson = _course(root).lesson(file.path) if root else None
    return file.lesson


def _execute(file: IPyNbFile, source: str) -> None:
    """Runs `source` in the file's kernel, beside its cells."""
    message = file.kernel.kc.execute(source, silent=True, store_history=False)
    file.kernel.await_idle(message, 60)


class TimedCell(IPyNbCell):
    """A cell's first run."""

    seconds: float | None = None  # that it took, once it has succeeded

    def runtest(self) -> None:
        lesson = _lesson(self.parent)
        if lesson and self.cell_num == 0:
            kit = str(self.config.option.course.resolve() / "mmkit" / "*")
            _execute(self.parent, START.format(core="sysmon" if sys.version_info >= (3, 12) else "ctrace", kit=kit))
        start = time.monotonic()
        try:
            super().runtest()
        except NbCellError as error:
            last = re.sub(r"\x1b\[[\d;]*m", "", error.inner_traceback or "").strip().rpartition("\n")[2]
            if lesson and lesson.first_edition and lesson.stale and last.startswith("ClaimFailed"):
                pytest.xfail(f"a claim of the first edition: {last}")
            raise
        self.seconds = time.monotonic() - start


class CellAgain(IPyNbCell):
    """A cell's second run. It has to succeed, and to print the same where the output is compared."""

    first: "TimedCell"

    def runtest(self) -> None:
        if self.first.seconds is None:
            pytest.skip("its first run failed")
        if self.first.seconds > QUICK and not self.config.option.twice:
            pytest.skip(f"it took {self.first.seconds:.0f} s: not run again")
        super().runtest()


class PatternCell(pytest.Item):
    """A cell tagged `pattern`, which a reader copies: it runs alone, after the Setup cell."""

    def runtest(self) -> None:
        from nbtools.execute import execute
        from nbtools.project import read, tags

        nb = read(self.path)
        code = [cell for cell in nb.cells if cell.cell_type == "code"]
        nb.cells = [cell for cell in code if "setup" in tags(cell)] + [code[self.cell_num]]
        execute(nb, self.path.parent, self.name)

    def repr_failure(self, excinfo: pytest.ExceptionInfo) -> str:
        return f"{self.name}, of the Setup cell (1) and this one (2): {excinfo.value}"


class Proof(pytest.Item):
    """All that ran of mmkit is in the lesson's fingerprint."""

    def runtest(self) -> None:
        from nbtools.fingerprint import title

        if self.parent.timed_out or not self.parent.kernel.is_alive():
            pytest.skip("a cell hung or killed the kernel")
        with tempfile.TemporaryDirectory() as folder:
            told = Path(folder) / "lines.json"
            _execute(self.parent, STOP.format(told=str(told)))
            lines = json.loads(told.read_text(encoding="utf-8"))
        ran = _course(self.config.option.course).kit.ran(lines)
        held = _lesson(self.parent).now.definitions
        unheld = ", ".join(map(title, sorted(ran - held)))
        assert not unheld, f"{unheld} ran and is not in the fingerprint: name it where the lesson can be seen to use it"
        assert ran or not held, "nothing of this checkout's mmkit ran: is another one installed?"

    def repr_failure(self, excinfo: pytest.ExceptionInfo) -> str:
        return str(excinfo.value)


def pytest_configure(config: pytest.Config) -> None:
    os.environ["MMKIT_STATIC"] = "1"  # kernels inherit it: figures without controls


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts each cell's second run behind its first. Cells count as slow tests, which `make check` leaves out."""
    items[:] = [item for one in items for item in _once_and_again(one)]


def _once_and_again(item: pytest.Item) -> Iterator[pytest.Item]:
    if not isinstance(item, IPyNbCell):
        yield item
        return
    file, options = item.parent, item.config.option
    same = {"cell_num": item.cell_num, "cell": item.cell, "options": item.options}
    first = TimedCell.from_parent(file, name=item.name, **same)
    again = CellAgain.from_parent(file, name=f"{item.name} again", **same)
    again.first = first
    cells = [first, again]
    code = [cell for cell in file.nb.cells if cell.cell_type == "code"]
    if options.course and item.cell_num == len(code) - 1:
        cells.append(Proof.from_parent(file, name="what ran is in the fingerprint"))
        for number, cell in enumerate(code if options.patterns else ()):
            if "pattern" in cell.metadata.get("tags", []):
                pattern = PatternCell.from_parent(file, name=f"Cell {number} alone")
                pattern.cell_num = number
                cells.append(pattern)
    for cell in cells:
        cell.add_marker("slow")
        yield cell


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips a lesson that will not be done in time, before its kernel starts."""
    options, file = item.config.option, item.parent
    if options.until and isinstance(file, IPyNbFile):
        if not hasattr(file, "late"):
            from run_lessons import minutes

            file.late = time.time() + 60 * minutes(_lesson(file), options.reference) > options.until
        if file.late:
            pytest.skip(LATE)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    late = dict.fromkeys(Path(one.nodeid.partition("::")[0]).stem for one in skipped if LATE in str(one.longrepr))
    if late:
        terminalreporter.write_line(f"{len(late)} lessons did not fit into the time: {', '.join(late)}")
