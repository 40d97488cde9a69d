"""What is computed, whoever computes it: shapes, sizes, data. Needs neither TensorFlow nor PyTorch."""

import numpy as np

CLASSES = 10
CHECKED = 16  # examples on which both frameworks must agree
# The late-fusion model of MultiBench's AVMNIST (Liang et al., 2021, examples/multimedia/avmnist_simple_late_fusion.py):
# a LeNet of 4 blocks on the picture, one of 6 on the spectrogram. Name to (height, width, channels) and blocks.
AVMNIST = {"image": ((28, 28, 1), 4), "audio": ((112, 112, 1), 6)}
AVMNIST_PARAMETERS = 260_922
# Tokens of three modalities for the fusion transformer: name to (time, units).
TOKENS = {"image": (16, 64), "audio": (32, 64), "touch": (48, 16)}
TRANSFORMER = {"units": 128, "num_heads": 4, "num_layers": 2}


def rows_and_labels(model: str, count: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Random inputs and labels for "late_fusion" or "transformer": what they hold does not change a step's time."""
    random = np.random.default_rng(0)
    shapes = {name: shape for name, (shape, _) in AVMNIST.items()} if model == "late_fusion" else TOKENS
    rows = {name: random.standard_normal((count, *shape), dtype="float32") for name, shape in shapes.items()}
    return rows, random.integers(0, CLASSES, count)
