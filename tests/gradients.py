"""Gradients by whichever backend Keras runs on."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np


def gradients(loss: Callable[[], Any], weights: list[keras.Variable]) -> list[np.ndarray]:
    """The gradient of `loss()`, a number, to each weight; None where the loss does not depend on it (TensorFlow)."""
    if keras.backend.backend() == "jax":
        import jax

        def of(values: list) -> Any:
            with keras.StatelessScope(state_mapping=list(zip(weights, values))):
                return loss()

        found = jax.grad(of)([weight.value for weight in weights])
    else:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            value = loss()
        found = tape.gradient(value, [weight.value for weight in weights])
    return [None if one is None else keras.ops.convert_to_numpy(keras.ops.cast(one, "float32")) for one in found]
