"""Fusion by attention: modalities become tokens of one size, and tokens look at one another."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from mmkit.layers import masks
from mmkit.layers.base import FusionLayer, check_positive, dense_for_each
from mmkit.layers.kernels import inner_options, keras_name
from mmkit.layers.modalities import ModalityEmbedding
from mmkit.layers.types import Features, Mask, Shape, Tensor


def positions(time: int | Tensor, units: int) -> Tensor:
    """Sines and cosines of the place in time, of wavelengths from 2 pi to 10,000 times that.

    Args:
        time: how many places.
        units: how many numbers for each.

    Returns:
        `(time, units)`, float32: sines at even units, cosines at odd ones.

    Example:
        >>> import numpy as np
        >>> np.asarray(positions(2, 4)).round(3).tolist()[0]
        [0.0, 1.0, 0.0, 1.0]

    Source: Vaswani et al. (2017), Attention is all you need.
    """
    unit = ops.arange(units)
    rate = ops.power(10_000.0, -ops.cast(unit // 2 * 2, "float32") / units)
    angle = ops.expand_dims(ops.cast(ops.arange(time), "float32"), 1) * rate
    return ops.where(ops.equal(unit % 2, 0), ops.sin(angle), ops.cos(angle))


class FlatAttention(keras.layers.MultiHeadAttention):
    """Keras's attention by several heads, with the same weights, in fewer and larger products.

    The projections of one input are one flat matrix product. What Keras's layer does with axes, causal masks, gates or
    windows is left out.

    Call arguments:
        query: `(batch, time, units)`.
        keys: `(batch, other, units)`, or None: the queries.
        seen: mask of the keys, `(batch, other)` booleans, which are there; None: all. (An argument called `mask` Keras
            would fill by itself.)
        training: whether to drop.

    Returns:
        `(batch, time, units)`, and the attention `(batch, heads, time, other)`.

    Example:
        >>> import numpy as np
        >>> attend = FlatAttention(num_heads=2, key_dim=4, use_bias=False)
        >>> attend.build((None, None, 8), (None, None, 8))
        >>> found, attention = attend(np.ones((3, 5, 8)), np.ones((3, 7, 8)))
        >>> tuple(found.shape), tuple(attention.shape)
        ((3, 5, 8), (3, 2, 5, 7))

    Source: Vaswani et al. (2017), Attention is all you need.
    """

    def call(
        self, query: Tensor, keys: Tensor | None = None, seen: Tensor | None = None, training: bool | None = None
    ) -> tuple[Tensor, Tensor]:
        if keys is None:
            looking, looked_at, values = self._heads(query, self.query_dense, self.key_dense, self.value_dense)
        else:
            (looking,) = self._heads(query, self.query_dense)
            looked_at, values = self._heads(keys, self.key_dense, self.value_dense)
        logits = ops.matmul(looking * self.key_dim**-0.5, ops.transpose(looked_at, (0, 1, 3, 2)))
        if seen is not None:
            absent = ops.cast(ops.logical_not(seen), logits.dtype)[:, None, None, :]
            logits += absent * (-3e4 if keras.backend.standardize_dtype(logits.dtype) == "float16" else -1e9)
        attention = ops.softmax(logits)
        found = ops.matmul(self._dropout_layer(attention, training=training), values)
        return self._joined(ops.transpose(found, (0, 2, 1, 3))), attention

    def _heads(self, tokens: Tensor, *projections: keras.layers.EinsumDense) -> list[Tensor]:
        """What each projection makes of the tokens, `(batch, heads, time, size)`."""
        if any(projection.quantization_mode for projection in projections):
            return [ops.transpose(projection(tokens), (0, 2, 1, 3)) for projection in projections]
        kernel = ops.cast(ops.concatenate([one.kernel for one in projections], axis=1), tokens.dtype)
        units, heads, size = kernel.shape
        made = flat_product(tokens, ops.reshape(kernel, (units, heads * size)))
        made = ops.reshape(made, (*ops.shape(tokens)[:2], heads, size))
        return ops.split(ops.transpose(made, (0, 2, 1, 3)), len(projections), axis=1)

    def _joined(self, found: Tensor) -> Tensor:
        """What the last projection makes of `(batch, time, heads, size)`: `(batch, time, units)`."""
        if self.output_dense.quantization_mode:
            return self.output_dense(found)
        heads, size, units = self.output_dense.kernel.shape
        kernel = ops.cast(ops.reshape(self.output_dense.kernel, (heads * size, units)), found.dtype)
        return flat_product(ops.reshape(found, (*ops.shape(found)[:2], heads * size)), kernel)


def flat_product(tokens: Tensor, kernel: Tensor) -> Tensor:
    """`tokens @ kernel` as a product of two flat matrices, which processors do faster than one for each example.

    Args:
        tokens: `(batch, time, units)`.
        kernel: `(units, other)`.

    Returns:
        `(batch, time, other)`.
    """
    units, other = kernel.shape
    product = ops.matmul(ops.reshape(tokens, (-1, units)), kernel)
    return ops.reshape(product, (*ops.shape(tokens)[:2], other))


class AttentionBlock(keras.layers.Layer):
    """Attention, then a small network on every token, each added to what came in (normalised first).

    Args:
        units: size of the tokens.
        num_heads: heads of the attention, each of `units // num_heads`, one at the least.
        dropout: rate at which attention and both results are dropped in training.
        name: as of every Keras layer.
        **inner: what goes to the Keras layers inside: `dtype`, `kernel_initializer`, `kernel_regularizer`.

    Call arguments:
        tokens: `(batch, time, units)`.
        seen: mask of the keys, `(batch, other)` booleans, which are there; None: all. A token that finds none takes in
            nothing.
        keys: `(batch, other, units)`, normalised, what the tokens look at; None: at themselves.
        training: whether to drop.

    Returns:
        `(batch, time, units)`, and the attention `(batch, heads, time, other)`.

    Example:
        >>> import numpy as np
        >>> block = AttentionBlock(8, num_heads=2)
        >>> tokens, attention = block(np.ones((3, 5, 8)))
        >>> tuple(tokens.shape), tuple(attention.shape)
        ((3, 5, 8), (3, 2, 5, 5))

    Source: Vaswani et al. (2017); normalised first as Xiong et al. (2020), On layer normalization in the transformer
    architecture. The projections have no biases: a key's would never matter, as softmax takes no notice of it.
    """

    def __init__(self, units: int, num_heads: int, dropout: float = 0.0, name: str | None = None, **inner: Any) -> None:
        super().__init__(name=name, dtype=inner.get("dtype"))
        policy = {"dtype": self.dtype_policy}
        self.units = units
        self.supports_masking = True
        size = max(1, units // num_heads)
        self.attend = FlatAttention(num_heads, size, dropout=dropout, use_bias=False, name="attend", **inner)
        self.norms = [keras.layers.LayerNormalization(epsilon=1e-6, name=f"norm_{i}", **policy) for i in range(2)]
        self.widen = keras.layers.Dense(2 * units, activation="gelu", name="widen", **inner)
        self.narrow = keras.layers.Dense(units, name="narrow", **inner)
        self.drop = keras.layers.Dropout(dropout, name="drop", **policy)

    def build(self, tokens_shape: Shape) -> None:
        shape = (None, None, self.units)
        self.attend.build(shape, shape)
        for part in (*self.norms, self.widen):
            part.build(shape)
        self.narrow.build((None, None, 2 * self.units))

    def call(
        self, tokens: Tensor, seen: Tensor | None = None, keys: Tensor | None = None, training: bool | None = None
    ) -> tuple[Tensor, Tensor]:
        found, attention = self.attend(self.norms[0](tokens), keys, seen, training=training)
        anything = None if seen is None else ops.any(seen, axis=1)
        tokens = tokens + self.drop(masks.keep(found, anything), training=training)
        told = self.narrow(self.widen(self.norms[1](tokens)))
        return tokens + self.drop(told, training=training), attention

    def compute_mask(self, inputs: Tensor, previous_mask: Any = None) -> None:
        return None  # whoever calls keeps account of what is there


class TokenFusion(FusionLayer):
    """What the attention layers share: `tokens`, which brings every modality to tokens of `units`.

    A vector becomes one token. Each token is projected, and told its modality and its place in time.

    Args:
        units: size of the result and of the tokens.
        num_heads: heads of the attention, each of `units // num_heads`, one at the least.
        num_layers: blocks of attention.
        dropout: rate at which attention and a block's results are dropped in training.
        kernel_initializer, kernel_regularizer: of all kernels, as Keras takes them.

    Raises:
        ValueError: if a size is not positive, or an initializer or regularizer is unknown.
    """

    def __init__(
        self, units: int, num_heads: int = 4, num_layers: int = 2, dropout: float = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(units, **kwargs)
        check_positive(self, num_heads=num_heads, num_layers=num_layers)
        self.num_heads, self.num_layers, self.dropout = num_heads, num_layers, dropout
        self.embedding = ModalityEmbedding(dtype=self.dtype_policy, name="embedding")
        self.norm = keras.layers.LayerNormalization(epsilon=1e-6, dtype=self.dtype_policy, name="norm")

    def build_modalities(self, shapes: dict[str, Shape]) -> None:
        self.projections = dense_for_each(self, self.units, shapes)
        self.embedding.build({name: (None, None, self.units) for name in shapes})
        self.norm.build((None, None, self.units))

    def block(self, name: str) -> AttentionBlock:
        """A built block."""
        block = AttentionBlock(self.units, self.num_heads, self.dropout, name=name, **inner_options(self))
        block.build((None, None, self.units))
        return block

    def blocks_for_each(self) -> dict[str, AttentionBlock]:
        """Built blocks, `num_layers` for each modality, by place and name (Keras 3.13 saves no dict inside a list)."""
        places = range(self.num_layers)
        return {
            f"{place}_{name}": self.block(keras_name(name, f"block_{place}_"))
            for place in places
            for name in self.names
        }

    def learned(self, name: str, count: int) -> Tensor:
        """A weight of `count` learned tokens, at first about as large as the positions that the others carry."""
        return self.add_weight(
            shape=(count, self.units), initializer=keras.initializers.RandomNormal(stddev=0.5), name=name
        )

    def repeat(self, weight: Tensor, like: Tensor) -> Tensor:
        """A weight `(count, units)` for each example: `(batch, count, units)`."""
        shape = (ops.shape(like)[0], *weight.shape)
        return ops.broadcast_to(ops.cast(weight, self.compute_dtype), shape)

    def tokens(
        self, features: dict[str, Tensor], mask: dict[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Each modality's tokens `(batch, time, units)`, zeros where absent; masks `(batch, time)` of those with one.

        Without a mask, nothing has to be masked in the blocks: that is a good part of their time.
        """
        made, there = {}, {}
        for name in self.names:
            given = mask.get(name)
            feature = masks.keep(features[name], given)
            if len(feature.shape) == 2:
                feature = ops.expand_dims(feature, 1)
            time = ops.shape(feature)[1]
            if given is not None:
                there[name] = masks.per_step(given, feature)
            made[name] = self.projections[name](feature) + ops.cast(positions(time, self.units), self.compute_dtype)
        return self.embedding(made, mask=there), there

    def get_config(self) -> dict[str, Any]:
        own = {"num_heads": self.num_heads, "num_layers": self.num_layers, "dropout": self.dropout}
        return {**super().get_config(), **own}


