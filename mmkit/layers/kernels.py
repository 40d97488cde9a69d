"""The initializer and the regularizer of kernels, which the kit's layers take as Keras's own layers do."""

from typing import Any

import keras


def take_kernel_options(layer: keras.layers.Layer, initializer: Any, regularizer: Any) -> None:
    """Sets `kernel_initializer` and `kernel_regularizer` of `layer`, given as Keras takes them: name, dict or object.

    Raises:
        ValueError: Keras's, if one of them is unknown.
    """
    layer.kernel_initializer = keras.initializers.get(initializer)
    layer.kernel_regularizer = keras.regularizers.get(regularizer)


def inner_options(layer: keras.layers.Layer) -> dict[str, Any]:
    """What `layer` passes to the Keras layers that it is made of: dtype policy, kernel initializer and regularizer.

    Keras copies an initializer that it is handed, so two layers that share one do not begin with the same numbers.
    """
    return {
        "dtype": layer.dtype_policy,
        "kernel_initializer": layer.kernel_initializer,
        "kernel_regularizer": layer.kernel_regularizer,
    }


def kernel_config(layer: keras.layers.Layer) -> dict[str, Any]:
    """Both options of `layer` in the form in which `get_config` returns them."""
    return {
        "kernel_initializer": keras.initializers.serialize(layer.kernel_initializer),
        "kernel_regularizer": keras.regularizers.serialize(layer.kernel_regularizer),
    }
