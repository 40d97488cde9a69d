"""A branch for pictures and spectrograms."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from mmkit.layers import masks
from mmkit.layers.base import check_positive
from mmkit.layers.kernels import branch_config, inner_options, settle, take_kernel_options
from mmkit.layers.types import Shape, Tensor


@keras.saving.register_keras_serializable("mmkit")
class Conv2DBranch(keras.layers.Layer):
    """Convolutions with stride two, then a dense layer: a picture or a spectrogram becomes features.

    A token is one row of the last feature map: a strip of a picture, a stretch of time of a spectrogram whose first
    axis is time. Spectrograms of unequal length are padded with rows at their end, and a mask says which rows are
    there. A padded spectrogram then gives what it gives alone: neither the contents nor the number of padding rows
    changes the result.

    Args:
        units: int, size of the features.
        filters: ints, default `(16, 32, 64)`: channels of each convolution; each halves height and width.
        kernel_size: int, default 3: height and width of the kernels.
        pooling: "flatten" (default) keeps the place of everything, and wants a known height and width; "max" takes the
            largest of the tokens, so that it matters less where in time something is; None gives the tokens.
        activation: of every layer, default "relu".
        kernel_initializer: of every kernel, default "glorot_uniform".
        kernel_regularizer: of every kernel, default None.

    Call arguments:
        inputs: `(batch, height, width, channels)`; without "flatten" the height may differ from batch to batch.
        mask: booleans, `(batch,)`, whether the example has this modality, or `(batch, height)`, which of its rows
            are there. Absent ones count as rows outside of the picture do, and give zeros. None: all are there.

    Returns:
        `(batch, units)`, or `(batch, rows, units)` with its mask if `pooling` is None: a token is there if one of the
        `2 ** len(filters)` rows that it stands for is.

    Raises:
        ValueError: if a shape is wrong, an argument unknown, or a size not positive.

    Source: LeCun, Bottou, Bengio and Haffner (1998), Gradient-based learning applied to document recognition.

    Example:
        >>> import numpy as np
        >>> from mmkit import layers
        >>> spectrograms = np.ones((2, 9, 32, 1), "float32")
        >>> rows = np.arange(9) < np.array([[9], [4]])  # the second one is shorter: five rows of padding
        >>> branch = layers.Conv2DBranch(8, pooling="max")
        >>> features = branch(spectrograms, mask=rows)
        >>> features.shape
        TensorShape([2, 8])
        >>> np.allclose(features[1], branch(spectrograms[1:, :4])[0], atol=1e-6)
        True
    """

    def __init__(
        self,
        units: int,
        filters: Sequence[int] = (16, 32, 64),
        kernel_size: int = 3,
        pooling: str | None = "flatten",
        activation: str = "relu",
        kernel_initializer: Any = "glorot_uniform",
        kernel_regularizer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if pooling not in ("flatten", "max", None):
            raise ValueError(f"Conv2DBranch: unknown pooling {pooling!r}: use 'flatten', 'max' or None")
        check_positive(self, units=units, kernel_size=kernel_size, filters=min(filters, default=0))
        self.units, self.filters, self.kernel_size = units, tuple(filters), kernel_size
        self.pooling, self.activation = pooling, activation
        take_kernel_options(self, kernel_initializer, kernel_regularizer)
        self.supports_masking = True
        options = {"activation": activation, **inner_options(self)}
        self.convolutions = [
            keras.layers.Conv2D(count, kernel_size, strides=2, padding="same", name=f"convolution_{place}", **options)
            for place, count in enumerate(self.filters)
        ]
        self.projection = keras.layers.Dense(units, name="projection", **options)

    def build(self, input_shape: Shape) -> None:
        masks.check_shape("Conv2DBranch", self.name, input_shape, ranks=(4,))
        shape = tuple(input_shape)
        if shape[2] is None or (self.pooling == "flatten" and shape[1] is None):
            raise ValueError(
                f"Conv2DBranch with pooling={self.pooling!r}: input shape {shape} must have known height and width"
            )
        self.built_for = shape[1:]
        for convolution in self.convolutions:
            convolution.build(shape)
            shape = convolution.compute_output_shape(shape)
        self.rows = shape[1] if self.pooling == "flatten" else 1
        self.row_size = shape[2] * shape[3]
        self.projection.build((None, self.rows * self.row_size))
        settle(self)

    def call(self, inputs: Tensor, mask: Tensor | None = None, training: bool | None = None) -> Tensor:
        masks.check_shape("Conv2DBranch", self.name, inputs.shape, ranks=(4,), size=self.built_for[-1])
        self._check_size(inputs.shape)
        if mask is not None:
            mask = masks.check_mask("Conv2DBranch", self.name, mask, inputs, per_step=True)
        seen = _one_at_least(masks.keep(ops.cast(inputs, self.compute_dtype), mask))
        rows = _one_at_least(mask) if mask is not None and len(mask.shape) == 2 else None
        for convolution in self.convolutions:
            if rows is None:
                seen = convolution(seen)
            else:  # absent rows are zeros to each convolution, as what lies outside of the picture is
                seen, rows = convolution(self._aligned(seen, rows)), _halved(rows)
                seen = masks.keep(seen, rows)
        if self.pooling == "flatten":
            features = self.projection(ops.reshape(seen, (-1, self.rows * self.row_size)))
        else:
            features = self.projection(ops.reshape(seen, (-1, ops.shape(seen)[1], self.row_size)))
            if self.pooling == "max":
                if rows is not None:
                    features = ops.where(ops.expand_dims(rows, -1), features, -float("inf"))
                features = ops.max(features, axis=1)
            elif rows is not None:
                features = masks.keep(features, rows)
        return masks.keep(features[: ops.shape(inputs)[0]], None if mask is None else masks.is_present(mask))

    def _check_size(self, shape: Shape) -> None:
        """Raises a ValueError if the picture is of another size than the weights were made for."""
        wanted = (self.built_for[0] if self.pooling == "flatten" else None, self.built_for[1])
        if any(None not in (size, one) and size != one for size, one in zip(shape[1:3], wanted)):
            raise ValueError(
                f"Conv2DBranch: modality {self.name!r} has shape {tuple(shape)}, but the layer was built for "
                f"(batch, {wanted[0] or 'height'}, {wanted[1]}, {self.built_for[-1]})"
            )

    def _aligned(self, seen: Tensor, rows: Tensor) -> Tensor:
        """`seen` with each example placed so that the next convolution meets it as if it had no padding rows.

        With padding "same" and stride two, a kernel of odd size begins one row before the first one if the height is
        odd, and on the first one if it is even. So every example is given an even height, and one whose rows that are
        there are odd in number is moved down by one.
        """
        if self.kernel_size % 2 == 0 or self.kernel_size == 1:
            return seen  # these begin at the same row either way
        height = ops.shape(seen)[1]
        even = height + height % 2
        count = ops.max(ops.where(rows, ops.arange(1, height + 1), 0), axis=1, initial=0)  # to the last that is there
        padded = ops.pad(seen, ((0, 0), (1, 1), (0, 0), (0, 0)))
        odd = ops.reshape(count % 2 == 1, (-1, 1, 1, 1))
        return ops.where(odd, padded[:, :even], padded[:, 1 : 1 + even])

    def compute_mask(self, inputs: Tensor, previous_mask: Tensor | None = None) -> Tensor | None:
        if self.pooling is not None or previous_mask is None:
            return None
        rows = masks.per_step(previous_mask, inputs)
        for _ in self.filters:
            rows = _halved(rows)
        return rows

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        if self.pooling is not None:
            return (input_shape[0], self.units)
        rows = input_shape[1]
        for _ in self.filters:
            rows = None if rows is None else -(-rows // 2)
        return (input_shape[0], rows, self.units)

    def get_config(self) -> dict[str, Any]:
        own = branch_config(self, "units", "filters", "kernel_size", "pooling", "activation")
        return {**super().get_config(), **own}


def _halved(rows: Tensor) -> Tensor:
    """The mask of the rows after a convolution with stride two: a row is there if one of the two it stands for is."""
    numbers = ops.cast(ops.expand_dims(rows, -1), "float32")
    return ops.cast(ops.max_pool(numbers, 2, strides=2, padding="same")[..., 0], "bool")


def _one_at_least(batch: Tensor) -> Tensor:
    """The batch, or if it is empty one example of zeros.

    A replica may get no example of the last batch, and TensorFlow gives the convolution of none a wrong shape (oneDNN).
    """
    if isinstance(batch.shape[0], int) and batch.shape[0] > 0:
        return batch
    first, *rest = ops.shape(batch)
    return ops.concatenate([batch, ops.zeros((ops.maximum(1 - first, 0), *rest), dtype=batch.dtype)], axis=0)
