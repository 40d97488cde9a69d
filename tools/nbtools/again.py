"""A pytest plugin: each cell that nbval runs is run a second time at once, since a reader may do that, if it is quick.

To run the slow ones twice as well, `make run NB=04 OPTIONS=--twice`.
"""

from collections.abc import Iterator

import pytest
from nbval.plugin import IPyNbCell

QUICK = 2.0  # seconds


class CellAgain(IPyNbCell):
    """A cell's second run. It has to succeed, and to print the same where the output is compared."""

    first: IPyNbCell

    def runtest(self) -> None:
        seconds = getattr(self.first, "seconds", None)
        if seconds is None:
            pytest.skip("its first run failed")
        if seconds > QUICK:
            pytest.skip(f"it took {seconds:.0f} s: not run again")
        super().runtest()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts each cell's second run behind its first. Cells count as slow tests, which `make check` leaves out."""
    items[:] = [item for one in items for item in _once_and_again(one)]


def _once_and_again(item: pytest.Item) -> Iterator[pytest.Item]:
    yield item
    if isinstance(item, IPyNbCell):
        item.add_marker("slow")
        again = CellAgain.from_parent(
            item.parent, name=f"{item.name} again", cell_num=item.cell_num, cell=item.cell, options=item.options
        )
        again.first = item
        again.add_marker("slow")
        yield again


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    """Notes how long a cell took, if it succeeded."""
    report = yield
    if isinstance(item, IPyNbCell) and call.when == "call" and report.passed:
        item.seconds = call.duration
    return report
