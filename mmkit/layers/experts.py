"""Fusion by a few experts, chosen anew for each example."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from mmkit.layers.base import FusionLayer, check_positive


@keras.saving.register_keras_serializable("mmkit")
class MixtureOfExpertsFusion(FusionLayer):
    """Several small networks, the experts, and a router that chooses a few of them for each example.

    With x all vectors end to end and p = softmax(x R) over the experts: the `top_k` largest of p, scaled to add up to
    1, weigh those experts' results relu(x A_e + a_e) B_e + b_e. All experts are computed, also those not chosen: at
    this size that is quicker than to gather.

    In training the layer adds the loss `balance` * E * sum over the E experts of (share of choices) * (mean p), which
    is smallest, `balance`, when all experts are chosen equally often.

    Args:
        units: size of the result and of the experts' hidden layer.
        num_experts: E.
        top_k: experts an example, at most E.
        balance: weight of the balancing loss.

    Call arguments, returns and errors as `FusionLayer`; an absent modality counts as zeros.

    Source: Shazeer et al. (2017), Outrageously large neural networks; the loss as Fedus, Zoph and Shazeer (2022),
    Switch transformers.
    """

    def __init__(self, units: int, num_experts: int = 4, top_k: int = 2, balance: float = 0.01, **kwargs: Any) -> None:
        super().__init__(units, **kwargs)
        check_positive(self, num_experts=num_experts, top_k=top_k)
        if top_k > num_experts:
            raise ValueError(f"MixtureOfExpertsFusion: top_k is {top_k}, more than the {num_experts} experts")
        if balance < 0:
            raise ValueError(f"MixtureOfExpertsFusion: balance must not be negative: got {balance}")
        self.num_experts, self.top_k, self.balance = num_experts, top_k, balance

    def build_modalities(self, shapes: dict[str, tuple]) -> None:
        size = sum(shape[-1] for shape in shapes.values())
        experts, policy = self.num_experts, {"dtype": self.dtype_policy}
        self.router = keras.layers.Dense(experts, use_bias=False, name="router", **policy)
        self.hidden = keras.layers.EinsumDense(
            "bi,ieh->beh", (experts, self.units), bias_axes="eh", activation="relu", name="hidden", **policy
        )
        self.outcome = keras.layers.EinsumDense(
            "beh,ehu->beu", (experts, self.units), bias_axes="eu", name="outcome", **policy
        )
        self.router.build((None, size))
        self.hidden.build((None, size))
        self.outcome.build((None, experts, self.units))

    def weights_of_experts(self, features: Mapping[str, Any], mask: Mapping[str, Any] | None = None) -> Any:
        """What each expert counts for: `(batch, experts)`, 0 for those not chosen; a row adds up to 1."""
        cast, given = self.check(features, mask)
        return self._route(ops.concatenate(self.vectors(cast, given), axis=-1))[0]

    def _route(self, joined: Any) -> tuple[Any, Any, Any]:
        likely = ops.softmax(ops.cast(self.router(joined), "float32"))
        _, best = ops.top_k(likely, self.top_k)
        chosen = ops.sum(ops.one_hot(best, self.num_experts, dtype="float32"), axis=1)
        weights = likely * chosen
        return weights / ops.sum(weights, axis=-1, keepdims=True), likely, chosen

    def fuse(self, features: dict[str, Any], mask: dict[str, Any], training: bool | None) -> Any:
        joined = ops.concatenate(self.vectors(features, mask), axis=-1)
        weights, likely, chosen = self._route(joined)
        if training and self.balance:
            share = ops.mean(chosen, axis=0) / self.top_k
            self.add_loss(self.balance * self.num_experts * ops.sum(share * ops.mean(likely, axis=0)))
        results = self.outcome(self.hidden(joined))
        return ops.einsum("be,beu->bu", ops.cast(weights, self.compute_dtype), results)

    def get_config(self) -> dict:
        own = {"num_experts": self.num_experts, "top_k": self.top_k, "balance": self.balance}
        return {**super().get_config(), **own}
