"""Fusion that adapts: experts chosen for each input, and gradients balanced between the modalities."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from mmkit.layers import masks
from mmkit.layers.fusion import FusionLayer, check_positive, dense_for_each


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


@keras.saving.register_keras_serializable("mmkit")
class OGMGE(FusionLayer):
    """A linear head that holds back the modality that learns fastest: on-the-fly gradient modulation.

    The result are logits: z = sum over the present modalities of x_i W_i, + b. In training, if the labels come too,
    modality i's score s_i is the mean over its examples of the probability that x_i W_i + b / n alone gives the label,
    and rho_i is s_i over the mean of the other modalities' scores. Where rho_i > 1, the gradient that goes back into
    x_i, to its branch, is multiplied by 1 - tanh(alpha * rho_i); the head's own gradient and the logits stay as they
    are. With `noise`, normal noise as widely spread as that gradient is added to it (generalisation enhancement).

    Train it with SGD: Adam divides each weight's gradient by its size, and so undoes most of a constant factor.

    Labels come as an input of the model: `head(features, labels=labels)`; a model for use afterwards leaves them out.

    Args:
        units: classes.
        alpha: how strongly to hold back.
        noise: whether to add noise to the gradients that are held back.
        seed: of the noise, or None.

    Call arguments:
        features, mask: as `FusionLayer`.
        labels: whole numbers `(batch,)`, or None. Used in training only; the loss is taken to be the mean
            cross-entropy of the logits.

    Returns:
        Logits `(batch, units)`.

    Raises:
        ValueError: as `FusionLayer`, and if `labels` has another shape.

    Source: Peng, Wei, Deng, Wang and Hu (2022), Balanced multimodal learning via on-the-fly gradient modulation, which
    has two modalities; its code adds noise to the gradients of all branches' convolutions, here it goes to the features
    of a modality that is held back.
    """

    def __init__(
        self, units: int, alpha: float = 0.5, noise: bool = True, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(units, **kwargs)
        if alpha < 0:
            raise ValueError(f"OGMGE: alpha must not be negative: got {alpha}")
        self.alpha, self.noise, self.seed = alpha, noise, seed
        self.generator = keras.random.SeedGenerator(seed)

    def build_modalities(self, shapes: dict[str, tuple]) -> None:
        self.heads = dense_for_each(self, self.units, shapes, use_bias=False, prefix="head_")
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")

    def call(
        self,
        features: Mapping[str, Any],
        mask: Mapping[str, Any] | None = None,
        training: bool | None = None,
        labels: Any = None,
    ) -> Any:
        cast, given = self.check(features, mask)
        vectors = self.vectors(cast, given)
        if training and labels is not None:
            if len(labels.shape) != 1:
                raise ValueError(f"OGMGE: labels have shape {tuple(labels.shape)}, wanted whole numbers (batch,)")
            vectors = self._modulate(vectors, given, ops.cast(labels, "int32"))
        return self._logits(vectors)

    def _logits(self, vectors: list[Any]) -> Any:
        terms = [self.heads[name](vector) for name, vector in zip(self.names, vectors)]
        return ops.sum(ops.stack(terms), axis=0) + ops.cast(self.bias, self.compute_dtype)

    def coefficients(
        self, features: Mapping[str, Any], labels: Any, mask: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """What each modality's gradient is multiplied by on this batch: dict from name to a number."""
        cast, given = self.check(features, mask)
        found = self._coefficients(self.vectors(cast, given), given, ops.cast(labels, "int32"))
        return dict(zip(self.names, found))

    def _coefficients(self, vectors: list[Any], mask: dict[str, Any], labels: Any) -> list[Any]:
        truth, scores = ops.one_hot(labels, self.units, dtype="float32"), []
        for name, vector in zip(self.names, vectors):
            logits = ops.cast(self.heads[name](vector), "float32") + ops.cast(self.bias, "float32") / len(self.names)
            right = ops.sum(ops.softmax(logits) * truth, axis=-1)
            there = ops.ones_like(right)
            if name in mask:
                there = ops.cast(masks.is_present(mask[name]), "float32")
            scores.append(ops.sum(right * there) / ops.maximum(ops.sum(there), 1))
        found = []
        for place, score in enumerate(scores):
            others = scores[:place] + scores[place + 1 :] or [score]
            rho = score / ops.maximum(sum(others) / len(others), 1e-6)
            found.append(ops.where(rho > 1, 1 - ops.tanh(self.alpha * rho), ops.ones_like(rho)))
        return [ops.stop_gradient(one) for one in found]

    def _modulate(self, vectors: list[Any], mask: dict[str, Any], labels: Any) -> list[Any]:
        """The vectors as they are, but with other gradients."""
        error = ops.softmax(ops.cast(self._logits(vectors), "float32")) - ops.one_hot(labels, self.units)
        error = error / ops.cast(ops.shape(error)[0], "float32")  # the mean cross-entropy's gradient to the logits
        modulated = []
        for name, vector, factor in zip(self.names, vectors, self._coefficients(vectors, mask, labels)):
            if self.noise:
                kernel = ops.cast(self.heads[name].kernel, "float32")
                gradient = factor * ops.matmul(error, ops.transpose(kernel))
                gradient = masks.keep(gradient, masks.presence(mask, name))
                spread = ops.where(factor < 1, ops.std(gradient), 0.0)
                draw = spread * keras.random.normal(ops.shape(vector), seed=self.generator, dtype="float32")
                wide = ops.cast(vector, "float32")
                # Worth nothing, with the noise as its gradient. What is absent is a constant, and stays so.
                self.add_loss(ops.sum(ops.stop_gradient(draw) * (wide - ops.stop_gradient(wide))))
            factor = ops.cast(factor, vector.dtype)
            modulated.append(factor * vector + (1 - factor) * ops.stop_gradient(vector))
        return modulated

    def get_config(self) -> dict:
        return {**super().get_config(), "alpha": self.alpha, "noise": self.noise, "seed": self.seed}
