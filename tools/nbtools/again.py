"""A pytest plugin: each cell that nbval runs is run a second time at once, since a reader may do that, if it is quick.

To run the slow ones twice as well, `make run NB=04 OPTIONS=--twice`.
"""

import time
from collections.abc import Iterator

import pytest
from nbval.plugin import IPyNbCell

QUICK = 2.0  # seconds


class TimedCell(IPyNbCell):
    """A cell's first run."""

    seconds: float | None = None  # that it took, once it has succeeded

    def runtest(self) -> None:
        start = time.monotonic()
        super().runtest()
        self.seconds = time.monotonic() - start


class CellAgain(IPyNbCell):
    """A cell's second run. It has to succeed, and to print the same where the output is compared."""

    first: "TimedCell"

    def runtest(self) -> None:
        if self.first.seconds is None:
            pytest.skip("its first run failed")
        if self.first.seconds > QUICK:
            pytest.skip(f"it took {self.first.seconds:.0f} s: not run again")
        super().runtest()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts each cell's second run behind its first. Cells count as slow tests, which `make check` leaves out."""
    items[:] = [item for one in items for item in _once_and_again(one)]


def _once_and_again(item: pytest.Item) -> Iterator[pytest.Item]:
    if not isinstance(item, IPyNbCell):
        yield item
        return
    same = {"cell_num": item.cell_num, "cell": item.cell, "options": item.options}
    first = TimedCell.from_parent(item.parent, name=item.name, **same)
    again = CellAgain.from_parent(item.parent, name=f"{item.name} again", **same)
    again.first = first
    for cell in (first, again):
        cell.add_marker("slow")
        yield cell
