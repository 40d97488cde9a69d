"""Noise in training, so that a network learns to doubt an input that is noise."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("mmkit")
class Fade(keras.layers.Layer):
    """Mixes noise into some examples while training: at level l an example x becomes (1 - l) x + l n.

    The noise n is normal with the mean and spread of the data, so that at level 1 nothing of the example is left. Each
    example is faded with probability `rate`, to a level of its own, even from 0 to 1.

    Args:
        center: float, mean of the data. Default 0.
        spread: float, standard deviation of the data, not negative. Default 1.
        rate: float, the probability that an example is faded, from 0 to 1. Default 0.5.
        seed: int, seed of the draws, or None: Keras's global seed decides. Default None.
        **kwargs: those of every Keras layer: `name`, `dtype`.

    Call arguments:
        array: `(batch, ...)`, numbers.

    Returns:
        An array of the same shape. Not in training, the one that came.

    Raises:
        ValueError: if `spread` or `rate` is out of range.

    Example:
        >>> import numpy as np
        >>> from mmkit.training import Fade
        >>> fade = Fade(center=5.0, spread=0.0, rate=1.0, seed=0)
        >>> ones = np.ones((4, 3), "float32")
        >>> bool(np.all(fade(ones, training=True) > 1)), bool(np.all(fade(ones) == 1))
        (True, True)
        >>> np.array(fade.mix(ones[:1], 0.5)).tolist()
        [[3.0, 3.0, 3.0]]
    """

    def __init__(
        self, center: float = 0.0, spread: float = 1.0, rate: float = 0.5, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.center, self.spread, self.rate, self.seed = float(center), float(spread), float(rate), seed
        if not self.spread >= 0:
            raise ValueError(f"Fade: spread must not be negative: got {spread}")
        if not 0 <= self.rate <= 1:
            raise ValueError(f"Fade: rate must be from 0 to 1: got {rate}")
        self.supports_masking = True
        self.generator = keras.random.SeedGenerator(seed)

    def mix(self, array: Any, level: Any) -> Any:
        """The array at a level, a number or one for each example, shaped so that it multiplies `array`."""
        array = ops.convert_to_tensor(array)
        noise = keras.random.normal(ops.shape(array), self.center, self.spread, array.dtype, self.generator)
        return (1 - level) * array + level * noise

    def call(self, array: Any, training: bool | None = None) -> Any:
        if not training or self.rate == 0:
            return array
        one_each = (ops.shape(array)[0],) + (1,) * (len(array.shape) - 1)
        luck = keras.random.uniform(one_each, dtype=array.dtype, seed=self.generator)
        return self.mix(array, ops.maximum(1 - (1 - luck) / self.rate, 0))

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return shape

    def get_config(self) -> dict[str, Any]:
        own = {"center": self.center, "spread": self.spread, "rate": self.rate, "seed": self.seed}
        return {**super().get_config(), **own}
