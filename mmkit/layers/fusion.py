"""Fusion layers: from the features of several modalities to one vector. All share one call."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from mmkit.layers import masks
from mmkit.layers.branches import Conv2DBranch, LSTMBranch


def check_positive(layer: keras.layers.Layer, **numbers: int) -> None:
    """Raises a ValueError that names the layer and the argument if a number is below one."""
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{type(layer).__name__}: {name} must be positive: got {number}")


def dense_for_each(
    layer: keras.layers.Layer, units: int, shapes: Mapping[str, tuple], prefix: str = "projection_", **kwargs: Any
) -> dict[str, keras.layers.Dense]:
    """A built dense layer for each modality, by name."""
    made = {}
    for name, shape in shapes.items():
        made[name] = keras.layers.Dense(units, dtype=layer.dtype_policy, name=f"{prefix}{name}", **kwargs)
        made[name].build(shape)
    return made


class FusionLayer(keras.layers.Layer):
    """What all fusion layers share: `layer(features, mask=None, training=None)`, its checks, and absence.

    A subclass sets `RANKS`, makes its weights in `build_modalities` and computes in `fuse`.

    Args:
        units: size of the result.

    Call arguments:
        features: dict from modality name to `(batch, units)` or `(batch, time, units)`. Any names, any number of them,
            any units, times that differ.
        mask: dict from name to booleans, `(batch,)` or, for tokens, `(batch, time)`. A name left out is present.

    Returns:
        `(batch, units)`.

    Raises:
        ValueError: if a name is missing or unknown, or a shape is wrong; it names the modality and the shapes.
    """

    RANKS: tuple[int, ...] = (2, 3)

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_positive(self, units=units)
        self.units = units
        self.supports_masking = True

    def build(self, features_shape: Mapping[str, Sequence[int | None]]) -> None:
        kind = type(self).__name__
        self.names = masks.check_names(kind, features_shape)
        for name in self.names:
            masks.check_shape(kind, name, features_shape[name], self.RANKS)
        self.sizes = {name: features_shape[name][-1] for name in self.names}
        self.build_modalities({name: tuple(features_shape[name]) for name in self.names})

    def call(
        self, features: Mapping[str, Any], mask: Mapping[str, Any] | None = None, training: bool | None = None
    ) -> Any:
        return self.fuse(*self.check(features, mask), training)

    def check(
        self, features: Mapping[str, Any], mask: Mapping[str, Any] | None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The features in the layer's dtype, in sorted order, and the masks that were given, all checked."""
        kind = type(self).__name__
        masks.check_names(kind, features, self.names)
        for name in self.names:
            masks.check_shape(kind, name, features[name].shape, self.RANKS, self.sizes[name])
        given = masks.check_masks(kind, features, mask)
        return {name: ops.cast(features[name], self.compute_dtype) for name in self.names}, given

    def build_modalities(self, shapes: dict[str, tuple]) -> None:
        """Makes the weights. `shapes`: from name, in sorted order, to shape."""
        raise NotImplementedError

    def fuse(self, features: dict[str, Any], mask: dict[str, Any], training: bool | None) -> Any:
        """Computes `(batch, units)`. `mask` holds the modalities that came with one, checked and boolean."""
        raise NotImplementedError

    def vectors(self, features: dict[str, Any], mask: dict[str, Any]) -> list[Any]:
        """One vector `(batch, size)` per modality, in sorted order: tokens by their mean, zeros for what is absent."""
        pooled = []
        for name in self.names:
            feature, given = features[name], mask.get(name)
            pooled.append(
                masks.mean_over_time(feature, given) if len(feature.shape) == 3 else masks.keep(feature, given)
            )
        return pooled

    def for_present(self, layers: dict[str, Any], vectors: list[Any], mask: dict[str, Any]) -> list[Any]:
        """Each modality's layer on its vector, in sorted order, zeros for what is absent."""
        return [
            masks.keep(layers[name](vector), masks.presence(mask, name)) for name, vector in zip(self.names, vectors)
        ]

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> None:
        return None  # the result is one vector an example: there is nothing left to mask

    def compute_output_shape(self, features_shape: Mapping[str, Sequence[int | None]]) -> tuple:
        return (next(iter(features_shape.values()))[0], self.units)

    def get_config(self) -> dict:
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable("mmkit")
class ConcatFusion(FusionLayer):
    """Lays the vectors end to end and puts one dense layer on top: the baseline of every comparison.

    Args:
        units: size of the result.
        activation: of the dense layer.

    Call arguments, returns and errors as `FusionLayer`; an absent modality counts as zeros.

    Source: Ngiam, Khosla, Kim, Nam, Lee and Ng (2011), Multimodal deep learning.
    """

    def __init__(self, units: int, activation: str = "relu", **kwargs: Any) -> None:
        super().__init__(units, **kwargs)
        self.activation = activation
        self.projection = keras.layers.Dense(units, activation=activation, dtype=self.dtype_policy, name="projection")

    def build_modalities(self, shapes: dict[str, tuple]) -> None:
        self.projection.build((None, sum(shape[-1] for shape in shapes.values())))

    def fuse(self, features: dict[str, Any], mask: dict[str, Any], training: bool | None) -> Any:
        return self.projection(ops.concatenate(self.vectors(features, mask), axis=-1))

    def get_config(self) -> dict:
        return {**super().get_config(), "activation": self.activation}


