"""Gradients by whichever backend Keras runs on, and calls that JAX compiles whole."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np


def gradients(loss: Callable[[], Any], weights: list[keras.Variable]) -> list[np.ndarray]:
    """The gradient of `loss()`, a number, to each weight; None where the loss does not depend on it (TensorFlow)."""
    if keras.backend.backend() == "jax":
        import jax

        def of(values: list) -> Any:
            with keras.StatelessScope(state_mapping=list(zip(weights, values)), collect_losses=True):
                return loss()

        found = jax.jit(jax.grad(of))([weight.value for weight in weights])  # compiled one by one, steps take minutes
    else:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            value = loss()
        found = tape.gradient(value, [weight.value for weight in weights])
    return [None if one is None else keras.ops.convert_to_numpy(keras.ops.cast(one, "float32")) for one in found]


def called(layer: keras.layers.Layer, *arguments: Any, **options: Any) -> Any:
    """`layer(*arguments, **options)`, in which `training` is an option.

    JAX would compile a call op by op, for minutes a layer. So there a layer is built by shapes alone and its call
    compiled whole, as `fit` and `predict` do it.
    """
    if keras.backend.backend() != "jax" or any(map(keras.backend.is_keras_tensor, keras.tree.flatten(arguments))):
        return layer(*arguments, **options)
    import jax

    training = options.pop("training")
    if not layer.built:
        given = (arguments, {name: option for name, option in options.items() if option is not None})
        kinds = keras.tree.map_structure(lambda one: keras.KerasTensor(one.shape, one.dtype), given)
        layer(*kinds[0], **kinds[1])

    def call(values: list, arguments: tuple, options: dict) -> Any:
        with keras.StatelessScope(state_mapping=list(zip(layer.variables, values))):
            return layer(*arguments, training=training, **options)

    return jax.jit(call)([variable.value for variable in layer.variables], arguments, options)
