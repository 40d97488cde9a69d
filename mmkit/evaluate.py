"""Statistics for comparing models."""

from dataclasses import dataclass

import numpy as np
from scipy import stats


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
