"""A branch for the columns of a table."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from mmkit.layers import masks


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
