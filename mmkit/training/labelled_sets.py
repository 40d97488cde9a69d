"""Which examples get a label, where labels are few."""

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
