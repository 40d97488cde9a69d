"""A branch for the columns of a table."""

from typing import Any

import keras
from keras import ops

from mmkit.layers import masks
from mmkit.layers.base import check_positive
from mmkit.layers.kernels import branch_config, inner_options, settle, take_kernel_options
from mmkit.layers.types import Shape, Tensor


@keras.saving.register_keras_serializable("mmkit")
class TabularBranch(keras.layers.Layer):
    """Two dense layers over the columns of a table, of which some values may be missing.

    A missing value, NaN, counts as zero, and a second number for each column says that it is missing. Scale the columns
    first (`keras.layers.Normalization`).

    Args:
        units: int, size of the features.
        hidden: int, default 64: size of the layer between.
        activation: of both layers, default "relu".
        kernel_initializer: of both kernels, default "glorot_uniform".
        kernel_regularizer: of both kernels, default None.

    Call arguments:
        inputs: `(batch, columns)`; NaN where a value is missing.
        mask: `(batch,)` booleans, whether the example has this modality; absent ones give zeros. None: all have it.

    Returns:
        `(batch, units)`.

    Raises:
        ValueError: if a shape is wrong or a size not positive.

    Source: Van Ness, Bosschieter, Halpin-Gregorio and Udell (2023), The missing indicator method.

    Example:
        >>> import numpy as np
        >>> from mmkit import layers
        >>> rows = np.array([[0.5, np.nan, -1.0], [np.nan, np.nan, np.nan]], "float32")
        >>> features = layers.TabularBranch(4)(rows, mask=np.array([True, False]))
        >>> features.shape
        TensorShape([2, 4])
        >>> bool(np.isfinite(features).all()), np.asarray(features[1]).tolist()
        (True, [0.0, 0.0, 0.0, 0.0])
    """

    def __init__(
        self,
        units: int,
        hidden: int = 64,
        activation: str = "relu",
        kernel_initializer: Any = "glorot_uniform",
        kernel_regularizer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_positive(self, units=units, hidden=hidden)
        self.units, self.hidden, self.activation = units, hidden, activation
        take_kernel_options(self, kernel_initializer, kernel_regularizer)
        self.supports_masking = True
        options = {"activation": activation, **inner_options(self)}
        self.expansion = keras.layers.Dense(hidden, name="expansion", **options)
        self.projection = keras.layers.Dense(units, name="projection", **options)

    def build(self, input_shape: Shape) -> None:
        masks.check_shape("TabularBranch", self.name, input_shape, ranks=(2,))
        self.columns = input_shape[-1]
        self.expansion.build((None, 2 * self.columns))
        self.projection.build((None, self.hidden))
        settle(self)

    def call(self, inputs: Tensor, mask: Tensor | None = None, training: bool | None = None) -> Tensor:
        masks.check_shape("TabularBranch", self.name, inputs.shape, ranks=(2,), size=self.columns)
        if mask is not None:
            mask = masks.check_mask("TabularBranch", self.name, mask, inputs, per_step=False)
        values = masks.keep(ops.cast(inputs, self.compute_dtype), mask)
        missing = ops.isnan(values)
        values = ops.where(missing, ops.zeros_like(values), values)
        both = ops.concatenate([values, ops.cast(missing, values.dtype)], axis=-1)
        return masks.keep(self.projection(self.expansion(both)), mask)

    def compute_mask(self, inputs: Tensor, previous_mask: Tensor | None = None) -> None:
        return None

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], self.units)

    def get_config(self) -> dict[str, Any]:
        own = branch_config(self, "units", "hidden", "activation")
        return {**super().get_config(), **own}
