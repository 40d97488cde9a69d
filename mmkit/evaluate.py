"""Statistics for comparing models, and the table of claims that ends every lesson."""

import html
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
    "<": operator.lt,
    "==": operator.eq,
}


@dataclass(frozen=True)
class Interval:
    """An estimate with a confidence interval. All three numbers have the unit of what was measured."""

    estimate: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.estimate:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap(
    values: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """The mean of one number per example, with a percentile bootstrap interval.

    For an accuracy pass `predicted == labels`, one boolean per test example. The interval says how far the mean would
    move with other examples. If whatever is drawn at once is more than an example, say so: with `groups` the people,
    voices or templates that the examples come from are drawn again, each with all its examples; with several rows of
    `values`, one for each repetition (another labelled set, another seed), repetitions and examples are both drawn
    again. Few groups or repetitions, under about ten, make the interval somewhat too narrow.

    Args:
        values: shape `(examples,)` or `(repetitions, examples)`, numbers or booleans.
        groups: shape `(examples,)`, the group of every example. By default every example is independent of the others.
        level: the share of repeated experiments whose interval should hold the true mean.
        resamples: how many times to draw again, with replacement.
        seed: seed of the draws.

    Raises:
        ValueError: if `values` is not one finite number per example, for at least two examples, or `groups` is not one
            group per example, of at least two.

    Sources: Efron (1979), Bootstrap methods: another look at the jackknife. Owen (2007), The pigeonhole bootstrap.
    """
    numbers = np.asarray(values, dtype=float)
    if numbers.ndim not in (1, 2) or 0 in numbers.shape or numbers.shape[-1] < 2 or not np.isfinite(numbers).all():
        raise ValueError(
            f"bootstrap wants one finite number per example, for two or more: got shape {numbers.shape}"
            + ("" if np.isfinite(numbers).all() else " holding NaN or infinity")
        )
    random = np.random.default_rng(seed)
    if numbers.ndim == 1 and groups is None:
        result = stats.bootstrap(
            (numbers,),
            np.mean,
            confidence_level=level,
            n_resamples=resamples,
            method="percentile",
            vectorized=True,
            batch=max(1, 10_000_000 // len(numbers)),
            rng=random,
        )
        low, high = result.confidence_interval
    else:
        rows = np.atleast_2d(numbers)
        of = np.arange(rows.shape[1]) if groups is None else np.asarray(groups)
        names, member = np.unique(of, return_inverse=True)
        if of.shape != rows.shape[1:] or len(names) < 2:
            raise ValueError(
                f"bootstrap wants one group per example, of two or more: got shape {of.shape} with {len(names)} "
                f"for values of shape {numbers.shape}"
            )
        size = np.bincount(member)
        sums = np.array([np.bincount(member, row) for row in rows])
        # How often each row and each group is drawn: a draw is a weighted mean.
        rows_drawn = random.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), resamples) / len(rows)
        groups_drawn = random.multinomial(len(names), np.full(len(names), 1 / len(names)), resamples)
        means = ((rows_drawn @ sums) * groups_drawn).sum(axis=1) / (groups_drawn @ size)
        low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(numbers.mean()), float(low), float(high))


def paired_bootstrap(
    first: np.ndarray,
    second: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """The mean of `first - second` with its interval, for two models tested on the same examples.

    Both models see every redrawn test set, so what makes an example hard for both cancels. If the interval does not
    hold 0, the difference is more than the luck of the test set. It says nothing of the luck of training: repeat the
    training under other seeds for that, and pass a row for each.

    Args:
        first, second: shape `(examples,)` or `(repetitions, examples)`, one number or boolean per example, in the same
            order of repetitions and examples.
        groups, level, resamples, seed: as in `bootstrap`.

    Raises:
        ValueError: if the two differ in shape, or are no valid `values` of `bootstrap`.
    """
    first, second = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if first.shape != second.shape:
        raise ValueError(
            f"paired_bootstrap wants the same examples for both models: got shapes {first.shape} and {second.shape}"
        )
    return bootstrap(first - second, groups=groups, level=level, resamples=resamples, seed=seed)


def labelled_sets(
    labels: np.ndarray, per_class: Sequence[int], *, draws: int, seed: int = 0
) -> list[dict[int, np.ndarray]]:
    """Which examples get a label, to draw accuracy against labels: as many of each class, several times over.

    Within a draw the sets are nested: more labels are the fewer ones and some besides.

    Args:
        labels: shape `(examples,)`, the class of every example.
        per_class: how many labels of each class. A class that has fewer gives all it has.
        draws: how many times to draw.
        seed: of the draws. Draw number k is the same whatever `draws` is.

    Returns:
        For each draw a dict from a number of `per_class` to the places of the examples, class by class.

    Raises:
        ValueError: if `labels` is not one class per example, or a number of `per_class` or `draws` is not positive.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or not len(labels):
        raise ValueError(f"labelled_sets wants one class per example: got shape {labels.shape}")
    if draws < 1 or not len(per_class) or min(per_class) < 1:
        raise ValueError(f"labelled_sets wants positive numbers: got per_class {list(per_class)}, draws {draws}")
    sets = []
    for draw in range(draws):
        order = np.random.default_rng((seed, draw)).permutation(len(labels))
        of_class = [order[labels[order] == one] for one in np.unique(labels)]
        sets.append({count: np.concatenate([places[:count] for places in of_class]) for count in per_class})
    return sets


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