@keras.saving.register_keras_serializable("mmkit")
class SumFusion(FusionLayer):
    """Brings every vector to the same size and adds them up: f(sum over the present modalities of x_i W_i + b_i).

    Args:
        units: size of the result.
        activation: f.

    Call arguments, returns and errors as `FusionLayer`.

    Source: Baltrusaitis, Ahuja and Morency (2019), Multimodal machine learning: a survey and taxonomy (joint
    representations).
    """

    def __init__(self, units: int, activation: str = "relu", **kwargs: Any) -> None:
        super().__init__(units, **kwargs)
        self.activation = activation
        self.last = keras.layers.Activation(activation, dtype=self.dtype_policy, name="last")

    def build_modalities(self, shapes: dict[str, tuple]) -> None:
        self.projections = dense_for_each(self, self.units, shapes)

    def terms(self, vectors: list[Any], mask: dict[str, Any]) -> list[Any]:
        """What is added up: `(batch, units)` for each modality, in sorted order, zeros for what is absent."""
        return self.for_present(self.projections, vectors, mask)

    def fuse(self, features: dict[str, Any], mask: dict[str, Any], training: bool | None) -> Any:
        return self.last(ops.sum(ops.stack(self.terms(self.vectors(features, mask), mask)), axis=0))

    def get_config(self) -> dict:
        return {**super().get_config(), "activation": self.activation}


@keras.saving.register_keras_serializable("mmkit")
class FiLMFusion(SumFusion):
    """Feature-wise linear modulation: every modality is scaled and shifted, unit by unit, by what the others hold.

    With vectors x_i, and x_-i the others' laid end to end: h_i = x_i W_i + b_i, gamma_i = x_-i G_i, beta_i = x_-i B_i,
    and the result is f(sum over the present modalities of (1 + gamma_i) * h_i + beta_i).

    Args:
        units: size of the result.
        activation: f.

    Call arguments, returns and errors as `FusionLayer`; to the others an absent modality counts as zeros.

    Source: Perez, Strub, de Vries, Dumoulin and Courville (2018), FiLM: visual reasoning with a general conditioning
    layer; here every modality conditions every other, where there one (a question) conditions one (a picture).
    """

    def build_modalities(self, shapes: dict[str, tuple]) -> None:
        super().build_modalities(shapes)
        total = sum(shape[-1] for shape in shapes.values())
        others = {name: (None, total - shape[-1]) for name, shape in shapes.items()} if len(shapes) > 1 else {}
        self.modulations = dense_for_each(self, 2 * self.units, others, use_bias=False, prefix="modulation_")

    def terms(self, vectors: list[Any], mask: dict[str, Any]) -> list[Any]:
        terms = super().terms(vectors, mask)
        for place, name in enumerate(self.names if self.modulations else ()):
            others = ops.concatenate(vectors[:place] + vectors[place + 1 :], axis=-1)
            gamma, beta = ops.split(self.modulations[name](others), 2, axis=-1)
            terms[place] = masks.keep((1 + gamma) * terms[place] + beta, masks.presence(mask, name))
        return terms


