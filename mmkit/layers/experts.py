"""Fusion by a few experts, chosen anew for each example."""

from typing import Any

import keras
from keras import ops

from mmkit.layers import masks
from mmkit.layers.base import FusionLayer, check_positive
from mmkit.layers.kernels import drawn_apart, inner_options
from mmkit.layers.types import Features, Mask, Shape, Tensor


@keras.saving.register_keras_serializable("mmkit")
class MixtureOfExpertsFusion(FusionLayer):
    """A mixture of experts (MoE): several small networks, and a router that chooses a few of them for each example.

    With x all vectors end to end and p = softmax(x R) over the experts: the `top_k` largest of p, scaled to add up to
    1, weigh those experts' results relu(x A_e + a_e) B_e + b_e. All experts are computed, also those not chosen: at
    this size that is quicker than to gather.

    In training the layer adds the loss `balance` * E * sum over the E experts of (share of choices) * (mean p), which
    is smallest, `balance`, when all experts are chosen equally often.

    Args:
        units: int, size of the result and of the experts' hidden layer.
        num_experts: int, E. Default 4.
        top_k: int, experts an example, at most E. Default 2.
        balance: float, weight of the balancing loss. Default 0.01.
        **kwargs: `kernel_initializer` (each expert's matrices are drawn one by one), `kernel_regularizer` and the
            others of `FusionLayer`.

    Call arguments, returns and errors as `FusionLayer`; an absent modality counts as zeros.

    Raises:
        ValueError: also if `top_k` is more than `num_experts`, or `balance` negative.

    Source: Shazeer et al. (2017), Outrageously large neural networks; the loss as Fedus, Zoph and Shazeer (2022),
    Switch transformers.

    Example:
        >>> import numpy as np
        >>> from mmkit.layers import MixtureOfExpertsFusion
        >>> fusion, features = MixtureOfExpertsFusion(32), {"image": np.ones((4, 16)), "audio": np.ones((4, 7, 8))}
        >>> tuple(fusion(features).shape), tuple(fusion.weights_of_experts(features).shape)
        ((4, 32), (4, 4))
    """

    def __init__(self, units: int, num_experts: int = 4, top_k: int = 2, balance: float = 0.01, **kwargs: Any) -> None:
        super().__init__(units, **kwargs)
        check_positive(self, num_experts=num_experts, top_k=top_k)
        if top_k > num_experts:
            raise ValueError(f"MixtureOfExpertsFusion: top_k is {top_k}, more than the {num_experts} experts")
        if balance < 0:
            raise ValueError(f"MixtureOfExpertsFusion: balance must not be negative: got {balance}")
        self.num_experts, self.top_k, self.balance = num_experts, top_k, balance

    def build_modalities(self, shapes: dict[str, Shape]) -> None:
        size, experts = sum(shape[-1] for shape in shapes.values()), self.num_experts
        options, out = inner_options(self), (experts, self.units)
        first, second = (
            {**options, "kernel_initializer": drawn_apart(self.kernel_initializer, experts, axis)} for axis in (1, 0)
        )
        self.router = keras.layers.Dense(experts, use_bias=False, name="router", **options)
        self.hidden = keras.layers.EinsumDense(
            "bi,ieh->beh", out, bias_axes="eh", activation="relu", name="hidden", **first
        )
        self.outcome = keras.layers.EinsumDense("beh,ehu->beu", out, bias_axes="eu", name="outcome", **second)
        self.router.build((None, size))
        self.hidden.build((None, size))
        self.outcome.build((None, experts, self.units))

    def weights_of_experts(self, features: Features, mask: Mask | None = None) -> Tensor:
        """What each expert counts for: `(batch, experts)`, 0 for those not chosen; a row adds up to 1.

        Args:
            features, mask: as in a call, after which alone there are experts.

        Raises:
            ValueError: as a call, and before the first one.
        """
        cast, checked = self.check(features, mask)
        return self._route(ops.concatenate(self.vectors(cast, checked), axis=-1))[0]

    def _route(self, joined: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        likely = ops.softmax(ops.cast(self.router(joined), "float32"))
        _, best = ops.top_k(likely, self.top_k)
        chosen = ops.sum(ops.one_hot(best, self.num_experts, dtype="float32"), axis=1)
        weights = likely * chosen
        return weights / ops.sum(weights, axis=-1, keepdims=True), likely, chosen

    def fuse(self, features: dict[str, Tensor], mask: dict[str, Tensor], training: bool | None) -> Tensor:
        joined = ops.concatenate(self.vectors(features, mask), axis=-1)
        weights, likely, chosen = self._route(joined)
        if training and self.balance:
            share = masks.mean_over_batch(chosen) / self.top_k
            self.add_loss(self.balance * self.num_experts * ops.sum(share * masks.mean_over_batch(likely)))
        results = self.outcome(self.hidden(joined))
        return ops.einsum("be,beu->bu", ops.cast(weights, self.compute_dtype), results)

    def get_config(self) -> dict[str, Any]:
        own = {"num_experts": self.num_experts, "top_k": self.top_k, "balance": self.balance}
        return {**super().get_config(), **own}
