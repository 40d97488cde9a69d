"""The windows of `watch` in the order of their recordings, each described by 24 numbers."""

import numpy as np

from mmkit import datasets
from mmkit.datasets.watch.builder import EXERCISES

NAMES = tuple(EXERCISES.values())  # of the exercises, by their label


def as_recorded(*splits: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Windows of one or several splits as they were recorded, for what learns from them one after another.

    `datasets.load` returns the rows of a split in an order of its own, which mixes recordings and people. Here those of
    a person stand together, in the order of the recordings' numbers in the source, and each recording's from its first
    window to its last.

    Args:
        splits: which of "train", "validation" and "test", at least one.

    Returns:
        Features, shape `(windows, 24)`, float32: the mean, the standard deviation, the smallest and the largest value
        of the accelerometer's x, y, z and the gyroscope's. Then three arrays of shape `(windows,)`: the labels, which
        are places in `NAMES`, the people and the recordings.

    Raises:
        ValueError: if no split is named, or one that there is not.
        mmkit.ground.sources.SourceError: if the recordings cannot be had.

    Example:
        >>> from mmkit.datasets.watch.recorded import as_recorded
        >>> features, labels, people, recordings = as_recorded("test")
        >>> features.shape, people[:3].tolist(), int((recordings[1:] != recordings[:-1]).sum())
        ((609, 24), [2, 2, 2], 41)
    """
    if not splits:
        raise ValueError("as_recorded wants the name of a split: train, validation or test")
    parts = [datasets.load("watch", split, transform=dict) for split in splits]
    rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.lexsort((rows["start"], rows["recording"], rows["person"]))
    motion = np.concatenate([rows["accelerometer"], rows["gyroscope"]], axis=2)[order]
    features = np.concatenate([motion.mean(1), motion.std(1), motion.min(1), motion.max(1)], axis=1)
    return features, *(rows[name][order] for name in ("label", "person", "recording"))
