"""The table of claims that ends every lesson."""

import html
import operator
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
    "<": operator.lt,
    "==": operator.eq,
}


@dataclass(frozen=True)
class Claim:
    """One row of the table: the claim in words, what was measured, and the bound that it has to meet."""

    text: str
    value: float
    comparison: str
    bound: float

    @property
    def holds(self) -> bool:
        return bool(COMPARISONS[self.comparison](self.value, self.bound))


class ClaimFailed(AssertionError):
    """A claim of the lesson does not hold in this run."""


class Claims:
    """The claims of a lesson, each with the number that was measured for it.

    Example:
        claims = Claims()
        claims.check("fusion beats the best single modality", fused - best, ">=", 0.08)
        claims.table()

    `table` shows all claims, those that failed too, and then raises `ClaimFailed` if any did: this is what makes a
    lesson's test fail when its text is no longer true. A claim of the same text replaces the earlier one, so that a
    cell can run twice.
    """

    def __init__(self) -> None:
        self._claims: dict[str, Claim] = {}

    def check(self, text: str, value: float, comparison: str, bound: float) -> None:
        """Adds the claim `text`: `value comparison bound`.

        Args:
            text: what is claimed, in words a reader can check against the lesson.
            value: the measured number. NaN meets no bound.
            comparison: ">=", ">", "<=", "<" or "==".
            bound: the number to meet.

        Raises:
            ValueError: if `text` is empty, `comparison` is unknown, or a number is not one number.
        """
        if not text.strip():
            raise ValueError("a claim wants a text that says what is claimed")
        if comparison not in COMPARISONS:
            raise ValueError(f"unknown comparison {comparison!r}: use one of {', '.join(COMPARISONS)}")
        numbers = []
        for name, number in (("value", value), ("bound", bound)):
            if np.size(number) != 1 or np.asarray(number).dtype.kind not in "biuf":
                raise ValueError(f"the {name} of claim {text!r} must be one number: got {number!r}")
            numbers.append(float(np.asarray(number).item()))
        self._claims[text] = Claim(text, numbers[0], comparison, numbers[1])

    def table(self) -> None:
        """Shows the table of claims.

        Raises:
            ClaimFailed: if a claim does not hold. The table is shown first.
            ValueError: if no claim was made.
        """
        if not self._claims:
            raise ValueError("no claim was checked: call check() before table()")
        rows = list(self._claims.values())
        _show(_Table(rows))
        failed = [claim for claim in rows if not claim.holds]
        if failed:
            raise ClaimFailed(
                "; ".join(
                    f"{claim.text}: {claim.value:.4g} is not {claim.comparison} {claim.bound:g}" for claim in failed
                )
            )


class _Table:
    """Claims as plain text, and as HTML where there is a page to show it on."""

    def __init__(self, claims: list[Claim]) -> None:
        self._rows = [
            (
                claim.text,
                f"{claim.value:.4g}",
                f"{claim.comparison} {claim.bound:g}",
                "holds" if claim.holds else "FAILS",
            )
            for claim in claims
        ]

    def __repr__(self) -> str:
        table = [("claim", "measured", "bound", "verdict"), *self._rows]
        widths = [max(len(row[column]) for row in table) for column in range(4)]
        lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in table)
        return "\n".join(line.rstrip() for line in lines)

    def _repr_html_(self) -> str:
        head = "".join(f"<th style='text-align:left'>{name}</th>" for name in ("Claim", "Measured", "Bound", "Verdict"))
        body = "".join(
            "<tr>" + "".join(f"<td style='text-align:left'>{html.escape(cell)}</td>" for cell in row) + "</tr>"
            for row in self._rows
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _show(thing: object) -> None:
    try:
        from IPython import get_ipython
        from IPython.display import display
    except ImportError:
        get_ipython = None
    if get_ipython is not None and get_ipython() is not None:
        display(thing)
    else:
        print(thing)
