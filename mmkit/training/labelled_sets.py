"""Which examples get a label, where labels are few, and how many labels a result is worth."""

from collections.abc import Sequence

import numpy as np


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

    Example:
        >>> import numpy as np
        >>> from mmkit.training import labelled_sets
        >>> labels = np.array([0, 1] * 50)
        >>> draws = labelled_sets(labels, [1, 5], draws=3)
        >>> len(draws), [len(places) for places in draws[0].values()]
        (3, [2, 10])
        >>> labels[draws[0][5]]
        array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1])
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


def labels_needed(counts: Sequence[float], scores: Sequence[float], goal: float) -> float:
    """With how many labels a learning curve first reaches a goal, such as the score of a better method.

    Between two points the curve is a straight line over the logarithm of the labels.

    Args:
        counts: numbers of labels, positive and growing.
        scores: what was reached with each, such as accuracies.
        goal: the score to reach.

    Returns:
        The number of labels: the first of `counts` if that reaches the goal (fewer might do), NaN if none does.

    Raises:
        ValueError: if `counts` do not grow from a positive number, or `scores` are not one each.

    Example:
        >>> from mmkit.training import labels_needed
        >>> round(labels_needed([10, 100, 1000], [0.5, 0.7, 0.9], goal=0.8), 1)  # half-way from 100 to 1,000
        316.2
    """
    counts, scores = np.asarray(counts, dtype=float), np.asarray(scores, dtype=float)
    if counts.ndim != 1 or counts.shape != scores.shape or not len(counts):
        raise ValueError(f"labels_needed wants a score per count: got shapes {scores.shape} and {counts.shape}")
    if not counts[0] > 0 or not (np.diff(counts) > 0).all():
        raise ValueError(f"labels_needed wants positive counts in growing order: got {counts.tolist()}")
    reached = np.flatnonzero(scores >= goal)
    if not len(reached):
        return float("nan")
    first = reached[0]
    if first == 0:
        return float(counts[0])
    share = (goal - scores[first - 1]) / (scores[first] - scores[first - 1])
    return float(counts[first - 1] * (counts[first] / counts[first - 1]) ** share)
