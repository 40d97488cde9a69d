"""Fusion by products: every combination of the modalities' features, in full and in a few factors."""

import math
from typing import Any

import keras
from keras import ops

from mmkit.layers.base import FusionLayer, check_positive, dense_for_each

LARGEST_TENSOR = 1_000_000  # combinations of features an example; above this the layer would not fit a small machine


def with_one(vector: Any) -> Any:
    """`(batch, size)` to `(batch, size + 1)`: a 1 in front, so that a product holds the lower orders too."""
    return ops.concatenate([ops.ones_like(vector[:, :1]), vector], axis=-1)


@keras.saving.register_keras_serializable("mmkit")
class TensorFusion(FusionLayer):
    """The outer product of all vectors, each with a 1 in front, and one dense layer on it.

    With z_i = [1, v_i]: the result is f(sum over j, k, ... of W_jk... z_1j z_2k ... + b). It holds every single
    feature, every pair and so on; its size is the product of the sizes, so the vectors are made small first.

    Args:
        units: size of the result.
        size: v_i = tanh(x_i U_i + c_i) has this many features; None: v_i = x_i.
        activation: f.

    Call arguments, returns and errors as `FusionLayer`; an absent modality has z_i = [1, 0, ..., 0].

    Raises:
        ValueError: also if the product of the sizes is more than a million.

    Source: Zadeh, Chen, Poria, Cambria and Morency (2017), Tensor fusion network for multimodal sentiment analysis.
    """

    def __init__(self, units: int, size: int | None = 8, activation: str = "relu", **kwargs: Any) -> None:
        super().__init__(units, **kwargs)
        if size is not None:
            check_positive(self, size=size)
        self.size, self.activation = size, activation
        self.projection = keras.layers.Dense(units, activation=activation, dtype=self.dtype_policy, name="projection")

    def build_modalities(self, shapes: dict[str, tuple]) -> None:
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

    def fuse(self, features: dict[str, Any], mask: dict[str, Any], training: bool | None) -> Any:
        vectors = self.vectors(features, mask)
        if self.small:
            vectors = self.for_present(self.small, vectors, mask)
        product = with_one(vectors[0])
        for vector in vectors[1:]:
            factor = with_one(vector)
            wide = product.shape[-1] * factor.shape[-1]
            product = ops.reshape(ops.expand_dims(product, 2) * ops.expand_dims(factor, 1), (-1, wide))
        return self.projection(product)

    def get_config(self) -> dict:
        return {**super().get_config(), "size": self.size, "activation": self.activation}


@keras.saving.register_keras_serializable("mmkit")
class LowRankFusion(FusionLayer):
    """Tensor fusion whose weights are a sum of `rank` products, so that the outer product is never made.

    With z_i = [1, x_i] and factors F_i^r `(size + 1, units)`: f(sum over r of the product over i of z_i F_i^r, + b).
    At full rank, the product of all sizes + 1 but one, it can be any `TensorFusion` with `size=None`.

    Args:
        units: size of the result.
        rank: products in the sum.
        activation: f.

    Call arguments, returns and errors as `FusionLayer`; an absent modality has z_i = [1, 0, ..., 0].

    Source: Liu, Shen, Lakshminarasimhan, Liang, Zadeh and Morency (2018), Efficient low-rank multimodal fusion with
    modality-specific factors. Every factor here is a weight of the layer and trains.
    """

    def __init__(self, units: int, rank: int = 4, activation: str = "relu", **kwargs: Any) -> None:
        super().__init__(units, **kwargs)
        check_positive(self, rank=rank)
        self.rank, self.activation = rank, activation
        self.last = keras.layers.Activation(activation, dtype=self.dtype_policy, name="last")

    def build_modalities(self, shapes: dict[str, tuple]) -> None:
        self.factors = {
            name: self.add_weight(
                shape=(shape[-1] + 1, self.rank * self.units), initializer="glorot_uniform", name=f"factors_{name}"
            )
            for name, shape in shapes.items()
        }
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")

    def fuse(self, features: dict[str, Any], mask: dict[str, Any], training: bool | None) -> Any:
        product = 1
        for name, vector in zip(self.names, self.vectors(features, mask)):
            product = product * ops.matmul(with_one(vector), ops.cast(self.factors[name], self.compute_dtype))
        terms = ops.reshape(product, (-1, self.rank, self.units))
        return self.last(ops.sum(terms, axis=1) + ops.cast(self.bias, self.compute_dtype))

    def get_config(self) -> dict:
        return {**super().get_config(), "rank": self.rank, "activation": self.activation}
