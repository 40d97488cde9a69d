"""Kernels: their initializer and regularizer, taken as Keras's own layers take them, and their quantization, stored."""

import re
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


def quantized_dtype(layer: keras.layers.Layer) -> dict[str, Any]:
    """What `get_config` of a layer that is made of Keras layers returns as its dtype, once some of them are quantized.

    `model.quantize` changes the dtype policy of each inner layer, which the outer layer's own policy does not tell.
    So the outer layer stores a map from the inner layers' paths to their policies, and hands it to them when it is
    made anew. Empty if nothing is quantized.
    """
    policies = {}
    for inner in layer._flatten_layers(include_self=False):
        if inner.quantization_mode is not None:
            policy = inner.dtype_policy
            if isinstance(policy, keras.dtype_policies.DTypePolicyMap):
                policy = policy[inner.path]
            place = layer.name + inner.path.removeprefix(layer.path)  # wherever the layer itself is built
            policies[f"(.*/)?{re.escape(place)}"] = policy
    if not policies:
        return {}
    default = layer.dtype_policy
    if isinstance(default, keras.dtype_policies.DTypePolicyMap):
        default = default.default_policy
    return {"dtype": keras.saving.serialize_keras_object(keras.dtype_policies.DTypePolicyMap(default, policies))}
