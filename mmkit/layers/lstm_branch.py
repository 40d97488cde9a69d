"""A branch for sequences."""

from typing import Any

import keras
from keras import ops

from mmkit.layers import masks
from mmkit.layers.base import check_positive
from mmkit.layers.kernels import branch_config, inner_options, settle, take_kernel_options
from mmkit.layers.types import Shape, Tensor


def _orthogonal(shape: Shape, dtype: str | None = None) -> Tensor:
    """Keras's orthogonal matrix, computed in float32: in bfloat16 TensorFlow has no QR decomposition."""
    return ops.cast(keras.initializers.Orthogonal()(shape, dtype="float32"), dtype or keras.config.floatx())


@keras.saving.register_keras_serializable("mmkit")
class LSTMBranch(keras.layers.Layer):
    """A long short-term memory (LSTM) over a sequence: its last state, or its state after each step.

    It runs on the GPU's own kernel (cuDNN) wherever Keras's LSTM does, whatever the mask.

    Args:
        units: int, size of the features.
        tokens: bool, default False: whether to give the state after each step.
        num_layers: int, default 1: how many LSTMs, each over the states of the one below.
        bidirectional: bool, default False: whether each layer is two LSTMs, one of which reads from the last step to
            the first. Each has `units // 2` states, and the two are joined side by side, so `units` must be even.
        dropout: float, default 0: share of each LSTM's inputs dropped in training, the same at all steps.
        kernel_initializer: of the inputs' kernels, default "glorot_uniform". Those of the states are orthogonal.
        kernel_regularizer: of the inputs' kernels, default None.

    Call arguments:
        inputs: `(batch, time, features)`; time may differ from batch to batch.
        mask: `(batch, time)` booleans, which steps are there, or `(batch,)`, whether the sequence is there at all.
            Steps that are not there leave the state as it was, in both directions; a sequence of none gives zeros.
            None: all steps are there.

    Returns:
        `(batch, units)`, or `(batch, time, units)` with its mask if `tokens`.

    Raises:
        ValueError: if a shape is wrong, a size not positive, `dropout` not in [0, 1), or `units` odd though
            `bidirectional`.

    Source: Hochreiter and Schmidhuber (1997), Long short-term memory; in two directions: Schuster and Paliwal (1997),
    Bidirectional recurrent neural networks.

    Example:
        >>> import numpy as np
        >>> from mmkit import layers
        >>> sequences = np.ones((2, 5, 3), "float32")
        >>> steps = np.arange(5) < np.array([[5], [2]])  # the second one is shorter: three steps of padding
        >>> branch = layers.LSTMBranch(8, num_layers=2, bidirectional=True)
        >>> features = branch(sequences, mask=steps)
        >>> features.shape
        TensorShape([2, 8])
        >>> np.allclose(features[1], branch(sequences[1:, :2])[0], atol=1e-6)
        True
    """

    def __init__(
        self,
        units: int,
        tokens: bool = False,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        kernel_initializer: Any = "glorot_uniform",
        kernel_regularizer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_positive(self, units=units, num_layers=num_layers)
        if bidirectional and units % 2:
            raise ValueError(f"LSTMBranch: units must be even if bidirectional, half of them a direction: got {units}")
        if not 0 <= dropout < 1:
            raise ValueError(f"LSTMBranch: dropout must be at least 0 and below 1: got {dropout}")
        self.units, self.tokens, self.num_layers = units, tokens, num_layers
        self.bidirectional, self.dropout = bidirectional, dropout
        take_kernel_options(self, kernel_initializer, kernel_regularizer)
        self.supports_masking = True
        self.memory = self._lstm(0)
        self.upper = [self._lstm(depth) for depth in range(1, num_layers)]
        self.backward = [self._lstm(depth, backwards=True) for depth in range(num_layers if bidirectional else 0)]

    def _lstm(self, depth: int, backwards: bool = False) -> keras.layers.LSTM:
        return keras.layers.LSTM(
            self.units // 2 if self.bidirectional else self.units,
            return_sequences=self.tokens or depth < self.num_layers - 1,
            go_backwards=backwards,
            dropout=self.dropout,
            recurrent_initializer=_orthogonal,
            name=("backward" if backwards else "memory") + (f"_{depth}" if depth else ""),
            **inner_options(self),
        )

    def build(self, input_shape: Shape) -> None:
        masks.check_shape("LSTMBranch", self.name, input_shape, ranks=(3,))
        self.size = input_shape[-1]
        for depth, forward in enumerate([self.memory, *self.upper]):
            size = self.units if depth else self.size
            for lstm in [forward, *self.backward[depth : depth + 1]]:
                lstm.build((None, None, size))
        settle(self)

    def call(self, inputs: Tensor, mask: Tensor | None = None, training: bool | None = None) -> Tensor:
        masks.check_shape("LSTMBranch", self.name, inputs.shape, ranks=(3,), size=self.size)
        if mask is not None:
            mask = masks.check_mask("LSTMBranch", self.name, mask, inputs, per_step=True)
        states = masks.keep(ops.cast(inputs, self.compute_dtype), mask)
        if mask is None or len(mask.shape) == 1:
            return masks.keep(self._run(states, None, training), mask)
        # cuDNN wants at least one step of each sequence, and all that are there before those that are not.
        count = ops.sum(ops.cast(mask, "int32"), axis=1, keepdims=True)
        step = ops.arange(ops.shape(inputs)[1], dtype="int32")
        packed = _steps_of(states, ops.argsort(ops.where(mask, step, step + ops.shape(inputs)[1]), axis=1))
        states = self._run(packed, step < ops.maximum(count, 1), training)
        if self.tokens:
            return masks.keep(_steps_of(states, ops.maximum(ops.cumsum(ops.cast(mask, "int32"), axis=1) - 1, 0)), mask)
        return masks.keep(states, masks.is_present(mask))

    def _run(self, states: Tensor, mask: Tensor | None, training: bool | None) -> Tensor:
        """All LSTMs over sequences whose steps that are there come first."""
        for depth, forward in enumerate([self.memory, *self.upper]):
            below, states = states, forward(states, mask=mask, training=training)
            if self.bidirectional:
                other = self.backward[depth](below, mask=mask, training=training)
                states = ops.concatenate([states, ops.flip(other, axis=1) if len(other.shape) == 3 else other], axis=-1)
        return states

    def compute_mask(self, inputs: Tensor, previous_mask: Tensor | None = None) -> Tensor | None:
        return masks.per_step(previous_mask, inputs) if self.tokens and previous_mask is not None else None

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape[: 2 if self.tokens else 1], self.units)

    def get_config(self) -> dict[str, Any]:
        own = branch_config(self, "units", "tokens", "num_layers", "bidirectional", "dropout")
        return {**super().get_config(), **own}


def _steps_of(states: Tensor, places: Tensor) -> Tensor:
    """The states `(batch, time, units)` of each sequence at `places`, `(batch, time)` whole numbers."""
    batch, time, units = ops.shape(states)
    first = ops.expand_dims(ops.arange(batch, dtype="int32") * time, 1)
    return ops.take(ops.reshape(states, (-1, units)), first + ops.cast(places, "int32"), axis=0)
