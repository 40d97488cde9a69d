"""The pictures that EfficientNet-Lite0 is compared on."""

import numpy as np


def pictures_from(count: int, size: int) -> np.ndarray:
    """Smooth coloured pictures: sums of a few waves, the same everywhere."""
    rows, columns = np.mgrid[0:size, 0:size] / size
    pictures = np.empty((count, size, size, 3))
    for number in range(count):
        for colour in range(3):
            phase = number + 2.0 * colour
            waves = np.sin(7 * rows * (1 + number) + phase) + np.cos(9 * columns * (1 + colour) + phase)
            pictures[number, ..., colour] = 127.5 + 60 * waves
    return np.clip(np.round(pictures), 0, 255).astype("float32")
