"""`watch`: what a smartwatch feels while its wearer exercises a shoulder."""

import io

import numpy as np
import tensorflow_datasets as tfds

from mmkit.datasets import safe_pickle
from mmkit.datasets.base import KitBuilder
from mmkit.ground import sources

RATE = 50  # samples a second
STEPS = 128  # of a window: 2.56 seconds
HOPS = {"small": 128, "full": 16}  # steps from the beginning of one window to the next
PEOPLE = {"train": (1, 3, 4, 6, 8, 10), "validation": (9,), "test": (2, 5, 7)}
EXERCISES = {  # what the source calls them, and what they are
    "PEN": "pendulum",
    "ABD": "abduction",
    "FEL": "forward elevation",
    "IR": "internal rotation",
    "ER": "external rotation",
    "TRAP": "trapezius extension",
    "ROW": "upright row",
}


def read_recordings() -> list[dict]:
    """The 140 recordings of source `seglearn-watch`, fetched if need be.

    Returns:
        Dicts of `signal`, shape `(steps, 6)`, float32: the accelerometer's x, y, z, then the gyroscope's; `label`, 0 to
        6 as in `EXERCISES`; `person`, 1 to 10; `arm`, 0 for left and 1 for right.

    Raises:
        mmkit.ground.sources.SourceError: if its file does not hold them.
    """
    path = sources.fetch("seglearn-watch") / "seglearn" / "data" / "watch_dataset.npy"
    with sources.reading("seglearn-watch"):
        file = io.BytesIO(path.read_bytes())
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)  # after which comes a pickle
        table = safe_pickle.read(file.read()).item()
        if table["y_labels"] != list(EXERCISES) or len(table["X"]) != 140:
            raise ValueError("its exercises are others than expected")
        columns = zip(table["X"], table["y"], table["subject"], table["side"], strict=True)
        return [
            {"signal": signal.astype(np.float32), "label": int(label), "person": int(person), "arm": int(arm)}
            for signal, label, person, arm in columns
        ]


class Watch(KitBuilder):
    """Shoulder exercises, as a watch's accelerometer and gyroscope record them (Burns and others, 2018).

    Example:
        >>> from mmkit.datasets import Watch
        >>> sorted(Watch(config="small").info.features)
        ['accelerometer', 'arm', 'gyroscope', 'label', 'person', 'recording', 'start']
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name="small", description="1,833 windows that do not overlap, built offline"),
        tfds.core.BuilderConfig(name="full", description="the same recordings, a window begun every 16 steps"),
    ]
    SOURCES = {"small": ("seglearn-watch",), "full": ("seglearn-watch",)}

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Windows of shoulder exercises under a smartwatch. See data/watch.md.",
            features=tfds.features.FeaturesDict(
                {
                    "accelerometer": tfds.features.Tensor(shape=(STEPS, 3), dtype=np.float32, doc="x, y, z in g"),
                    "gyroscope": tfds.features.Tensor(shape=(STEPS, 3), dtype=np.float32, doc="x, y, z in rad/s"),
                    "label": tfds.features.ClassLabel(names=[name.replace(" ", "_") for name in EXERCISES.values()]),
                    "person": tfds.features.Scalar(np.int32, doc="who exercises, 1 to 10"),
                    "arm": tfds.features.ClassLabel(names=["left", "right"]),
                    "recording": tfds.features.Scalar(np.int32, doc="the number of the recording in its source"),
                    "start": tfds.features.Scalar(np.int32, doc="the step of the recording that the window begins at"),
                }
            ),
        )

    def _split_generators(self, dl_manager):
        recordings = read_recordings()
        return {split: self._generate_examples(recordings, people) for split, people in PEOPLE.items()}

    def _generate_examples(self, recordings, people):
        for number, recording in enumerate(recordings):
            if recording["person"] not in people:
                continue
            signal = recording["signal"]
            for start in range(0, len(signal) - STEPS + 1, HOPS[self.builder_config.name]):
                window = signal[start : start + STEPS]
                yield (
                    f"{number}-{start}",
                    {
                        "accelerometer": window[:, :3],
                        "gyroscope": window[:, 3:],
                        "label": recording["label"],
                        "person": recording["person"],
                        "arm": recording["arm"],
                        "recording": number,
                        "start": start,
                    },
                )
