"""Statistics for comparing models: intervals that cover what they say, and calibration."""

import warnings
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special, stats

# From so many examples, groups or repetitions on, drawing them again tells how far their mean moves; with fewer,
# Student's t does.
_ENOUGH = 50


@dataclass(frozen=True)
class Interval:
    """An estimate with a confidence interval. All three numbers have the unit of what was measured.

    Example:
        >>> from mmkit.evaluate import Interval
        >>> print(Interval(0.912, low=0.894, high=0.93))
        0.912 [0.894, 0.930]
    """

    estimate: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.estimate:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap(
    values: np.ndarray, *, groups: np.ndarray | None = None, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """The mean of one number per example, with a confidence interval.

    For an accuracy pass `predicted == labels`, one boolean per test example. The interval says how far the mean would
    move with other examples. If whatever is drawn at once is more than an example, say so: with `groups` the people,
    voices or templates that the examples come from are drawn, each with all its examples; with several rows of
    `values`, one for each repetition (another labelled set, another seed), repetitions and examples are both drawn.

    With fifty or more of what is drawn this is the percentile bootstrap. With fewer, the bootstrap's interval is too
    narrow, so Student's t is used: the mean plus or minus t standard errors. For groups that hold shares w of the
    examples, the standard error is the standard deviation of the groups' means times the root of the sum of w²; for n
    repetitions it is that of their means over the root of n. Where both are drawn, the two half-widths add as squares.

    Where all values are 0 or 1, two more examples stand in the interval, one of each (not in the estimate): thirty
    right answers out of thirty do not show that a model is always right. Such an interval stays between 0 and 1.

    Args:
        values: shape `(examples,)` or `(repetitions, examples)`, numbers or booleans.
        groups: shape `(examples,)`, the group of every example, as numbers or strings. By default every example is
            independent of the others.
        level: the share of repeated experiments whose interval should hold the true mean, between 0 and 1.
        resamples: how many times to draw again, with replacement.
        seed: seed of the draws.

    Returns:
        The mean over all values, and its interval.

    Raises:
        ValueError: if `values` is not one finite number per example, for at least two examples, `groups` is not one
            group per example, of at least two, `level` is not between 0 and 1, or `resamples` is not positive.

    Warns:
        UserWarning: if there are fewer than five groups: the interval is then wide, and right only if the means of
            groups are spread roughly as a normal distribution.

    Sources: Student (1908), The probable error of a mean. Efron (1979), Bootstrap methods: another look at the
    jackknife. Agresti and Caffo (2000), Simple and effective confidence intervals for proportions. Owen (2007), The
    pigeonhole bootstrap.

    Example:
        >>> import numpy as np
        >>> from mmkit.evaluate import bootstrap
        >>> print(bootstrap([True] * 27 + [False] * 3))
        0.900 [0.754, 0.996]
        >>> seconds, people = [3.0, 3.2, 4.0, 4.4, 5.0, 5.2, 6.1, 6.3, 2.0, 2.2], np.repeat(list("abcde"), 2)
        >>> print(bootstrap(seconds, groups=people))  # five people, not ten independent numbers
        4.140 [2.137, 6.143]
    """
    rows = _rows("bootstrap", values)
    bounds = (0.0, 1.0) if np.isin(rows, (0, 1)).all() else None
    return _interval(rows, groups, level, resamples, seed, bounds)


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

    Both models see the same examples in every draw, so what makes an example hard for both cancels. If the interval
    does not hold 0, the difference is more than the luck of the test set. It says nothing of the luck of training:
    repeat the training under other seeds for that, and pass a row for each.

    Where both models' values are 0 or 1, two more examples stand in the interval, one that only the first model gets
    right and one that only the second does: that two models agree on thirty examples does not show that they always
    do.

    Args:
        first, second: shape `(examples,)` or `(repetitions, examples)`, one number or boolean per example, in the same
            order of repetitions and examples.
        groups, level, resamples, seed: as in `bootstrap`.

    Returns:
        The mean difference over all values, and its interval.

    Raises:
        ValueError: if the two differ in shape, or anything that `bootstrap` refuses.

    Warns:
        UserWarning: as `bootstrap`.

    Source: Bonett and Price (2012), Adjusted Wald confidence interval for a difference of binomial proportions based
    on paired data.

    Example:
        >>> import numpy as np
        >>> from mmkit.evaluate import paired_bootstrap
        >>> fusion = np.array([True] * 90 + [False] * 10)
        >>> audio = np.array([True] * 70 + [False] * 30)  # whatever audio gets right, fusion does, too
        >>> paired_bootstrap(fusion, audio).low > 0.1
        True
    """
    first, second = (np.asarray(values, dtype=float) for values in (first, second))
    if first.shape != second.shape:
        raise ValueError(
            f"paired_bootstrap wants the same examples for both models: got shapes {first.shape} and {second.shape}"
        )
    rows = _rows("paired_bootstrap", first - second)
    bounds = (-1.0, 1.0) if np.isin((first, second), (0, 1)).all() else None
    return _interval(rows, groups, level, resamples, seed, bounds)


def _rows(caller: str, values: np.ndarray) -> np.ndarray:
    """`values` as an array `(repetitions, examples)`."""
    numbers = np.asarray(values, dtype=float)
    if numbers.ndim not in (1, 2) or 0 in numbers.shape or numbers.shape[-1] < 2 or not np.isfinite(numbers).all():
        raise ValueError(
            f"{caller} wants one finite number per example, for two or more: got shape {numbers.shape}"
            + ("" if np.isfinite(numbers).all() else " holding NaN or infinity")
        )
    return np.atleast_2d(numbers)


def _members(groups: np.ndarray | None, examples: int) -> np.ndarray:
    """The group of each example as a number from 0, shape `(examples,)`."""
    if groups is None:
        return np.arange(examples)
    groups = np.asarray(groups)
    if any(group is None or group != group for group in groups.ravel().tolist()):
        raise ValueError("groups holds NaN or None: give every example a group, or leave those examples out")
    names, member = np.unique(groups, return_inverse=True)
    if groups.shape != (examples,) or len(names) < 2:
        raise ValueError(
            f"groups must hold one group per example, of two or more: got shape {groups.shape} with {len(names)} "
            f"for {examples} examples"
        )
    if len(names) < 5:
        warnings.warn(
            f"an interval from {len(names)} groups is wide and rough: report each group's mean beside it, or get more",
            stacklevel=4,
        )
    return member


def _interval(
    rows: np.ndarray,
    groups: np.ndarray | None,
    level: float,
    resamples: int,
    seed: int,
    bounds: tuple[float, float] | None,
) -> Interval:
    """The mean of `rows` with its interval; `bounds` are the ends of what a value can be, where it is one of them."""
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, such as 0.95: got {level}")
    if resamples < 1:
        raise ValueError(f"resamples must be positive, such as 2000: got {resamples}")
    member = _members(groups, rows.shape[1])
    sizes = np.bincount(member)
    sums = np.array([np.bincount(member, row) for row in rows])
    count = len(sizes)
    if bounds is not None:  # one more example at either end, each a group of its own
        sums = np.concatenate([sums, np.tile(bounds, (len(rows), 1))], axis=1)
        sizes = np.append(sizes, [1, 1])
    if count >= _ENOUGH and (len(rows) == 1 or len(rows) >= _ENOUGH):
        tails = (1 - level) / 2, (1 + level) / 2
        low, high = np.quantile(_drawn_again(sums, sizes, resamples, np.random.default_rng(seed)), tails)
    else:
        share, means = sizes / sizes.sum(), sums.mean(axis=0) / sizes
        centre = share @ means
        variance = means[:count].var(ddof=1) * (share[:count] ** 2).sum()
        variance += ((share * (means - centre))[count:] ** 2).sum()
        squared = _t(level, count) ** 2 * variance
        if len(rows) > 1:
            squared += _t(level, len(rows)) ** 2 * (sums.sum(axis=1) / sizes.sum()).var(ddof=1) / len(rows)
        low, high = centre - np.sqrt(squared), centre + np.sqrt(squared)
    if bounds is not None:
        low, high = np.clip((low, high), *bounds)
    return Interval(float(rows.mean()), float(low), float(high))


def _t(level: float, count: int) -> float:
    """How many standard errors the mean of `count` numbers may be off, by Student's t."""
    return float(stats.t.ppf((1 + level) / 2, count - 1))


def _drawn_again(sums: np.ndarray, sizes: np.ndarray, resamples: int, random: np.random.Generator) -> np.ndarray:
    """Means of samples in which repetitions and groups were drawn again, with replacement; shape `(resamples,)`."""
    repetitions, count = sums.shape
    how_often = np.full((resamples, 1), repetitions)
    if repetitions > 1:
        how_often = random.multinomial(repetitions, np.full(repetitions, 1 / repetitions), resamples)
    means = []
    for part in np.array_split(how_often, -(-resamples * count // 200_000)):  # in parts, for memory's sake
        places = random.integers(0, count, (len(part), count))
        of_groups = np.take_along_axis(part @ sums / repetitions, places, axis=1)
        means.append(of_groups.sum(axis=1) / sizes[places].sum(axis=1))
    return np.concatenate(means)


# --- calibration ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reliability:
    """A reliability table: what was predicted and what came out, bin by bin; three arrays of shape `(bins,)`.

    Attributes:
        predicted: the mean of the probabilities in a bin.
        observed: the share of the bin's examples for which the prediction came true.
        count: how many examples the bin holds; empty bins are left out.

    Example:
        >>> from mmkit.evaluate import reliability
        >>> table = reliability([0.9, 0.9, 0.9, 0.2], [1, 1, 0, 0], bins=2)
        >>> for row in zip(table.predicted, table.observed, table.count):
        ...     print("predicted {:.2f}, observed {:.2f}, {} examples".format(*row))
        predicted 0.20, observed 0.00, 1 examples
        predicted 0.90, observed 0.67, 3 examples
    """

    predicted: np.ndarray
    observed: np.ndarray
    count: np.ndarray


def reliability(
    probabilities: np.ndarray, labels: np.ndarray, *, bins: int = 15, equal_mass: bool = False
) -> Reliability:
    """The reliability table of a classifier: how sure it was, against how often it was right.

    Args:
        probabilities: shape `(examples, classes)`, of which the largest in a row is the model's confidence in its
            answer; or shape `(examples,)`, the probability of class 1 of two.
        labels: shape `(examples,)`, whole numbers from 0, the true class.
        bins: into how many the probabilities are put.
        equal_mass: whether the bins hold about as many examples each. By default they are equally wide, from 0 to 1.

    Returns:
        The table, with the bins from low to high.

    Raises:
        ValueError: if `probabilities` are none, `labels` are not a class per example, or `bins` is not positive.

    Source: DeGroot and Fienberg (1983), The comparison and evaluation of forecasters.

    Example:
        >>> from mmkit.evaluate import reliability
        >>> probabilities = [[0.8, 0.2], [0.7, 0.3], [0.4, 0.6], [0.45, 0.55]]
        >>> reliability(probabilities, [0, 0, 1, 0], bins=2, equal_mass=True).observed
        array([0.5, 1. ])
    """
    if bins < 1:
        raise ValueError(f"bins must be positive, such as 15: got {bins}")
    probabilities, labels = _predictions(probabilities, labels)
    if probabilities.ndim == 2:
        probabilities, labels = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    levels = np.linspace(0, 1, bins + 1)
    edges = np.quantile(probabilities, levels) if equal_mass else levels
    place = np.searchsorted(np.unique(edges[1:-1]), probabilities)  # a number on an edge belongs to the bin below
    count = np.bincount(place)
    sums = np.array([np.bincount(place, numbers)[count > 0] for numbers in (probabilities, labels)])
    predicted, observed = sums / (count := count[count > 0])
    return Reliability(predicted, observed, count)


def expected_calibration_error(
    probabilities: np.ndarray, labels: np.ndarray, *, bins: int = 15, equal_mass: bool = False
) -> float:
    """How far a classifier's confidence is from its accuracy: the mean over examples of their bin's distance.

    A perfectly calibrated model has more than 0 on a finite test set, the more so the fewer examples a bin holds. Bins
    of equal mass suffer less, because a confident model leaves most bins of equal width nearly empty. Compare models by
    the same bins and examples.

    Args:
        probabilities, labels, bins, equal_mass: as in `reliability`.

    Returns:
        The error, from 0 to 1.

    Raises:
        ValueError: as `reliability`.

    Sources: Naeini, Cooper and Hauskrecht (2015), Obtaining well calibrated probabilities using Bayesian binning. On
    equal mass: Nguyen and O'Connor (2015), Posterior calibration and exploratory analysis for natural language
    processing models.

    Example:
        >>> from mmkit.evaluate import expected_calibration_error
        >>> round(expected_calibration_error([0.9] * 10, [1] * 7 + [0] * 3), 3)
        0.2
    """
    table = reliability(probabilities, labels, bins=bins, equal_mass=equal_mass)
    return float(np.average(np.abs(table.observed - table.predicted), weights=table.count))


def negative_log_likelihood(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How much each example surprised the model: minus the logarithm of the probability of the true class.

    Args:
        probabilities, labels: as in `reliability`.

    Returns:
        A number per example, shape `(examples,)`, in nats, so that `bootstrap` gives the mean with its interval. It is
        infinite where the true class had probability 0.

    Raises:
        ValueError: as `reliability`.

    Example:
        >>> from mmkit.evaluate import negative_log_likelihood
        >>> negative_log_likelihood([[0.5, 0.5], [0.0, 1.0]], [0, 1]).round(3)
        array([0.693, 0.   ])
    """
    probabilities, labels = _predictions(probabilities, labels)
    if probabilities.ndim == 1:
        given = np.where(labels == 1, probabilities, 1 - probabilities)
    else:
        given = probabilities[np.arange(len(labels)), labels]
    with np.errstate(divide="ignore"):
        return -np.log(given) + 0.0  # no minus before a zero


def brier_score(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The squared distance of each example's probabilities from the truth, which has 1 at the true class, else 0.

    Args:
        probabilities, labels: as in `reliability`.

    Returns:
        A number per example, shape `(examples,)`, so that `bootstrap` gives the mean with its interval: from 0 to 2
        for probabilities `(examples, classes)`, from 0 to 1 for those of class 1 of two.

    Raises:
        ValueError: as `reliability`.

    Source: Brier (1950), Verification of forecasts expressed in terms of probability.

    Example:
        >>> from mmkit.evaluate import brier_score
        >>> brier_score([[0.5, 0.5], [0.0, 1.0]], [0, 1])
        array([0.5, 0. ])
    """
    probabilities, labels = _predictions(probabilities, labels)
    if probabilities.ndim == 1:
        return (probabilities - labels) ** 2
    return ((probabilities - np.eye(probabilities.shape[1])[labels]) ** 2).sum(axis=1)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature that calibrates a classifier best: `softmax(logits / temperature)` is then its probability.

    It minimises the negative log-likelihood of the labels, which has one minimum. Above 1 it makes a model less sure,
    below 1 surer; the answers stay the same. Fit it on validation examples, never on those trained on or tested with.

    Args:
        logits: shape `(examples, classes)`, the scores before the softmax.
        labels: shape `(examples,)`, whole numbers from 0, the true class.

    Returns:
        The temperature, between 0.001 and 1,000.

    Raises:
        ValueError: if `logits` are not finite numbers per class, `labels` are not a class per example, or no
            temperature is best: the largest logit is always right, or the logits tell nothing of the labels.

    Source: Guo, Pleiss, Sun and Weinberger (2017), On calibration of modern neural networks.

    Example:
        >>> import numpy as np
        >>> from mmkit.evaluate import fit_temperature
        >>> logits = np.array([[4.0, 0.0]] * 10)  # 98% sure of class 0, and right 7 times of 10
        >>> round(fit_temperature(logits, [0] * 7 + [1] * 3), 3)
        4.721
    """
    logits = np.asarray(logits, dtype=float)
    if logits.ndim != 2 or not np.isfinite(logits).all():
        raise ValueError(f"fit_temperature wants finite logits (examples, classes): got shape {logits.shape}")
    _, labels = _predictions(special.softmax(logits, axis=1), labels)
    of_truth = logits[np.arange(len(labels)), labels]

    def slope(log_scale: float) -> float:
        """How the negative log-likelihood changes with the scale 1 / temperature; it grows with it."""
        return float(((special.softmax(np.exp(log_scale) * logits, axis=1) * logits).sum(axis=1) - of_truth).mean())

    ends = np.log(1e-3), np.log(1e3)
    if slope(ends[1]) <= 0:
        raise ValueError("no temperature is best: the largest logit is right for every example; take more examples")
    if slope(ends[0]) >= 0:
        raise ValueError("no temperature is best: the logits tell nothing of the labels; are both in the same order?")
    return float(np.exp(-optimize.brentq(slope, *ends)))


def _predictions(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays, checked: probabilities `(examples, classes)` or `(examples,)`, labels `(examples,)`."""
    probabilities, labels = np.asarray(probabilities, dtype=float), np.asarray(labels)
    classes = probabilities.shape[1] if probabilities.ndim == 2 else 2
    if probabilities.ndim not in (1, 2) or not len(probabilities) or labels.shape != probabilities.shape[:1]:
        raise ValueError(
            "wanted probabilities (examples, classes) or (examples,), and one label per example: "
            f"got shapes {probabilities.shape} and {labels.shape}"
        )
    sums = probabilities.sum(axis=-1) if probabilities.ndim == 2 else 1.0
    if not ((probabilities >= 0) & (probabilities <= 1)).all() or not np.allclose(sums, 1, atol=0.02):
        raise ValueError("wanted probabilities, from 0 to 1 with sum 1 over the classes: apply softmax to logits")
    if labels.dtype.kind not in "biu" or labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"wanted labels that are whole numbers from 0 to {classes - 1}: got {labels.dtype} labels")
    return probabilities, labels.astype(int)
