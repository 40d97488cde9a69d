"""A branch for pictures and spectrograms."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from mmkit.layers import masks


@keras.saving.register_keras_serializable("mmkit")
class Conv2DBranch(keras.layers.Layer):
    """Convolutions with stride two, then a dense layer: a picture or a spectrogram becomes features.

    A token is one row of the last feature map: a strip of a picture, a stretch of time of a spectrogram whose first
    axis is time.

    Args:
        units: size of the features.
        filters: channels of each convolution; each halves height and width.
        kernel_size: height and width of the kernels.
        pooling: "flatten" keeps the place of everything, and wants a known height and width; "max" takes the largest of
            the tokens, so that it matters less where in time something is; None gives the tokens.
        activation: of every layer.

    Call arguments:
        inputs: `(batch, height, width, channels)`.
        mask: `(batch,)` booleans, whether the example has this modality; absent ones give zeros. Or None.

    Returns:
        `(batch, units)`, or `(batch, rows, units)` with its mask if `pooling` is None.

    Raises:
        ValueError: if a shape is wrong, an argument unknown, or a size not positive.

    Source: LeCun, Bottou, Bengio and Haffner (1998), Gradient-based learning applied to document recognition.
    """

    def __init__(
        self,
        units: int,
        filters: Sequence[int] = (16, 32, 64),
        kernel_size: int = 3,
        pooling: str | None = "flatten",
        activation: str = "relu",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if pooling not in ("flatten", "max", None):
            raise ValueError(f"Conv2DBranch: unknown pooling {pooling!r}: use 'flatten', 'max' or None")
        if not filters or min(units, kernel_size, *filters) < 1:
            raise ValueError(
                f"Conv2DBranch: units, kernel_size and filters must be positive: got {units}, {kernel_size}, {filters}"
            )
        self.units, self.filters, self.kernel_size = units, tuple(filters), kernel_size
        self.pooling, self.activation = pooling, activation
        self.supports_masking = True
        self.convolutions = [
            keras.layers.Conv2D(
                count,
                kernel_size,
                strides=2,
                padding="same",
                activation=activation,
                dtype=self.dtype_policy,
                name=f"convolution_{place}",
            )
            for place, count in enumerate(self.filters)
        ]
        self.projection = keras.layers.Dense(units, activation=activation, dtype=self.dtype_policy, name="projection")

    def build(self, input_shape: Sequence[int | None]) -> None:
        masks.check_shape("Conv2DBranch", self.name, input_shape, ranks=(4,))
        shape = tuple(input_shape)
        if shape[2] is None or (self.pooling == "flatten" and shape[1] is None):
            raise ValueError(
                f"Conv2DBranch with pooling={self.pooling!r}: input shape {shape} must have known height and width"
            )
        self.channels = shape[-1]
        for convolution in self.convolutions:
            convolution.build(shape)
            shape = convolution.compute_output_shape(shape)
        rows = shape[1] if self.pooling == "flatten" else 1
        self.row_size = shape[2] * shape[3]
        self.projection.build((None, rows * self.row_size))

    def call(self, inputs: Any, mask: Any = None, training: bool | None = None) -> Any:
        masks.check_shape("Conv2DBranch", self.name, inputs.shape, ranks=(4,), size=self.channels)
        if mask is not None:
            mask = masks.check_mask("Conv2DBranch", self.name, mask, inputs, per_step=False)
        seen = masks.keep(ops.cast(inputs, self.compute_dtype), mask)
        for convolution in self.convolutions:
            seen = convolution(seen)
        if self.pooling == "flatten":
            features = self.projection(ops.reshape(seen, (-1, seen.shape[1] * self.row_size)))
        else:
            rows = seen.shape[1] if seen.shape[1] is not None else ops.shape(seen)[1]
            features = self.projection(ops.reshape(seen, (-1, rows, self.row_size)))
            if self.pooling == "max":
                features = ops.max(features, axis=1)
        return masks.keep(features, mask)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        if self.pooling is not None or previous_mask is None:
            return None
        rows = self.compute_output_shape(inputs.shape)[1]
        return ops.repeat(ops.expand_dims(previous_mask, 1), rows, axis=1)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple:
        if self.pooling is not None:
            return (input_shape[0], self.units)
        rows = input_shape[1]
        for _ in self.filters:
            rows = None if rows is None else -(-rows // 2)
        return (input_shape[0], rows, self.units)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "units": self.units,
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "pooling": self.pooling,
            "activation": self.activation,
        }
