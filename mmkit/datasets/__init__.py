"""The data sets of the course, as TFDS builders: import this module, then `tfds.load("av_digits/small")`.

The first load builds a data set in the kit's cache from pinned sources; later ones, and those offline, read it. What
each holds, from where, and what not to conclude from it, is written on its card in `data/`.
"""

import logging
from pathlib import Path

import tensorflow_datasets as tfds

from mmkit.datasets.av_digits import AvDigits
from mmkit.datasets.digits import Digits
from mmkit.datasets.emoji import Emoji
from mmkit.datasets.intents import Intents
from mmkit.datasets.reviews import Reviews
from mmkit.datasets.watch import Watch
from mmkit.ground import settings, sources

__all__ = ["AvDigits", "Digits", "Emoji", "Intents", "Reviews", "Watch", "build", "names"]

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


def names() -> list[str]:
    """The names of all data sets."""
    return list(_BUILDERS)


def build(name: str) -> Path:
    """Builds data set `name` in the configuration of this run's profile, unless it is there.

    Returns:
        The folder that holds it.

    Raises:
        mmkit.ground.sources.SourceError: if there is no such data set, or it cannot be built.
    """
    if name not in _BUILDERS:
        raise sources.SourceError(f"there is no data set called {name!r}: choose from {', '.join(names())}")
    builder = tfds.builder(f"{name}/{settings.profile()}")
    builder.download_and_prepare()
    return Path(builder.data_dir)