@keras.saving.register_keras_serializable("mmkit")
class DeepFusion(FusionLayer):
    """Dense fusion at every depth: the modalities keep streams of their own, and a joint stream reads them all.

    With x_i^0 = x_i and no h^0: x_i^l = relu(x_i^(l-1) W_i^l + b_i^l), zeros where modality i is absent, and
    h^l = relu([x_1^l, ..., x_n^l, h^(l-1)] V^l + c^l). The result is h^depth.

    Args:
        units: size of the result and of every stream.
        depth: layers.

    Call arguments, returns and errors as `FusionLayer`.

    Source: Hu, Wang, Nie and Li (2019), Dense multimodal fusion for hierarchically joint representation.
    """

    def __init__(self, units: int, depth: int = 2, **kwargs: Any) -> None:
        super().__init__(units, **kwargs)
        check_positive(self, depth=depth)
        self.depth = depth

    def build_modalities(self, shapes: dict[str, tuple]) -> None:
        streams, self.joints = {}, []  # streams by level and name: Keras 3.13 saves no dict inside a list
        for level in range(self.depth):
            prefix = f"stream_{level}_"
            made = dense_for_each(self, self.units, shapes, activation="relu", prefix=prefix)
            streams |= {f"{level}_{name}": stream for name, stream in made.items()}
            shapes = {name: (None, self.units) for name in self.names}
            joint = keras.layers.Dense(self.units, activation="relu", dtype=self.dtype_policy, name=f"joint_{level}")
            joint.build((None, self.units * (len(self.names) + (level > 0))))
            self.joints.append(joint)
        self.streams = streams

    def fuse(self, features: dict[str, Any], mask: dict[str, Any], training: bool | None) -> Any:
        vectors, above = self.vectors(features, mask), []
        for level, joint in enumerate(self.joints):
            streams = {name: self.streams[f"{level}_{name}"] for name in self.names}
            vectors = self.for_present(streams, vectors, mask)
            above = [joint(ops.concatenate(vectors + above, axis=-1))]
        return above[0]

    def get_config(self) -> dict:
        return {**super().get_config(), "depth": self.depth}


