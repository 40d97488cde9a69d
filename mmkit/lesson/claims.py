"""The table of claims that ends every lesson, and the further checks beside it."""

import dataclasses
import html
import operator
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

MIME = "application/vnd.mmkit.claims+json"  # the claims as they stand beside the table, for the notebooks' tools
COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
    "<": operator.lt,
    "==": operator.eq,
}


@dataclass(frozen=True)
class Claim:
    """One row of the table: the claim in words, what was measured, and the bound that it has to meet.

    Example:
        >>> from mmkit.lesson.claims import Claim
        >>> claim = Claim("the two agree", 0.2500001, "==", 0.25)
        >>> claim.holds, claim.written  # as many digits as it takes
        (False, ('0.2500001', '0.25'))
    """

    text: str
    value: float
    comparison: str
    bound: float

    @property
    def holds(self) -> bool:
        return COMPARISONS[self.comparison](self.value, self.bound)

    @property
    def written(self) -> tuple[str, str]:
        """Value and bound as they are shown: in few digits, or in as many as show that the claim holds or fails."""
        for digits in range(4, 17):
            value, bound = f"{self.value:.{digits}g}", f"{self.bound:.{max(digits, 6)}g}"
            if COMPARISONS[self.comparison](float(value), float(bound)) == self.holds:
                return value, bound
        return repr(self.value), repr(self.bound)


class ClaimFailed(AssertionError):
    """A claim of the lesson does not hold in this run.

    Example:
        >>> from mmkit.lesson import ClaimFailed, Claims
        >>> claims = Claims()
        >>> claims.check("fusion is right more often than not", 0.48, ">", 0.5)
        >>> try:
        ...     claims.table()
        ... except ClaimFailed as error:
        ...     print(error)
        claim                                measured  bound  verdict
        fusion is right more often than not  0.48      > 0.5  FAILS
        fusion is right more often than not: 0.48 is not > 0.5
    """


class Claims:
    """The claims of a lesson, each with the number that was measured for it.

    `table` shows all claims, those that failed too, and then raises `ClaimFailed` if any did: this is what makes a
    lesson's test fail when its text is no longer true. A claim of the same text replaces the earlier one, so that a
    cell can run twice.

    Example:
        >>> from mmkit.lesson import Claims
        >>> claims = Claims()
        >>> claims.check("fusion beats the best single modality", 0.93 - 0.81, ">=", 0.08)
        >>> claims.check("the two softmaxes agree", 2e-7, "<=", 1e-6)
        >>> claims.table()
        claim                                  measured  bound     verdict
        fusion beats the best single modality  0.12      >= 0.08   holds
        the two softmaxes agree                2e-07     <= 1e-06  holds
    """

    def __init__(self) -> None:
        self._claims: dict[str, Claim] = {}

    def check(self, text: str, value: float, comparison: str, bound: float) -> None:
        """Adds the claim `text`: `value comparison bound`.

        Value and bound are compared in the coarser precision of the two: 0.9 in float32 is a little less than 0.9 in
        Python, and still meets ">= 0.9".

        Args:
            text: what is claimed, in words a reader can check against the lesson.
            value: the measured number, of any numeric type, an array of one number too. NaN meets no bound.
            comparison: ">=", ">", "<=", "<" or "==".
            bound: the number to meet.

        Raises:
            ValueError: if `text` is empty, `comparison` is unknown, or a number is not one number.
        """
        if not text.strip():
            raise ValueError("a claim wants a text that says what is claimed")
        if comparison not in COMPARISONS:
            raise ValueError(f"unknown comparison {comparison!r}: use one of {', '.join(COMPARISONS)}")
        numbers = np.asarray(value), np.asarray(bound)
        for name, number in zip(("value", "bound"), numbers, strict=True):
            if number.size != 1 or number.dtype.kind not in "biuf":
                raise ValueError(f"the {name} of claim {text!r} must be one number: got {number!r}")
        precisions = [number.dtype for number in numbers if number.dtype.kind == "f"]
        precision = min(precisions, key=lambda dtype: dtype.itemsize, default=np.dtype(float))
        value, bound = (float(number.astype(precision).item()) for number in numbers)
        self._claims[text] = Claim(text, value, comparison, bound)

    def table(self) -> None:
        """Shows the table of claims.

        Raises:
            ClaimFailed: if a claim does not hold. The table is shown first.
            ValueError: if no claim was made.
        """
        self._show(_Table(self._made()))

    def count(self) -> None:
        """Says how many of the claims hold, in a line: for further checks, which need no table.

        Raises:
            ClaimFailed: if one does not hold. The line is shown first.
            ValueError: if no claim was made.

        Example:
            >>> from mmkit.lesson import Claims
            >>> checks = Claims()
            >>> checks.check("The shares of attention sum to 1.", 1.0, "==", 1.0)
            >>> checks.check("Padding changes no output.", 0.0, "==", 0.0)
            >>> checks.count()
            2 further checks hold.
        """
        self._show(_Count(self._made()))

    def _made(self) -> list[Claim]:
        if not self._claims:
            raise ValueError("no claim was checked: call check() first")
        return list(self._claims.values())

    def _show(self, shown: "_Shown") -> None:
        _display(shown)
        failed = [
            f"{claim.text}: {value} is not {claim.comparison} {bound}"
            for claim in shown.claims
            for value, bound in [claim.written]
            if not claim.holds
        ]
        if failed:
            raise ClaimFailed("; ".join(failed))


class _Shown:
    """Claims as they are shown."""

    def __init__(self, claims: list[Claim]) -> None:
        self.claims = claims

    def _repr_html_(self) -> str | None:
        return None

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict:
        rows = [{**dataclasses.asdict(claim), "holds": claim.holds} for claim in self.claims]
        bundle = {"text/plain": repr(self), "text/html": self._repr_html_(), MIME: rows}
        return {kind: data for kind, data in bundle.items() if data is not None}


class _Count(_Shown):
    """How many hold."""

    def __repr__(self) -> str:
        held = sum(claim.holds for claim in self.claims)
        if held < len(self.claims):
            return f"{held} of {len(self.claims)} further checks hold."
        return f"{held} further check{'s hold' if held != 1 else ' holds'}."


class _Table(_Shown):
    """Claims as plain text, and as HTML where there is a page to show it on."""

    @property
    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (claim.text, value, f"{claim.comparison} {bound}", "holds" if claim.holds else "FAILS")
            for claim in self.claims
            for value, bound in [claim.written]
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


def _display(thing: object) -> None:
    try:
        from IPython import get_ipython
        from IPython.display import display
    except ImportError:
        get_ipython = None
    if get_ipython is not None and get_ipython() is not None:
        display(thing)
    else:
        print(thing)