def joined(parts: Sequence[Tensor], there: Sequence[Tensor | None]) -> tuple[Tensor, Tensor | None]:
    """Tokens one after the other, and their mask.

    Args:
        parts: tensors `(batch, time, units)`, times that differ.
        there: for each its mask `(batch, time)`, or None if all of it is there.

    Returns:
        `(batch, all times, units)`, and `(batch, all times)`, or None if there is no mask at all.
    """
    tokens = ops.concatenate(parts, axis=1)
    if all(mask is None for mask in there):
        return tokens, None
    filled = [ops.ones(ops.shape(part)[:2], dtype="bool") if mask is None else mask for part, mask in zip(parts, there)]
    return tokens, ops.concatenate(filled, axis=1)


@keras.saving.register_keras_serializable("mmkit")
class CrossModalAttention(TokenFusion):
    """MulT, cross-modal attention: each modality's tokens look at all others'; then the means of all are joined.

    In each block the queries are one modality's tokens, keys and values the others' as they came in. With one modality
    alone, its tokens look at themselves.

    Args:
        units: size of the result and of the tokens.
        num_heads: heads of the attention.
        num_layers: blocks for each modality.
        dropout: rate, in training.
        kernel_initializer, kernel_regularizer: of all kernels, as Keras takes them.

    Call arguments, returns and errors as `FusionLayer`.

    Example:
        >>> import numpy as np
        >>> from mmkit.layers import CrossModalAttention
        >>> layer = CrossModalAttention(8, num_heads=2)
        >>> features = {"image": np.ones((2, 3)), "audio": np.ones((2, 5, 4))}
        >>> present = {"image": np.array([True, False])}
        >>> tuple(layer(features, mask=present).shape)
        (2, 8)

    Source: Tsai, Bai, Liang, Kolter, Morency and Salakhutdinov (2019), Multimodal transformer for unaligned multimodal
    language sequences; keys of all other modalities at once rather than of one at a time.
    """

    def __init__(
        self, units: int, num_heads: int = 4, num_layers: int = 1, dropout: float = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(units, num_heads, num_layers, dropout, **kwargs)
        self.projection = keras.layers.Dense(units, name="projection", **inner_options(self))

    def build_modalities(self, shapes: dict[str, Shape]) -> None:
        super().build_modalities(shapes)
        self.blocks = self.blocks_for_each()
        self.projection.build((None, self.units * len(self.names)))

    def fuse(self, features: dict[str, Tensor], mask: dict[str, Tensor], training: bool | None) -> Tensor:
        tokens, there = self.tokens(features, mask)
        pooled = []
        for name in self.names:
            others = [other for other in self.names if other != name] or [name]
            keys, seen = joined([tokens[other] for other in others], [there.get(other) for other in others])
            keys, looking = self.norm(keys), tokens[name]
            for place in range(self.num_layers):
                looking, _ = self.blocks[f"{place}_{name}"](looking, seen, keys, training=training)
            pooled.append(masks.mean_over_time(looking, there.get(name)))
        return self.projection(ops.concatenate(pooled, axis=-1))


@keras.saving.register_keras_serializable("mmkit")
class BottleneckFusion(TokenFusion):
    """MBT, attention bottlenecks: each modality attends to itself and to a few shared tokens, and nothing else passes.

    In each block modality i sees its tokens and the bottleneck's, and gives new ones of both; the next bottleneck is
    the mean of what the present modalities gave. The result is a dense layer on the mean over the present modalities
    of the mean of their tokens, and on the mean of the bottleneck.

    Args:
        units: size of the result and of the tokens.
        num_bottlenecks: shared tokens.
        num_heads: heads of the attention.
        num_layers: blocks for each modality.
        dropout: rate, in training.
        kernel_initializer, kernel_regularizer: of all kernels, as Keras takes them.

    Call arguments, returns and errors as `FusionLayer`.

    Example:
        >>> import numpy as np
        >>> from mmkit.layers import BottleneckFusion
        >>> layer = BottleneckFusion(8, num_bottlenecks=2, num_heads=2)
        >>> features = {"image": np.ones((2, 3)), "audio": np.ones((2, 5, 4))}
        >>> present = {"image": np.array([True, False])}
        >>> tuple(layer(features, mask=present).shape)
        (2, 8)

    Source: Nagrani, Yang, Arnab, Jansen, Schmid and Sun (2021), Attention bottlenecks for multimodal fusion.
    """

    def __init__(
        self, units: int, num_bottlenecks: int = 4, num_heads: int = 4, num_layers: int = 2, **kwargs: Any
    ) -> None:
        super().__init__(units, num_heads, num_layers, **kwargs)
        check_positive(self, num_bottlenecks=num_bottlenecks)
        self.num_bottlenecks = num_bottlenecks
        self.projection = keras.layers.Dense(units, name="projection", **inner_options(self))

    def build_modalities(self, shapes: dict[str, Shape]) -> None:
        super().build_modalities(shapes)
        self.bottleneck = self.learned("bottleneck", self.num_bottlenecks)
        self.blocks = self.blocks_for_each()
        self.projection.build((None, 2 * self.units))

    def fuse(self, features: dict[str, Tensor], mask: dict[str, Tensor], training: bool | None) -> Tensor:
        tokens, there = self.tokens(features, mask)
        shared = self.repeat(self.bottleneck, tokens[self.names[0]])
        present = {name: masks.is_present(given) for name, given in there.items()}
        for place in range(self.num_layers):
            proposed = {}
            for name in self.names:
                both, seen = joined([shared, tokens[name]], [None, there.get(name)])
                both, _ = self.blocks[f"{place}_{name}"](both, seen, training=training)
                proposed[name], tokens[name] = both[:, : self.num_bottlenecks], both[:, self.num_bottlenecks :]
            shared = mean_of_present(proposed, present, otherwise=shared)
        means = {name: masks.mean_over_time(self.norm(tokens[name]), there.get(name)) for name in self.names}
        whole = mean_of_present(means, present)
        through = ops.mean(self.norm(shared), axis=1)
        return self.projection(ops.concatenate([whole, through], axis=-1))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_bottlenecks": self.num_bottlenecks}


def mean_of_present(features: dict[str, Tensor], present: dict[str, Tensor], otherwise: Tensor | None = None) -> Tensor:
    """The mean over the modalities that an example has; `otherwise`, or zeros, for an example that has none.

    Args:
        features: dict from name to `(batch, ...)`, all of one shape.
        present: dict from name to `(batch,)` booleans; a name left out is present.
        otherwise: of that shape, or None.

    Example:
        >>> import numpy as np
        >>> mean = mean_of_present({"a": np.array([[2.0]]), "b": np.array([[4.0]])}, {"b": np.array([False])})
        >>> float(mean[0][0])
        2.0
    """
    total = sum(masks.keep(feature, present.get(name)) for name, feature in features.items())
    always = len(features) - len(present)
    if not present:
        return total / always
    count = always + sum(ops.cast(given, total.dtype) for given in present.values())
    for _ in range(len(total.shape) - 1):
        count = ops.expand_dims(count, -1)
    mean = total / ops.maximum(count, 1)
    return mean if otherwise is None else ops.where(count > 0, mean, otherwise)


@keras.saving.register_keras_serializable("mmkit")
class PerceiverFusion(TokenFusion):
    """Perceiver: a few learned tokens, the latents, read all modalities' tokens once, then talk among themselves.

    The cost grows with the number of tokens, not with its square. The result is the mean of the latents.

    Args:
        units: size of the result and of the tokens.
        num_latents: learned tokens.
        num_heads: heads of the attention.
        num_layers: blocks among the latents.
        dropout: rate, in training.
        kernel_initializer, kernel_regularizer: of all kernels, as Keras takes them.

    Call arguments, returns and errors as `FusionLayer`.

    Example:
        >>> import numpy as np
        >>> from mmkit.layers import PerceiverFusion
        >>> layer = PerceiverFusion(8, num_latents=2, num_heads=2)
        >>> features = {"image": np.ones((2, 3)), "audio": np.ones((2, 5, 4))}
        >>> present = {"image": np.array([True, False])}
        >>> tuple(layer(features, mask=present).shape)
        (2, 8)

    Source: Jaegle et al. (2021), Perceiver: general perception with iterative attention, with one reading.
    """

    def __init__(
        self, units: int, num_latents: int = 8, num_heads: int = 4, num_layers: int = 2, **kwargs: Any
    ) -> None:
        super().__init__(units, num_heads, num_layers, **kwargs)
        check_positive(self, num_latents=num_latents)
        self.num_latents = num_latents
        self.last = keras.layers.LayerNormalization(epsilon=1e-6, dtype=self.dtype_policy, name="last")

    def build_modalities(self, shapes: dict[str, Shape]) -> None:
        super().build_modalities(shapes)
        self.latents = self.learned("latents", self.num_latents)
        self.read = self.block("read")
        self.blocks = [self.block(f"block_{place}") for place in range(self.num_layers)]
        self.last.build((None, None, self.units))

    def fuse(self, features: dict[str, Tensor], mask: dict[str, Tensor], training: bool | None) -> Tensor:
        tokens, there = self.tokens(features, mask)
        keys, seen = joined([tokens[name] for name in self.names], [there.get(name) for name in self.names])
        keys = self.norm(keys)
        latents, _ = self.read(self.repeat(self.latents, keys), seen, keys, training=training)
        for block in self.blocks:
            latents, _ = block(latents, training=training)
        return ops.mean(self.last(latents), axis=1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_latents": self.num_latents}


@keras.saving.register_keras_serializable("mmkit")
class FusionTransformer(TokenFusion):
    """ViLT's way, a transformer over the tokens of all modalities: each looks at every other, of any modality.

    A learned token stands in front; what it has become after the last block is the result.

    Args:
        units: size of the result and of the tokens.
        num_heads: heads of the attention.
        num_layers: blocks.
        dropout: rate, in training.
        kernel_initializer, kernel_regularizer: of all kernels, as Keras takes them.

    Call arguments, returns and errors as `FusionLayer`.

    Example:
        >>> import numpy as np
        >>> from mmkit.layers import FusionTransformer
        >>> layer = FusionTransformer(8, num_heads=2)
        >>> features = {"image": np.ones((2, 3)), "audio": np.ones((2, 5, 4))}
        >>> present = {"image": np.array([True, False])}
        >>> tuple(layer(features, mask=present).shape)
        (2, 8)
        >>> tuple(layer.attention(features, present).shape)  # batch, layers, heads, tokens, tokens
        (2, 2, 2, 7, 7)
        >>> layer.spans(features)
        {'audio': slice(1, 6, None), 'image': slice(6, 7, None)}

    Source: Vaswani et al. (2017), Attention is all you need, on tokens as in Kim, Son and Kim (2021), ViLT; the token
    in front is BERT's (Devlin et al., 2019).
    """

    def build_modalities(self, shapes: dict[str, Shape]) -> None:
        super().build_modalities(shapes)
        self.front = self.learned("front", 1)
        self.blocks = [self.block(f"block_{place}") for place in range(self.num_layers)]

    def spans(self, features: Features) -> dict[str, slice]:
        """Where each modality's tokens stand in `attention`; the learned token stands at 0.

        Args:
            features: as in a call.

        Returns:
            From modality to slice.

        Raises:
            ValueError: if the layer has not been called, `features` do not fit it, or a time is not known.
        """
        features, _ = self.check(features, None)
        found, start = {}, 1
        for name, feature in features.items():
            time = feature.shape[1] if len(feature.shape) == 3 else 1
            if time is None:
                raise ValueError(
                    f"{type(self).__name__}: modality {name!r} has shape {tuple(feature.shape)}, but spans need "
                    "a known time: hand over an array, or an Input with its time"
                )
            found[name], start = slice(start, start + time), start + time
        return found

    def attention(self, features: Features, mask: Mask | None = None) -> Tensor:
        """Who looks at whom: `(batch, layers, heads, tokens, tokens)`; each row of the last axis adds up to 1.

        Args:
            features, mask: as in a call.

        Raises:
            ValueError: if the layer has not been called, or `features` or `mask` do not fit it.
        """
        stream, seen = self.stream(*self.check(features, mask))
        maps = []
        for block in self.blocks:
            stream, attention = block(stream, seen)
            maps.append(attention)
        return ops.stack(maps, axis=1)

    def stream(self, features: dict[str, Tensor], mask: dict[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        """The learned token and all others, `(batch, tokens, units)`, and their mask, or None if all are there."""
        tokens, there = self.tokens(features, mask)
        front = self.repeat(self.front, tokens[self.names[0]])
        return joined([front, *tokens.values()], [None, *(there.get(name) for name in tokens)])

    def fuse(self, features: dict[str, Tensor], mask: dict[str, Tensor], training: bool | None) -> Tensor:
        stream, seen = self.stream(features, mask)
        *blocks, last = self.blocks
        for block in blocks:
            stream, _ = block(stream, seen, training=training)
        # Of the last block only the first token is read, so only that one is computed. It looks at all the others.
        front, _ = last(stream[:, :1], seen, last.norms[0](stream), training=training)
        return self.norm(front[:, 0])
