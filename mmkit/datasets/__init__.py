"""The data sets of the course, as TFDS builders: import this module, then `tfds.load("av_digits/small")`.

`load` gives a whole split as arrays. The first load builds a data set in the kit's cache from pinned sources; later
ones, and those offline, read it. What each holds, from where, and what not to conclude from it, is written on its card
in `data/`.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from mmkit import pipelines
from mmkit.datasets import recordings
from mmkit.datasets.av_digits import AvDigits, DigitSenses
from mmkit.datasets.digits import Digits
from mmkit.datasets.emoji import Emoji
from mmkit.datasets.intents import Intents
from mmkit.datasets.reviews import Reviews
from mmkit.datasets.watch import Watch
from mmkit.ground import settings, sources

__all__ = ["AvDigits", "Digits", "Emoji", "Intents", "Reviews", "Watch", "build", "load", "names", "recordings"]

# TFDS warns of a name of its own that it still uses itself: nothing that a reader of a lesson could act on.
logging.getLogger("absl").addFilter(lambda record: "FeatureConnector.dtype" not in record.getMessage())

_BUILDERS = {
    "av_digits": AvDigits,
    "digits": Digits,
    "emoji": Emoji,
    "intents": Intents,
    "reviews": Reviews,
    "watch": Watch,
}


# From a data set's name to what makes its own features, where it has some that a model wants.
_FEATURES = {"av_digits": DigitSenses}


def names() -> list[str]:
    """The names of all data sets.

    Example:
        >>> from mmkit import datasets
        >>> "av_digits" in datasets.names()
        True
    """
    return list(_BUILDERS)


def build(name: str) -> Path:
    """Builds data set `name` in the configuration of this run's profile, unless it is there.

    Args:
        name: one of `names()`.

    Returns:
        The folder that holds it.

    Raises:
        mmkit.ground.sources.SourceError: if there is no such data set, or it cannot be built.

    Example:
        >>> from mmkit import datasets
        >>> datasets.build("digits").is_dir()
        True
    """
    return Path(_prepared(name).data_dir)


def load(name: str, split: str, transform: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """A split of a data set as arrays, in the configuration of this run's profile; built first, unless it is there.

    Args:
        name: one of `names()`.
        split: "train", "validation" or "test", or a part of one, such as "train[:100]".
        transform: from a batch of examples, a dict of tensors, to what is wanted of them, such as `(inputs, labels)`.
            By default the set's own features where it has some (`DigitSenses` for av_digits); else all but the label
            are inputs, pictures from 0 to 1.

    Returns:
        What `transform` returns, with an array over all examples in the place of each tensor, and strings in the place
        of bytes; by default `(inputs, labels)`, a dict of arrays and the classes, shape `(examples,)`.

    Raises:
        mmkit.ground.sources.SourceError: if there is no such data set, or it cannot be built.
        ValueError: if it has no such split, or no label and there is no `transform`.

    Example:
        >>> from mmkit import datasets
        >>> inputs, labels = datasets.load("av_digits", "test[:50]")
        >>> {sense: array.shape for sense, array in inputs.items()}
        {'image': (50, 28, 28, 1), 'audio': (50, 65, 32, 1), 'touch': (50, 48, 16)}
        >>> labels.shape
        (50,)
    """
    builder = _prepared(name)
    if transform is None and name in _FEATURES:
        transform = _FEATURES[name]()
    elif transform is None:
        transform = _without_label(name, builder.info.features)
    return tf.nest.map_structure(_as_text, pipelines.arrays(builder.as_dataset(split=split), transform=transform))


def _prepared(name: str) -> tfds.core.DatasetBuilder:
    if name not in _BUILDERS:
        raise sources.SourceError(f"there is no data set called {name!r}: choose from {', '.join(names())}")
    builder = tfds.builder(f"{name}/{settings.data_profile()}")
    builder.download_and_prepare()
    return builder


def _without_label(name: str, features: tfds.features.FeaturesDict) -> Callable[[dict[str, Any]], Any]:
    if "label" not in features:
        raise ValueError(f"{name} has no label: pass a transform that makes what you want of {', '.join(features)}")
    pictures = [key for key in features if isinstance(features[key], tfds.features.Image)]

    def transform(examples: dict[str, Any]) -> Any:
        scaled = {key: tf.cast(examples[key], "float32") / 255 for key in pictures}
        inputs = {key: scaled.get(key, feature) for key, feature in examples.items() if key != "label"}
        return inputs, examples["label"]

    return transform


def _as_text(array: np.ndarray) -> np.ndarray:
    """Bytes as strings, of any length; all else as it is."""
    if array.dtype != object:
        return array
    return np.array([text.decode() for text in array.ravel()], dtype=object).reshape(array.shape)
