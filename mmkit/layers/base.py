"""What all fusion layers share: one call, its checks, and what happens to an absent modality."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from mmkit.layers import masks


def check_positive(layer: keras.layers.Layer, **numbers: int) -> None:
    """Raises a ValueError that names the layer and the argument if a number is below one."""
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{type(layer).__name__}: {name} must be positive: got {number}")


def dense_for_each(
    layer: keras.layers.Layer, units: int, shapes: Mapping[str, tuple], prefix: str = "projection_", **kwargs: Any
) -> dict[str, keras.layers.Dense]:
    """A built dense layer for each modality, by name."""
    made = {}
    for name, shape in shapes.items():
        made[name] = keras.layers.Dense(units, dtype=layer.dtype_policy, name=f"{prefix}{name}", **kwargs)
        made[name].build(shape)
    return made


class FusionLayer(keras.layers.Layer):
    """What all fusion layers share: `layer(features, mask=None, training=None)`, its checks, and absence.

    A subclass sets `RANKS`, makes its weights in `build_modalities` and computes in `fuse`.

    Args:
        units: size of the result.

    Call arguments:
        features: dict from modality name to `(batch, units)` or `(batch, time, units)`. Any names, any number of them,
            any units, times that differ.
        mask: dict from name to booleans, `(batch,)` or, for tokens, `(batch, time)`. A name left out is present.

    Returns:
        `(batch, units)`.

    Raises:
        ValueError: if a name is missing or unknown, or a shape is wrong; it names the modality and the shapes.
    """

    RANKS: tuple[int, ...] = (2, 3)

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_positive(self, units=units)
        self.units = units
        self.supports_masking = True

    def build(self, features_shape: Mapping[str, Sequence[int | None]]) -> None:
        kind = type(self).__name__
        self.names = masks.check_names(kind, features_shape)
        for name in self.names:
            masks.check_shape(kind, name, features_shape[name], self.RANKS)
        self.sizes = {name: features_shape[name][-1] for name in self.names}
        self.build_modalities({name: tuple(features_shape[name]) for name in self.names})

    def call(
        self, features: Mapping[str, Any], mask: Mapping[str, Any] | None = None, training: bool | None = None
    ) -> Any:
        return self.fuse(*self.check(features, mask), training)

    def check(
        self, features: Mapping[str, Any], mask: Mapping[str, Any] | None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The features in the layer's dtype, in sorted order, and the masks that were given, all checked."""
        kind = type(self).__name__
        masks.check_names(kind, features, self.names)
        for name in self.names:
            masks.check_shape(kind, name, features[name].shape, self.RANKS, self.sizes[name])
        given = masks.check_masks(kind, features, mask)
        return {name: ops.cast(features[name], self.compute_dtype) for name in self.names}, given

    def build_modalities(self, shapes: dict[str, tuple]) -> None:
        """Makes the weights. `shapes`: from name, in sorted order, to shape."""
        raise NotImplementedError

    def fuse(self, features: dict[str, Any], mask: dict[str, Any], training: bool | None) -> Any:
        """Computes `(batch, units)`. `mask` holds the modalities that came with one, checked and boolean."""
        raise NotImplementedError

    def vectors(self, features: dict[str, Any], mask: dict[str, Any]) -> list[Any]:
        """One vector `(batch, size)` per modality, in sorted order: tokens by their mean, zeros for what is absent."""
        pooled = []
        for name in self.names:
            feature, given = features[name], mask.get(name)
            pooled.append(
                masks.mean_over_time(feature, given) if len(feature.shape) == 3 else masks.keep(feature, given)
            )
        return pooled

    def for_present(self, layers: dict[str, Any], vectors: list[Any], mask: dict[str, Any]) -> list[Any]:
        """Each modality's layer on its vector, in sorted order, zeros for what is absent."""
        return [
            masks.keep(layers[name](vector), masks.presence(mask, name)) for name, vector in zip(self.names, vectors)
        ]

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> None:
        return None  # the result is one vector an example: there is nothing left to mask

    def compute_output_shape(self, features_shape: Mapping[str, Sequence[int | None]]) -> tuple:
        return (next(iter(features_shape.values()))[0], self.units)

    def get_config(self) -> dict:
        return {**super().get_config(), "units": self.units}
