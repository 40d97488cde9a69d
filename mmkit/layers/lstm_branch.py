"""A branch for sequences."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from mmkit.layers import masks


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
