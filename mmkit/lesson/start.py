"""What every lesson does before its first experiment."""

import sys

import keras

from mmkit.ground import settings
from mmkit.lesson import plots


def setup() -> int:
    """Seeds Python, NumPy and Keras, sets the look of the figures, and keeps TensorFlow's advice out of the page.

    Returns:
        The seed of this run, `mmkit.seed()`, for generators of the lesson's own.

    Raises:
        mmkit.ground.settings.SettingError: if `MMKIT_SEED` is no seed.

    Example:
        >>> from mmkit import lesson
        >>> SEED = lesson.setup()
        >>> isinstance(SEED, int)
        True
    """
    seed = settings.seed()
    keras.utils.set_random_seed(seed)
    plots.use_style()
    if "tensorflow" in sys.modules:  # it would warn that many small models are compiled, as they are in lessons
        sys.modules["tensorflow"].get_logger().setLevel("ERROR")
    return seed