@keras.saving.register_keras_serializable("mmkit")
class GatedFusion(FusionLayer):
    """A gated multimodal unit: every modality is weighed, unit by unit, by a gate that looks at all of them.

    With vectors x_1 ... x_n and their concatenation x: h_i = tanh(x_i W_i + b_i), z_i = sigmoid(x V_i + c_i), and the
    result is the sum over the present modalities of z_i * h_i.

    Args:
        units: size of the result.

    Call arguments, returns and errors as `FusionLayer`.

    Source: Arevalo, Solorio, Montes-y-Gomez and Gonzalez (2017), Gated multimodal units for information fusion, in the
    form for more than two modalities (with biases).
    """

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(units, **kwargs)
        self.gate = None

    def build_modalities(self, shapes: dict[str, tuple]) -> None:
        self.hidden = dense_for_each(self, self.units, shapes, activation="tanh", prefix="hidden_")
        self.gate = keras.layers.Dense(
            self.units * len(self.names), activation="sigmoid", dtype=self.dtype_policy, name="gate"
        )
        self.gate.build((None, sum(shape[-1] for shape in shapes.values())))

    def gates(self, features: Mapping[str, Any], mask: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The gates z_i for some features, 0 where a modality is absent: dict from name to `(batch, units)`."""
        given = masks.check_masks(type(self).__name__, features, mask)
        cast = {name: ops.cast(features[name], self.compute_dtype) for name in self.names}
        return dict(zip(self.names, self._gates(self.vectors(cast, given), given)))

    def _gates(self, vectors: list[Any], mask: dict[str, Any]) -> list[Any]:
        opened = ops.split(self.gate(ops.concatenate(vectors, axis=-1)), len(self.names), axis=-1)
        return [masks.keep(gate, masks.presence(mask, name)) for name, gate in zip(self.names, opened)]

    def fuse(self, features: dict[str, Any], mask: dict[str, Any], training: bool | None) -> Any:
        vectors = self.vectors(features, mask)
        weighed = [
            gate * self.hidden[name](vector)
            for name, vector, gate in zip(self.names, vectors, self._gates(vectors, mask))
        ]
        return ops.sum(ops.stack(weighed), axis=0)


@keras.saving.register_keras_serializable("mmkit")
class ConvLSTMFusion(FusionLayer):
    """Convolutions for what has space, an LSTM for what has time, one dense layer over both: raw inputs to one vector.

    This is nn(conv(visual, auditory), touch): every modality of shape `(batch, height, width, channels)` goes through a
    `Conv2DBranch`, every one of shape `(batch, time, features)` through an `LSTMBranch`, and a `ConcatFusion` joins
    them.

    Args:
        units: size of the result, and of every branch.
        pooling: of the convolutional branches; a dict from modality name for one each, "flatten" for those left out.

    Call arguments:
        features: dict from modality name to `(batch, height, width, channels)` or `(batch, time, features)`.
        mask: dict from name to booleans: `(batch,)`, or `(batch, time)` for sequences.

    Returns:
        `(batch, units)`.

    Raises:
        ValueError: as `FusionLayer`, and if `pooling` names an unknown modality.

    Source: the branches' and ConcatFusion's.
    """

    RANKS = (3, 4)

    def __init__(self, units: int, pooling: str | dict[str, str] = "flatten", **kwargs: Any) -> None:
        super().__init__(units, **kwargs)
        self.pooling = pooling
        self.fusion = ConcatFusion(units, dtype=self.dtype_policy, name="fusion")

    def build_modalities(self, shapes: dict[str, tuple]) -> None:
        if isinstance(self.pooling, Mapping):
            unknown = sorted(set(self.pooling) - {name for name, shape in shapes.items() if len(shape) == 4})
            if unknown:
                raise ValueError(f"ConvLSTMFusion: pooling names {', '.join(unknown)}, no picture among {shapes}")
        self.ranks = {name: len(shape) for name, shape in shapes.items()}
        self.branches = {}
        for name, shape in shapes.items():
            if len(shape) == 4:
                pooling = self.pooling.get(name, "flatten") if isinstance(self.pooling, Mapping) else self.pooling
                self.branches[name] = Conv2DBranch(self.units, pooling=pooling, dtype=self.dtype_policy, name=name)
            else:
                self.branches[name] = LSTMBranch(self.units, dtype=self.dtype_policy, name=name)
            self.branches[name].build(shape)
        self.fusion.build({name: (None, self.units) for name in self.names})

    def fuse(self, features: dict[str, Any], mask: dict[str, Any], training: bool | None) -> Any:
        for name, feature in features.items():
            masks.check_shape("ConvLSTMFusion", name, feature.shape, (self.ranks[name],))
        seen = {
            name: self.branches[name](features[name], mask=mask.get(name), training=training) for name in self.names
        }
        return self.fusion(seen, mask={name: masks.is_present(given) for name, given in mask.items()})

    def get_config(self) -> dict:
        return {**super().get_config(), "pooling": self.pooling}


@keras.saving.register_keras_serializable("mmkit")
class ModalityDropout(keras.layers.Layer):
    """Takes whole modalities away from examples while training, so that a model learns to do without any of them.

    Each present modality of an example is dropped with probability `rate`, independently, except that the last one is
    always kept. Elementwise dropout is another thing: it thins all modalities and takes away none.

    Args:
        rate: the probability, from 0 to below 1.
        seed: seed of the draws, or None.

    Call arguments:
        features, mask: as `FusionLayer`, of any rank.

    Returns:
        The features, zeros where dropped or absent, and their presence, to be handed on as `mask`: two dicts. Presence
        has the shape of the mask that came, else `(batch,)`. Not in training, nothing is dropped.

    Raises:
        ValueError: if `rate` is out of range, a name is unknown, or a shape wrong.

    Source: Neverova, Wolf, Taylor and Nebout (2016), ModDrop: adaptive multi-modal gesture recognition.
    """

    def __init__(self, rate: float = 0.3, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"ModalityDropout: rate must be from 0 to below 1: got {rate}")
        self.rate, self.seed = rate, seed
        self.supports_masking = True
        self.generator = keras.random.SeedGenerator(seed)

    def build(self, features_shape: Mapping[str, Sequence[int | None]]) -> None:
        self.names = masks.check_names("ModalityDropout", features_shape)

    def call(
        self, features: Mapping[str, Any], mask: Mapping[str, Any] | None = None, training: bool | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        masks.check_names("ModalityDropout", features, self.names)
        given = masks.check_masks("ModalityDropout", features, mask)
        batch = ops.shape(features[self.names[0]])[0]
        everyone = ops.ones((batch,), dtype="bool")
        present = ops.stack([masks.is_present(given.get(name, everyone)) for name in self.names], axis=1)
        if training:
            luck = keras.random.uniform((batch, len(self.names)), seed=self.generator)
            luck = ops.where(present, luck, -ops.ones_like(luck))
            luckiest = ops.equal(luck, ops.max(luck, axis=1, keepdims=True))
            present = ops.logical_and(present, ops.logical_or(luck >= self.rate, luckiest))
        presence = {}
        for place, name in enumerate(self.names):
            presence[name] = present[:, place]
            if name in given and len(given[name].shape) == 2:
                presence[name] = ops.logical_and(given[name], ops.expand_dims(presence[name], 1))
        return {name: masks.keep(features[name], presence[name]) for name in self.names}, presence

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> None:
        return None  # presence is a result of its own

    def get_config(self) -> dict:
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
