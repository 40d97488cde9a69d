"""Convolutions for what has space, an LSTM for what has time: from raw inputs to one vector."""

from collections.abc import Mapping
from typing import Any

import keras

from mmkit.layers import masks
from mmkit.layers.base import FusionLayer
from mmkit.layers.conv2d_branch import Conv2DBranch
from mmkit.layers.fusion import ConcatFusion
from mmkit.layers.kernels import inner_options, keras_name
from mmkit.layers.lstm_branch import LSTMBranch
from mmkit.layers.types import Features, Mask, Shape, Tensor


@keras.saving.register_keras_serializable("mmkit")
class ConvLSTMFusion(FusionLayer):
    """Convolutions for what has space, an LSTM for what has time, one dense layer over both: raw inputs to one vector.

    This is nn(conv(visual, auditory), touch): every modality of shape `(batch, height, width, channels)` goes through a
    `Conv2DBranch`, every one of shape `(batch, time, features)` through an `LSTMBranch`, and a `ConcatFusion` joins
    them.

    Args:
        units: int, size of the result, and of every branch.
        pooling: of the convolutional branches, "flatten" (default) or "max"; a dict from modality name for one each,
            "flatten" for those left out.
        kernel_initializer: of every kernel, default "glorot_uniform".
        kernel_regularizer: of every kernel, default None.

    Call arguments:
        features: dict from modality name to `(batch, height, width, channels)` or `(batch, time, features)`.
        mask: dict from name to booleans: `(batch,)`, or `(batch, time)` for the steps of a sequence and for the rows of
            a picture, `(batch, height)`. A name left out, or None, is present.

    Returns:
        `(batch, units)`.

    Raises:
        ValueError: as `FusionLayer`, and if a pooling is unknown or `pooling` names an unknown modality.

    Source: the branches' and ConcatFusion's.

    Example:
        >>> import numpy as np
        >>> from mmkit import layers
        >>> features = {"picture": np.ones((2, 12, 12, 1)), "touch": np.ones((2, 5, 3))}
        >>> layers.ConvLSTMFusion(8)(features, mask={"touch": np.array([True, False])}).shape
        TensorShape([2, 8])
    """

    RANKS = (3, 4)

    def __init__(
        self,
        units: int,
        pooling: str | dict[str, str] = "flatten",
        kernel_initializer: Any = "glorot_uniform",
        kernel_regularizer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(units, kernel_initializer, kernel_regularizer, **kwargs)
        for one in pooling.values() if isinstance(pooling, Mapping) else [pooling]:
            if one not in ("flatten", "max"):
                raise ValueError(f"ConvLSTMFusion: unknown pooling {one!r}: use 'flatten' or 'max'")
        self.pooling = pooling
        self.fusion = ConcatFusion(units, name="fusion", **inner_options(self))

    def build_modalities(self, shapes: dict[str, Shape]) -> None:
        if isinstance(self.pooling, Mapping):
            unknown = sorted(set(self.pooling) - {name for name, shape in shapes.items() if len(shape) == 4})
            if unknown:
                raise ValueError(f"ConvLSTMFusion: pooling names {', '.join(unknown)}, no picture among {shapes}")
        self.ranks = {name: len(shape) for name, shape in shapes.items()}
        self.branches = {}
        for name, shape in shapes.items():
            options = {"name": keras_name(name), **inner_options(self)}
            if len(shape) == 4:
                pooling = self.pooling.get(name, "flatten") if isinstance(self.pooling, Mapping) else self.pooling
                self.branches[name] = Conv2DBranch(self.units, pooling=pooling, **options)
            else:
                self.branches[name] = LSTMBranch(self.units, **options)
            self.branches[name].build(shape)
        self.fusion.build({name: (None, self.units) for name in self.names})

    def fuse(self, features: Features, mask: Mask, training: bool | None) -> Tensor:
        for name, feature in features.items():
            masks.check_shape("ConvLSTMFusion", name, feature.shape, (self.ranks[name],))
        vectors = {
            name: self.branches[name](features[name], mask=mask.get(name), training=training) for name in self.names
        }
        return self.fusion(vectors, mask={name: masks.is_present(given) for name, given in mask.items()})

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "pooling": self.pooling}
