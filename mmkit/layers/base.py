"""What all fusion layers share: one call, its checks, and what happens to an absent modality."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from mmkit.layers import masks
from mmkit.layers.kernels import (
    dtype_config,
    inner_options,
    keras_name,
    kernel_config,
    settle,
    take_kernel_options,
)
from mmkit.layers.types import Features, Mask, Shape, Tensor


def check_positive(layer: keras.layers.Layer, **numbers: int) -> None:
    """Raises a ValueError that names the layer and the argument if a number is below one."""
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{type(layer).__name__}: {name} must be positive: got {number}")


def dense_for_each(
    layer: keras.layers.Layer, units: int, shapes: Mapping[str, Shape], prefix: str = "projection_", **kwargs: Any
) -> dict[str, keras.layers.Dense]:
    """A built dense layer for each modality, by name, with the kernel options of `layer`."""
    made = {}
    for name, shape in shapes.items():
        made[name] = keras.layers.Dense(units, name=keras_name(name, prefix), **inner_options(layer), **kwargs)
        made[name].build(shape)
    return made


class FusionLayer(keras.layers.Layer):
    """What all fusion layers share: `layer(features, mask=None, training=None)`, its checks, and absence.

    A subclass sets `RANKS`, makes its weights in `build_modalities` and computes in `fuse`.

    Args:
        units: int, size of the result.
        kernel_initializer: how kernels begin, as `keras.layers.Dense` takes it. Default "glorot_uniform".
        kernel_regularizer: penalty on kernels, as `keras.layers.Dense` takes it, or None. Default None.
        **kwargs: those of every Keras layer: `name`, `dtype`, `trainable`.

    Call arguments:
        features: dict from modality name to `(batch, units)` or `(batch, time, units)`. Any names, any number of them,
            any units, times that differ.
        mask: dict from name to booleans, `(batch,)` or, for tokens, `(batch, time)`; or None. A modality that is left
            out has the mask that its features carry (from `Embedding(mask_zero=True)`, `Masking` or
            `LSTMBranch(tokens=True)`); without one it is present.
        training: bool or None, as Keras sets it.

    Returns:
        `(batch, units)`.

    Raises:
        ValueError: if a name is missing, unknown or empty, a shape is wrong, or a mask is not of booleans (or whole
            numbers); it names the modality and the shapes.

    Example:
        >>> import numpy as np
        >>> from keras import ops
        >>> from mmkit.layers import FusionLayer
        >>> class MeanFusion(FusionLayer):
        ...     def build_modalities(self, shapes):
        ...         pass  # it has no weights
        ...     def fuse(self, features, mask, training):
        ...         return ops.mean(ops.stack(self.vectors(features, mask)), axis=0)
        >>> fused = MeanFusion(2)({"image": np.ones((1, 2)), "audio": 3 * np.ones((1, 5, 2))})
        >>> np.asarray(fused).tolist()
        [[2.0, 2.0]]
    """

    RANKS: tuple[int, ...] = (2, 3)

    def __init__(
        self, units: int, kernel_initializer: Any = "glorot_uniform", kernel_regularizer: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        check_positive(self, units=units)
        self.units = units
        take_kernel_options(self, kernel_initializer, kernel_regularizer)
        self.supports_masking = True

    def build(self, features_shape: Mapping[str, Shape]) -> None:
        kind = type(self).__name__
        self.names = masks.check_names(kind, features_shape)
        for name in self.names:
            masks.check_shape(kind, name, features_shape[name], self.RANKS)
        self.sizes = {name: features_shape[name][-1] for name in self.names}
        self.build_modalities({name: tuple(features_shape[name]) for name in self.names})
        settle(self)

    def call(self, features: Features, mask: Mask | None = None, training: bool | None = None) -> Tensor:
        return self.fuse(*self.check(features, mask), training)

    def check(self, features: Features, mask: Mask | None) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The features in the layer's dtype, in sorted order, and the masks of those that have one, all checked."""
        kind = type(self).__name__
        if not self.built:
            raise ValueError(f"{kind} {self.name!r} has no weights yet: call the layer first, on features like these")
        masks.check_names(kind, features, self.names)
        for name in self.names:
            masks.check_shape(kind, name, features[name].shape, self.RANKS, self.sizes[name])
        checked = masks.check_masks(kind, features, mask)
        return {name: ops.cast(features[name], self.compute_dtype) for name in self.names}, checked

    def build_modalities(self, shapes: dict[str, Shape]) -> None:
        """Makes the weights. `shapes`: from name, in sorted order, to shape."""
        raise NotImplementedError

    def fuse(self, features: dict[str, Tensor], mask: dict[str, Tensor], training: bool | None) -> Tensor:
        """Computes `(batch, units)`. `mask` holds the modalities that have one, checked and boolean."""
        raise NotImplementedError

    def vectors(self, features: dict[str, Tensor], mask: dict[str, Tensor]) -> list[Tensor]:
        """One vector `(batch, size)` per modality, in sorted order: tokens by their mean, zeros for what is absent."""
        return [
            masks.mean_over_time(features[name], mask.get(name))
            if len(features[name].shape) == 3
            else masks.keep(features[name], mask.get(name))
            for name in self.names
        ]

    def for_present(
        self, layers: dict[str, keras.layers.Layer], vectors: list[Tensor], mask: dict[str, Tensor]
    ) -> list[Tensor]:
        """Each modality's layer on its vector, in sorted order, zeros for what is absent."""
        return [
            masks.keep(layers[name](vector), masks.is_present(mask.get(name)))
            for name, vector in zip(self.names, vectors)
        ]

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> None:
        return None  # the result is one vector an example: there is nothing left to mask

    def compute_output_shape(self, features_shape: Mapping[str, Shape]) -> Shape:
        return (next(iter(features_shape.values()))[0], self.units)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **dtype_config(self), **kernel_config(self), "units": self.units}
