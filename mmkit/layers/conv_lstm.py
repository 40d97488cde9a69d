"""Convolutions for what has space, an LSTM for what has time: from raw inputs to one vector."""

from collections.abc import Mapping
from typing import Any

import keras

from mmkit.layers import masks
from mmkit.layers.base import FusionLayer
from mmkit.layers.conv2d_branch import Conv2DBranch
from mmkit.layers.fusion import ConcatFusion
from mmkit.layers.lstm_branch import LSTMBranch


@keras.saving.register_keras_serializable("mmkit")
class ConvLSTMFusion(FusionLayer):
    """Convolutions for what has space, an LSTM for what has time, one dense layer over both: raw inputs to one vector.

    This is nn(conv(visual, auditory), touch): every modality of shape `(batch, height, width, channels)` goes through a
    `Conv2DBranch`, every one of shape `(batch, time, features)` through an `LSTMBranch`, and a `ConcatFusion` joins
    them.

    Args:
        units: size of the result, and of every branch.
        pooling: of the convolutional branches; a dict from modality name for one each, "flatten" for those left out.

    Call arguments:
        features: dict from modality name to `(batch, height, width, channels)` or `(batch, time, features)`.
        mask: dict from name to booleans: `(batch,)`, or `(batch, time)` for sequences.

    Returns:
        `(batch, units)`.

    Raises:
        ValueError: as `FusionLayer`, and if `pooling` names an unknown modality.

    Source: the branches' and ConcatFusion's.
    """

    RANKS = (3, 4)

    def __init__(self, units: int, pooling: str | dict[str, str] = "flatten", **kwargs: Any) -> None:
        super().__init__(units, **kwargs)
        self.pooling = pooling
        self.fusion = ConcatFusion(units, dtype=self.dtype_policy, name="fusion")

    def build_modalities(self, shapes: dict[str, tuple]) -> None:
        if isinstance(self.pooling, Mapping):
            unknown = sorted(set(self.pooling) - {name for name, shape in shapes.items() if len(shape) == 4})
            if unknown:
                raise ValueError(f"ConvLSTMFusion: pooling names {', '.join(unknown)}, no picture among {shapes}")
        self.ranks = {name: len(shape) for name, shape in shapes.items()}
        self.branches = {}
        for name, shape in shapes.items():
            if len(shape) == 4:
                pooling = self.pooling.get(name, "flatten") if isinstance(self.pooling, Mapping) else self.pooling
                self.branches[name] = Conv2DBranch(self.units, pooling=pooling, dtype=self.dtype_policy, name=name)
            else:
                self.branches[name] = LSTMBranch(self.units, dtype=self.dtype_policy, name=name)
            self.branches[name].build(shape)
        self.fusion.build({name: (None, self.units) for name in self.names})

    def fuse(self, features: dict[str, Any], mask: dict[str, Any], training: bool | None) -> Any:
        for name, feature in features.items():
            masks.check_shape("ConvLSTMFusion", name, feature.shape, (self.ranks[name],))
        seen = {
            name: self.branches[name](features[name], mask=mask.get(name), training=training) for name in self.names
        }
        return self.fusion(seen, mask={name: masks.is_present(given) for name, given in mask.items()})

    def get_config(self) -> dict:
        return {**super().get_config(), "pooling": self.pooling}
