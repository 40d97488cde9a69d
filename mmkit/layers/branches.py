"""Branches: from one modality, as it comes, to features."""

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


def _orthogonal(shape: Sequence[int], dtype: str | None = None) -> Any:
    """Keras's orthogonal matrix, computed in float32: in bfloat16 TensorFlow has no QR decomposition."""
    return ops.cast(keras.initializers.Orthogonal()(shape, dtype="float32"), dtype or keras.config.floatx())


@keras.saving.register_keras_serializable("mmkit")
class LSTMBranch(keras.layers.Layer):
    """A long short-term memory over a sequence: its last state, or its state after each step.

    Args:
        units: size of the state.
        tokens: whether to give the state after each step.

    Call arguments:
        inputs: `(batch, time, features)`; time may differ from batch to batch.
        mask: `(batch, time)` booleans, which steps are there, or `(batch,)`, whether the sequence is there at all.
            Steps that are not there leave the state as it was; a sequence of none gives zeros. Or None.

    Returns:
        `(batch, units)`, or `(batch, time, units)` with its mask if `tokens`.

    Raises:
        ValueError: if a shape is wrong or `units` not positive.

    Source: Hochreiter and Schmidhuber (1997), Long short-term memory.
    """

    def __init__(self, units: int, tokens: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if units < 1:
            raise ValueError(f"LSTMBranch: units must be positive: got {units}")
        self.units, self.tokens = units, tokens
        self.supports_masking = True
        self.memory = keras.layers.LSTM(
            units, return_sequences=tokens, recurrent_initializer=_orthogonal, dtype=self.dtype_policy, name="memory"
        )

    def build(self, input_shape: Sequence[int | None]) -> None:
        masks.check_shape("LSTMBranch", self.name, input_shape, ranks=(3,))
        self.size = input_shape[-1]
        self.memory.build(tuple(input_shape))

    def call(self, inputs: Any, mask: Any = None, training: bool | None = None) -> Any:
        masks.check_shape("LSTMBranch", self.name, inputs.shape, ranks=(3,), size=self.size)
        steps = None
        if mask is not None:
            mask = masks.check_mask("LSTMBranch", self.name, mask, inputs, per_step=True)
            steps = self._per_step(mask, inputs)
        states = self.memory(masks.keep(ops.cast(inputs, self.compute_dtype), mask), mask=steps, training=training)
        return masks.keep(states, steps if self.tokens else None if mask is None else masks.is_present(mask))

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        if not self.tokens or previous_mask is None:
            return None
        return self._per_step(previous_mask, inputs)

    @staticmethod
    def _per_step(mask: Any, inputs: Any) -> Any:
        if len(mask.shape) == 2:
            return mask
        return ops.logical_and(ops.expand_dims(mask, 1), ops.ones(ops.shape(inputs)[:2], dtype="bool"))

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple:
        return (*input_shape[: 2 if self.tokens else 1], self.units)

    def get_config(self) -> dict:
        return {**super().get_config(), "units": self.units, "tokens": self.tokens}


@keras.saving.register_keras_serializable("mmkit")
class TabularBranch(keras.layers.Layer):
    """Two dense layers over the columns of a table, of which some values may be missing.

    A missing value, NaN, counts as zero, and a second number for each column says that it is missing. Scale the columns
    first (`keras.layers.Normalization`).

    Args:
        units: size of the features.
        hidden: size of the layer between.
        activation: of both layers.

    Call arguments:
        inputs: `(batch, columns)`; NaN where a value is missing.
        mask: `(batch,)` booleans, whether the example has this modality; absent ones give zeros. Or None.

    Returns:
        `(batch, units)`.

    Raises:
        ValueError: if a shape is wrong or a size not positive.

    Source: Van Ness, Bosschieter, Halpin-Gregorio and Udell (2023), The missing indicator method.
    """

    def __init__(self, units: int, hidden: int = 64, activation: str = "relu", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if min(units, hidden) < 1:
            raise ValueError(f"TabularBranch: units and hidden must be positive: got {units}, {hidden}")
        self.units, self.hidden, self.activation = units, hidden, activation
        self.supports_masking = True
        kwargs = {"activation": activation, "dtype": self.dtype_policy}
        self.expansion = keras.layers.Dense(hidden, name="expansion", **kwargs)
        self.projection = keras.layers.Dense(units, name="projection", **kwargs)

    def build(self, input_shape: Sequence[int | None]) -> None:
        masks.check_shape("TabularBranch", self.name, input_shape, ranks=(2,))
        self.columns = input_shape[-1]
        self.expansion.build((None, 2 * self.columns))
        self.projection.build((None, self.hidden))

    def call(self, inputs: Any, mask: Any = None, training: bool | None = None) -> Any:
        masks.check_shape("TabularBranch", self.name, inputs.shape, ranks=(2,), size=self.columns)
        if mask is not None:
            mask = masks.check_mask("TabularBranch", self.name, mask, inputs, per_step=False)
        values = masks.keep(ops.cast(inputs, self.compute_dtype), mask)
        missing = ops.isnan(values)
        values = ops.where(missing, ops.zeros_like(values), values)
        both = ops.concatenate([values, ops.cast(missing, values.dtype)], axis=-1)
        return masks.keep(self.projection(self.expansion(both)), mask)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> None:
        return None

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple:
        return (input_shape[0], self.units)

    def get_config(self) -> dict:
        own = {"units": self.units, "hidden": self.hidden, "activation": self.activation}
        return {**super().get_config(), **own}
