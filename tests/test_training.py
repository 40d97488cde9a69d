"""What lessons share when they train."""

import numpy as np
import pytest

from mmkit.training import labelled_sets


def test_labelled_sets_are_balanced_nested_and_drawn_anew():
    labels = np.array([0] * 20 + [1] * 20 + [7] * 3)
    sets = labelled_sets(labels, (2, 5), draws=3, seed=1)
    for draw in sets:
        assert np.bincount(labels[draw[2]])[[0, 1, 7]].tolist() == [2, 2, 2]
        assert np.bincount(labels[draw[5]])[[0, 1, 7]].tolist() == [5, 5, 3]  # a class with fewer gives all it has
        assert set(draw[2]) < set(draw[5]) and len(set(draw[5])) == 13
    assert len({tuple(sorted(draw[5])) for draw in sets}) == 3
    again = labelled_sets(labels, (5,), draws=1, seed=1)
    assert again[0][5].tolist() == sets[0][5].tolist()
    assert labelled_sets(labels, (5,), draws=1, seed=2)[0][5].tolist() != sets[0][5].tolist()


@pytest.mark.parametrize(
    "labels, per_class, draws",
    [([0, 1], (0,), 1), ([0, 1], (), 1), ([0, 1], (1,), 0), ([[0, 1]], (1,), 1), ([], (1,), 1)],
)
def test_labelled_sets_refuse(labels, per_class, draws):
    with pytest.raises(ValueError, match="labelled_sets wants"):
        labelled_sets(np.array(labels), per_class, draws=draws)
