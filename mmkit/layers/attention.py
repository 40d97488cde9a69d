"""Fusion by attention: modalities become tokens of one size, and tokens look at one another."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from mmkit.layers import masks
from mmkit.layers.base import FusionLayer, check_positive, dense_for_each
from mmkit.layers.modalities import ModalityEmbedding


def positions(time: Any, units: int) -> Any:
    """`(time, units)`: sines and cosines of the place, of wavelengths from 2 pi to 10,000 times that.

    Source: Vaswani et al. (2017), Attention is all you need.
    """
    unit = ops.arange(units)
    rate = ops.power(10_000.0, -ops.cast(unit // 2 * 2, "float32") / units)
    angle = ops.expand_dims(ops.cast(ops.arange(time), "float32"), 1) * rate
    return ops.where(ops.equal(unit % 2, 0), ops.sin(angle), ops.cos(angle))


class AttentionBlock(keras.layers.Layer):
    """Attention, then a small network on every token, each added to what came in (normalised first).

    Call arguments:
        tokens: `(batch, time, units)`.
        mask: `(batch, other)` booleans, which keys are there. A token that finds none takes in nothing.
        keys: `(batch, other, units)`, normalised, what the tokens look at; None: at themselves.
        training: whether to drop.

    Returns:
        `(batch, time, units)`, and the attention `(batch, heads, time, other)`.

    Source: Vaswani et al. (2017); normalised first as Xiong et al. (2020), On layer normalization in the transformer
    architecture. The projections have no biases: a key's would never matter, as softmax takes no notice of it.
    """

    def __init__(self, units: int, num_heads: int, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        policy = {"dtype": self.dtype_policy}
        self.units = units
        self.supports_masking = True
        self.attend = keras.layers.MultiHeadAttention(
            num_heads, max(1, units // num_heads), dropout=dropout, use_bias=False, name="attend", **policy
        )
        self.norms = [keras.layers.LayerNormalization(epsilon=1e-6, name=f"norm_{i}", **policy) for i in range(2)]
        self.widen = keras.layers.Dense(2 * units, activation="gelu", name="widen", **policy)
        self.narrow = keras.layers.Dense(units, name="narrow", **policy)
        self.drop = keras.layers.Dropout(dropout, name="drop", **policy)

    def build(self, tokens_shape: Sequence[int | None]) -> None:
        shape = (None, None, self.units)
        self.attend.build(shape, shape)
        for part in (*self.norms, self.widen):
            part.build(shape)
        self.narrow.build((None, None, 2 * self.units))

    def call(self, tokens: Any, mask: Any, keys: Any = None, training: bool | None = None) -> tuple[Any, Any]:
        query = self.norms[0](tokens)
        found, attention = self.attend(
            query,
            query if keys is None else keys,
            attention_mask=ops.expand_dims(mask, 1),
            return_attention_scores=True,
            training=training,
        )
        tokens = tokens + self.drop(masks.keep(found, ops.any(mask, axis=1)), training=training)
        told = self.narrow(self.widen(self.norms[1](tokens)))
        return tokens + self.drop(told, training=training), attention

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> None:
        return None  # whoever calls keeps account of what is there


class TokenFusion(FusionLayer):
    """What the attention layers share: `tokens`, which brings every modality to tokens of `units`.

    A vector becomes one token. Each token is projected, and told its modality and its place in time.

    Args:
        units: size of the result and of the tokens.
        num_heads: heads of the attention, each of `units // num_heads`, one at the least.
        num_layers: blocks of attention.
        dropout: rate at which attention and a block's results are dropped in training.
    """

    def __init__(
        self, units: int, num_heads: int = 4, num_layers: int = 2, dropout: float = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(units, **kwargs)
        check_positive(self, num_heads=num_heads, num_layers=num_layers)
        self.num_heads, self.num_layers, self.dropout = num_heads, num_layers, dropout
        self.embedding = ModalityEmbedding(dtype=self.dtype_policy, name="embedding")
        self.norm = keras.layers.LayerNormalization(epsilon=1e-6, dtype=self.dtype_policy, name="norm")

    def build_modalities(self, shapes: dict[str, tuple]) -> None:
        self.projections = dense_for_each(self, self.units, shapes)
        self.embedding.build({name: (None, None, self.units) for name in shapes})
        self.norm.build((None, None, self.units))
        self.build_blocks()

    def build_blocks(self) -> None:
        """Makes the weights that come after the tokens."""
        raise NotImplementedError

    def block(self, name: str) -> AttentionBlock:
        """A built block."""
        block = AttentionBlock(self.units, self.num_heads, self.dropout, dtype=self.dtype_policy, name=name)
        block.build((None, None, self.units))
        return block

    def blocks_for_each(self) -> dict[str, AttentionBlock]:
        """Built blocks, `num_layers` for each modality, by place and name (Keras 3.13 saves no dict inside a list)."""
        places = range(self.num_layers)
        return {f"{place}_{name}": self.block(f"block_{place}_{name}") for place in places for name in self.names}

    def learned(self, name: str, count: int) -> Any:
        """A weight of `count` learned tokens, at first about as large as the positions that the others carry."""
        return self.add_weight(
            shape=(count, self.units), initializer=keras.initializers.RandomNormal(stddev=0.5), name=name
        )

    def repeat(self, weight: Any, like: Any) -> Any:
        """A weight `(count, units)` for each example: `(batch, count, units)`."""
        shape = (ops.shape(like)[0], *weight.shape)
        return ops.broadcast_to(ops.cast(weight, self.compute_dtype), shape)

    def tokens(self, features: dict[str, Any], mask: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Each modality's tokens `(batch, time, units)`, zeros where absent, and which are there, `(batch, time)`."""
        made, there = {}, {}
        for name in self.names:
            given = mask.get(name)
            feature = masks.keep(features[name], given)
            if len(feature.shape) == 2:
                feature = ops.expand_dims(feature, 1)
            there[name] = ops.ones(ops.shape(feature)[:2], dtype="bool")
            if given is not None:
                per_step = given if len(given.shape) == 2 else ops.expand_dims(given, 1)
                there[name] = ops.logical_and(there[name], per_step)
            place = ops.cast(positions(ops.shape(feature)[1], self.units), self.compute_dtype)
            made[name] = self.projections[name](feature) + place
        return self.embedding(made, mask=there), there

    def get_config(self) -> dict:
        own = {"num_heads": self.num_heads, "num_layers": self.num_layers, "dropout": self.dropout}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("mmkit")
