"""Fusion layers: from the features of several modalities to one vector. All share one call."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from mmkit.layers import masks
from mmkit.layers.base import FusionLayer, check_positive, dense_for_each


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
