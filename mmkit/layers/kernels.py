"""What the kit's layers pass to the Keras layers inside them: initializer, regularizer, dtypes, names."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import ops

from mmkit.layers.types import Shape, Tensor


def take_kernel_options(layer: keras.layers.Layer, initializer: Any, regularizer: Any) -> None:
    """Sets `kernel_initializer` and `kernel_regularizer` of `layer`, given as Keras takes them: name, dict or object.

    Raises:
        ValueError: Keras's, if one of them is unknown.
    """
    layer.kernel_initializer = keras.initializers.get(initializer)
    layer.kernel_regularizer = keras.regularizers.get(regularizer)


@keras.saving.register_keras_serializable("mmkit")
class Anew(keras.initializers.Initializer):
    """An initializer that layers may share: each weight gets numbers of its own, unless a seed is given.

    A Keras initializer draws the same numbers each time that it is called.

    Args:
        initializer: as Keras takes it.
    """

    def __init__(self, initializer: Any) -> None:
        self.initializer = keras.initializers.get(initializer)

    def __call__(self, shape: Shape, dtype: str | None = None) -> Tensor:
        return self.copy()(shape, dtype=dtype)

    def copy(self) -> Callable[..., Tensor]:
        """The initializer, new; a plain function as it is."""
        return self.initializer.clone() if hasattr(self.initializer, "clone") else self.initializer

    def get_config(self) -> dict[str, Any]:
        return {"initializer": keras.initializers.serialize(self.initializer)}


def inner_options(layer: keras.layers.Layer) -> dict[str, Any]:
    """What `layer` passes to the Keras layers that it is made of: dtype policy, kernel initializer and regularizer."""
    return {
        "dtype": layer.dtype_policy,
        "kernel_initializer": Anew(layer.kernel_initializer),
        "kernel_regularizer": layer.kernel_regularizer,
    }


def kernel_config(layer: keras.layers.Layer) -> dict[str, Any]:
    """Both options of `layer` in the form in which `get_config` returns them."""
    return {
        "kernel_initializer": keras.initializers.serialize(layer.kernel_initializer),
        "kernel_regularizer": keras.regularizers.serialize(layer.kernel_regularizer),
    }


def branch_config(layer: keras.layers.Layer, *names: str) -> dict[str, Any]:
    """What `get_config` of a branch returns besides what Keras's own does: the arguments of these `names`, and those
    that concern the layers inside."""
    return {**dtype_config(layer), **kernel_config(layer), **{name: getattr(layer, name) for name in names}}


def dtype_config(layer: keras.layers.Layer) -> dict[str, Any]:
    """What `get_config` of a layer that is made of Keras layers returns as its dtype, once some of them are quantized.

    `model.quantize` changes the dtype policy of each inner layer, which the outer layer's own policy does not tell.
    So the outer layer stores a map from the inner layers' paths to their policies, and hands it to them when it is
    made anew. Empty if nothing is quantized.
    """
    policies = {}
    for inner in _parts(layer):
        if inner.quantization_mode is not None:
            place = layer.name + inner.path.removeprefix(layer.path)  # wherever the layer itself is built
            policies[f"(.*/)?{re.escape(place)}"] = inner.dtype_policy
    if not policies:
        return {}
    default = getattr(layer.dtype_policy, "default_policy", layer.dtype_policy)
    policy = keras.dtype_policies.DTypePolicyMap(default.name, policies)  # by name: Keras stores it as it is given
    return {"dtype": keras.dtype_policies.serialize(policy)}


def _parts(layer: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    """The layers that `layer` is made of, at every depth; not those of a model inside, which stores its own."""
    for inner in layer._flatten_layers(include_self=False, recursive=False):
        if not isinstance(inner, keras.Model):
            yield inner
            yield from _parts(inner)


def settle(layer: keras.layers.Layer) -> None:
    """Hands on to the layers inside `layer`, once all are built, what was said of it before they were made.

    Each gets the policy that a map from `dtype_config` holds for it: Keras's Dense layer is made by the map, but cannot
    be saved with it. And all are frozen if `layer` is: made with `trainable=False`, or saved after it was set so.
    """
    for inner in _parts(layer):
        if isinstance(inner.dtype_policy, keras.dtype_policies.DTypePolicyMap) and inner.path:
            inner._dtype_policy = inner.dtype_policy[inner.path]
    if not layer.trainable:
        freeze(layer)


def freeze(layer: keras.layers.Layer) -> None:
    """Sets `layer` and all layers inside it not to be trained.

    Setting `layer.trainable` stops at a layer that is frozen already, because TensorFlow ignores it when an attribute
    is set to what it is; a layer inside that one, or made later, would still be trained.
    """
    for one in layer._flatten_layers():
        keras.layers.Layer.trainable.fset(one, False)


def drawn_apart(initializer: Any, count: int, axis: int) -> Callable[..., Tensor]:
    """An initializer for a weight made of `count` kernels, each drawn as a matrix of its own.

    Keras reads three axes as a convolution's, and so would draw kernels that lie side by side too small.

    Args:
        initializer: Keras initializer of one kernel.
        count: number of kernels.
        axis: axis of the weight along which they lie.

    Returns:
        A function of the weight's shape and dtype.
    """

    def draw(shape: Shape, dtype: str | None = None) -> Tensor:
        one, base = (*shape[:axis], *shape[axis + 1 :]), Anew(initializer).copy()
        kernels = []
        for place in range(count):
            own = base
            if isinstance(getattr(base, "seed", None), int):  # with one seed, all kernels would be the same
                own = base.clone()
                own.seed = base.seed + place
            kernels.append(own(one, dtype=dtype))
        return ops.stack(kernels, axis=axis)

    return draw


def keras_name(modality: str, prefix: str = "") -> str:
    """The name, in Keras, of a part that belongs to a modality: any string is a modality's name, not any is Keras's.

    What is no ASCII letter, digit or underscore becomes its code point between hyphens: `hidden_audio-2f-mel`.
    """
    return prefix + re.sub(r"[^A-Za-z0-9_]", lambda found: f"-{ord(found[0]):x}-", modality)