class CrossModalAttention(TokenFusion):
    """Every modality's tokens look at the tokens of all the others; then each takes its mean, and all are joined.

    In each block the queries are one modality's tokens, keys and values the others' as they came in. With one modality
    alone, its tokens look at themselves.

    Args:
        units: size of the result and of the tokens.
        num_heads: heads of the attention.
        num_layers: blocks for each modality.
        dropout: rate, in training.

    Call arguments, returns and errors as `FusionLayer`.

    Source: Tsai, Bai, Liang, Kolter, Morency and Salakhutdinov (2019), Multimodal transformer for unaligned multimodal
    language sequences; keys of all other modalities at once rather than of one at a time.
    """

    def __init__(
        self, units: int, num_heads: int = 4, num_layers: int = 1, dropout: float = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(units, num_heads, num_layers, dropout, **kwargs)
        self.projection = keras.layers.Dense(units, dtype=self.dtype_policy, name="projection")

    def build_blocks(self) -> None:
        self.blocks = self.blocks_for_each()
        self.projection.build((None, self.units * len(self.names)))

    def fuse(self, features: dict[str, Any], mask: dict[str, Any], training: bool | None) -> Any:
        tokens, there = self.tokens(features, mask)
        pooled = []
        for name in self.names:
            others = [other for other in self.names if other != name] or [name]
            keys = self.norm(ops.concatenate([tokens[other] for other in others], axis=1))
            seen = ops.concatenate([there[other] for other in others], axis=1)
            looking = tokens[name]
            for place in range(self.num_layers):
                looking, _ = self.blocks[f"{place}_{name}"](looking, seen, keys, training=training)
            pooled.append(masks.mean_over_time(looking, there[name]))
        return self.projection(ops.concatenate(pooled, axis=-1))


@keras.saving.register_keras_serializable("mmkit")
class BottleneckFusion(TokenFusion):
    """Each modality attends to itself and to a few shared tokens; what passes between modalities passes through those.

    In each block modality i sees its tokens and the bottleneck's, and gives new ones of both; the next bottleneck is
    the mean of what the present modalities gave. The result is a dense layer on the mean over the present modalities
    of the mean of their tokens, and on the mean of the bottleneck.

    Args:
        units: size of the result and of the tokens.
        num_bottlenecks: shared tokens.
        num_heads: heads of the attention.
        num_layers: blocks for each modality.
        dropout: rate, in training.

    Call arguments, returns and errors as `FusionLayer`.

    Source: Nagrani, Yang, Arnab, Jansen, Schmid and Sun (2021), Attention bottlenecks for multimodal fusion.
    """

    def __init__(
        self,
        units: int,
        num_bottlenecks: int = 4,
        num_heads: int = 4,
        num_layers: int = 2,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(units, num_heads, num_layers, dropout, **kwargs)
        check_positive(self, num_bottlenecks=num_bottlenecks)
        self.num_bottlenecks = num_bottlenecks
        self.projection = keras.layers.Dense(units, dtype=self.dtype_policy, name="projection")

    def build_blocks(self) -> None:
        self.bottleneck = self.learned("bottleneck", self.num_bottlenecks)
        self.blocks = self.blocks_for_each()
        self.projection.build((None, 2 * self.units))

    def fuse(self, features: dict[str, Any], mask: dict[str, Any], training: bool | None) -> Any:
        tokens, there = self.tokens(features, mask)
        shared = self.repeat(self.bottleneck, tokens[self.names[0]])
        present = {name: masks.is_present(there[name]) for name in self.names}
        for place in range(self.num_layers):
            proposed = {}
            for name in self.names:
                both = ops.concatenate([shared, tokens[name]], axis=1)
                open_ = ops.ones_like(both[:, : self.num_bottlenecks, 0], dtype="bool")
                seen = ops.concatenate([open_, there[name]], axis=1)
                both, _ = self.blocks[f"{place}_{name}"](both, seen, training=training)
                proposed[name], tokens[name] = both[:, : self.num_bottlenecks], both[:, self.num_bottlenecks :]
            shared = mean_of_present(proposed, present, otherwise=shared)
        means = {name: masks.mean_over_time(self.norm(tokens[name]), there[name]) for name in self.names}
        whole = mean_of_present(means, present)
        through = ops.mean(self.norm(shared), axis=1)
        return self.projection(ops.concatenate([whole, through], axis=-1))

    def get_config(self) -> dict:
        return {**super().get_config(), "num_bottlenecks": self.num_bottlenecks}


def mean_of_present(features: dict[str, Any], present: dict[str, Any], otherwise: Any = None) -> Any:
    """The mean over the modalities that an example has; `otherwise`, or zeros, for an example that has none.

    Args:
        features: dict from name to `(batch, ...)`, all of one shape.
        present: dict from name to `(batch,)` booleans.
        otherwise: of that shape, or None.
    """
    total = sum(masks.keep(features[name], present[name]) for name in features)
    count = sum(ops.cast(present[name], total.dtype) for name in features)
    for _ in range(len(total.shape) - 1):
        count = ops.expand_dims(count, -1)
    mean = total / ops.maximum(count, 1)
    return mean if otherwise is None else ops.where(count > 0, mean, otherwise)


@keras.saving.register_keras_serializable("mmkit")
class PerceiverFusion(TokenFusion):
    """A few learned tokens, the latents, read all modalities' tokens once, and then talk among themselves.

    The cost grows with the number of tokens, not with its square. The result is the mean of the latents.

    Args:
        units: size of the result and of the tokens.
        num_latents: learned tokens.
        num_heads: heads of the attention.
        num_layers: blocks among the latents.
        dropout: rate, in training.

    Call arguments, returns and errors as `FusionLayer`.

    Source: Jaegle et al. (2021), Perceiver: general perception with iterative attention, with one reading.
    """

    def __init__(
        self,
        units: int,
        num_latents: int = 8,
        num_heads: int = 4,
        num_layers: int = 2,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(units, num_heads, num_layers, dropout, **kwargs)
        check_positive(self, num_latents=num_latents)
        self.num_latents = num_latents
        self.last = keras.layers.LayerNormalization(epsilon=1e-6, dtype=self.dtype_policy, name="last")

    def build_blocks(self) -> None:
        self.latents = self.learned("latents", self.num_latents)
        self.read = self.block("read")
        self.blocks = [self.block(f"block_{place}") for place in range(self.num_layers)]
        self.last.build((None, None, self.units))

    def fuse(self, features: dict[str, Any], mask: dict[str, Any], training: bool | None) -> Any:
        tokens, there = self.tokens(features, mask)
        keys = self.norm(ops.concatenate(list(tokens.values()), axis=1))
        seen = ops.concatenate(list(there.values()), axis=1)
        latents = self.repeat(self.latents, keys)
        latents, _ = self.read(latents, seen, keys, training=training)
        everyone = ops.ones_like(latents[:, :, 0], dtype="bool")
        for block in self.blocks:
            latents, _ = block(latents, everyone, training=training)
        return ops.mean(self.last(latents), axis=1)

    def get_config(self) -> dict:
        return {**super().get_config(), "num_latents": self.num_latents}


@keras.saving.register_keras_serializable("mmkit")
class FusionTransformer(TokenFusion):
    """A transformer over the tokens of all modalities: every token looks at every other, of any modality.

    A learned token stands in front; what it has become after the last block is the result.

    Args:
        units: size of the result and of the tokens.
        num_heads: heads of the attention.
        num_layers: blocks.
        dropout: rate, in training.

    Call arguments, returns and errors as `FusionLayer`.

    Source: Vaswani et al. (2017), Attention is all you need, on tokens as in Kim, Son and Kim (2021), ViLT; the token
    in front is BERT's (Devlin et al., 2019).
    """

    def build_blocks(self) -> None:
        self.front = self.learned("front", 1)
        self.blocks = [self.block(f"block_{place}") for place in range(self.num_layers)]

    def spans(self, features: Mapping[str, Any]) -> dict[str, slice]:
        """Where each modality's tokens stand in `attention`; the learned token stands at 0."""
        found, start = {}, 1
        for name in self.names:
            shape = features[name].shape
            stop = start + (shape[1] if len(shape) == 3 else 1)
            found[name], start = slice(start, stop), stop
        return found

    def attention(self, features: Mapping[str, Any], mask: Mapping[str, Any] | None = None) -> Any:
        """Who looks at whom: `(batch, layers, heads, tokens, tokens)`; each row of the last axis adds up to 1."""
        return ops.stack(self._pass(*self.check(features, mask), training=False)[1], axis=1)

    def _pass(self, features: dict[str, Any], mask: dict[str, Any], training: bool | None) -> tuple[Any, list[Any]]:
        tokens, there = self.tokens(features, mask)
        front = self.repeat(self.front, tokens[self.names[0]])
        stream = ops.concatenate([front, *tokens.values()], axis=1)
        seen = ops.concatenate([ops.ones_like(front[:, :, 0], dtype="bool"), *there.values()], axis=1)
        maps = []
        for block in self.blocks:
            stream, attention = block(stream, seen, training=training)
            maps.append(attention)
        return self.norm(stream[:, 0]), maps

    def fuse(self, features: dict[str, Any], mask: dict[str, Any], training: bool | None) -> Any:
        return self._pass(features, mask, training)[0]
