"""Fusion by products: every combination of the modalities' features, in full and in a few factors."""

import math
from typing import Any

import keras
from keras import ops

from mmkit.layers.base import FusionLayer, check_positive, dense_for_each
from mmkit.layers.kernels import drawn_apart, inner_options, keras_name
from mmkit.layers.types import Shape, Tensor

LARGEST_TENSOR = 1_000_000  # combinations of features an example; above this the layer would not fit a small machine


def with_one(vector: Tensor) -> Tensor:
    """`(batch, size)` to `(batch, size + 1)`: a 1 in front, so that a product holds the lower orders too."""
    return ops.concatenate([ops.ones_like(vector[:, :1]), vector], axis=-1)


@keras.saving.register_keras_serializable("mmkit")
class TensorFusion(FusionLayer):
    """Tensor fusion (TFN): the outer product of all vectors, each with a 1 in front, and one dense layer on it.

    With z_i = [1, v_i]: the result is f(sum over j, k, ... of W_jk... z_1j z_2k ... + b). It holds every single
    feature, every pair and so on; its size is the product of the sizes, so the vectors are made small first.

    Args:
        units: int, size of the result.
        size: int, v_i = tanh(x_i U_i + c_i) has this many features; None: v_i = x_i. Default 8.
        activation: f, as `keras.layers.Dense` takes it. Default "relu".
        **kwargs: `kernel_initializer`, `kernel_regularizer` and the others of `FusionLayer`.

    Call arguments, returns and errors as `FusionLayer`; an absent modality has z_i = [1, 0, ..., 0].

    Raises:
        ValueError: also if the product of the sizes is more than a million.

    Source: Zadeh, Chen, Poria, Cambria and Morency (2017), Tensor fusion network for multimodal sentiment analysis.

    Example:
        >>> import numpy as np
        >>> from mmkit.layers import TensorFusion
        >>> tuple(TensorFusion(32, size=4)({"image": np.ones((4, 16)), "audio": np.ones((4, 7, 8))}).shape)
        (4, 32)
    """

    def __init__(self, units: int, size: int | None = 8, activation: Any = "relu", **kwargs: Any) -> None:
        super().__init__(units, **kwargs)
        if size is not None:
            check_positive(self, size=size)
        self.size, self.activation = size, activation
        self.projection = keras.layers.Dense(units, activation=activation, name="projection", **inner_options(self))

    def build_modalities(self, shapes: dict[str, Shape]) -> None:
        sizes = [self.size or shape[-1] for shape in shapes.values()]
        combinations = math.prod(size + 1 for size in sizes)
        if combinations > LARGEST_TENSOR:
            raise ValueError(
                f"TensorFusion: {dict(zip(shapes, sizes))} make {combinations:,} combinations, more than "
                f"{LARGEST_TENSOR:,}: use a smaller size, or LowRankFusion"
            )
        self.small = {}
        if self.size is not None:
            self.small = dense_for_each(self, self.size, shapes, activation="tanh", prefix="small_")
        self.projection.build((None, combinations))

    def fuse(self, features: dict[str, Tensor], mask: dict[str, Tensor], training: bool | None) -> Tensor:
        vectors = self.vectors(features, mask)
        if self.small:
            vectors = self.for_present(self.small, vectors, mask)
        product = with_one(vectors[0])
        for vector in vectors[1:]:
            factor = with_one(vector)
            wide = product.shape[-1] * factor.shape[-1]
            product = ops.reshape(ops.expand_dims(product, 2) * ops.expand_dims(factor, 1), (-1, wide))
        return self.projection(product)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size, "activation": self.activation}


@keras.saving.register_keras_serializable("mmkit")
class LowRankFusion(FusionLayer):
    """Low-rank fusion (LMF): tensor fusion with weights that are a sum of `rank` products, and no outer product.

    With z_i = [1, x_i] and factors F_i^r `(size + 1, units)`: f(sum over r of the product over i of z_i F_i^r, + b).
    At full rank, the product of all sizes + 1 but one, it can be any `TensorFusion` with `size=None`.

    Each factor is drawn as a matrix of its own and, with n modalities, divided by rank^(1 / 2n). So with the default
    initializer the sum begins with variance 1 for features of variance 1, however many modalities there are.

    Args:
        units: int, size of the result.
        rank: int, products in the sum. Default 4.
        activation: f, as `keras.layers.Activation` takes it. Default "relu".
        kernel_initializer: of each factor. Default "lecun_normal": variance 1 / (size + 1).
        **kwargs: `kernel_regularizer` and the others of `FusionLayer`.

    Call arguments, returns and errors as `FusionLayer`; an absent modality has z_i = [1, 0, ..., 0].

    Source: Liu, Shen, Lakshminarasimhan, Liang, Zadeh and Morency (2018), Efficient low-rank multimodal fusion with
    modality-specific factors. Every factor here is a weight of the layer and trains.

    Example:
        >>> import numpy as np
        >>> from mmkit.layers import LowRankFusion
        >>> tuple(LowRankFusion(32, rank=2)({"image": np.ones((4, 16)), "audio": np.ones((4, 7, 8))}).shape)
        (4, 32)
    """

    def __init__(
        self,
        units: int,
        rank: int = 4,
        activation: Any = "relu",
        kernel_initializer: Any = "lecun_normal",
        **kwargs: Any,
    ) -> None:
        super().__init__(units, kernel_initializer=kernel_initializer, **kwargs)
        check_positive(self, rank=rank)
        self.rank, self.activation = rank, activation
        self.last = keras.layers.Activation(activation, dtype=self.dtype_policy, name="last")

    def build_modalities(self, shapes: dict[str, Shape]) -> None:
        each, scale = drawn_apart(self.kernel_initializer, self.rank, axis=1), self.rank ** (-0.5 / len(shapes))

        def side_by_side(shape: Shape, dtype: str | None = None) -> Tensor:
            return scale * ops.reshape(each((shape[0], self.rank, self.units), dtype), shape)

        self.factors = {
            name: self.add_weight(
                shape=(shape[-1] + 1, self.rank * self.units),
                initializer=side_by_side,
                regularizer=self.kernel_regularizer,
                name=keras_name(name, "factors_"),
            )
            for name, shape in shapes.items()
        }
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")

    def fuse(self, features: dict[str, Tensor], mask: dict[str, Tensor], training: bool | None) -> Tensor:
        product = 1
        for name, vector in zip(self.names, self.vectors(features, mask)):
            product = product * ops.matmul(with_one(vector), ops.cast(self.factors[name], self.compute_dtype))
        terms = ops.reshape(product, (-1, self.rank, self.units))
        return self.last(ops.sum(terms, axis=1) + ops.cast(self.bias, self.compute_dtype))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rank": self.rank, "activation": self.activation}
