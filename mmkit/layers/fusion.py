"""Fusion layers: from the features of several modalities to one vector. All share one call."""

from typing import Any

import keras
from keras import ops

from mmkit.layers import masks
from mmkit.layers.base import FusionLayer, check_positive, dense_for_each
from mmkit.layers.kernels import inner_options
from mmkit.layers.types import Features, Mask, Shape, Tensor


@keras.saving.register_keras_serializable("mmkit")
class ConcatFusion(FusionLayer):
    """Lays the vectors end to end and puts one dense layer on top: the baseline of every comparison.

    Args:
        units: int, size of the result.
        activation: of the dense layer, as `keras.layers.Dense` takes it. Default "relu".
        **kwargs: `kernel_initializer`, `kernel_regularizer` and the others of `FusionLayer`.

    Call arguments, returns and errors as `FusionLayer`; an absent modality counts as zeros.

    Source: Ngiam, Khosla, Kim, Nam, Lee and Ng (2011), Multimodal deep learning.

    Example:
        >>> import numpy as np
        >>> from mmkit.layers import ConcatFusion
        >>> features = {"image": np.ones((4, 16)), "audio": np.ones((4, 7, 8))}
        >>> fused = ConcatFusion(32)(features, mask={"audio": np.array([True, True, True, False])})
        >>> tuple(fused.shape)
        (4, 32)
    """

    def __init__(self, units: int, activation: Any = "relu", **kwargs: Any) -> None:
        super().__init__(units, **kwargs)
        self.activation = activation
        self.projection = keras.layers.Dense(units, activation=activation, name="projection", **inner_options(self))

    def build_modalities(self, shapes: dict[str, Shape]) -> None:
        self.projection.build((None, sum(shape[-1] for shape in shapes.values())))

    def fuse(self, features: dict[str, Tensor], mask: dict[str, Tensor], training: bool | None) -> Tensor:
        return self.projection(ops.concatenate(self.vectors(features, mask), axis=-1))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "activation": self.activation}


@keras.saving.register_keras_serializable("mmkit")
class SumFusion(FusionLayer):
    """Brings every vector to the same size and adds them up: f(sum over the present modalities of x_i W_i + b_i).

    Args:
        units: int, size of the result.
        activation: f, as `keras.layers.Activation` takes it. Default "relu".
        **kwargs: `kernel_initializer`, `kernel_regularizer` and the others of `FusionLayer`.

    Call arguments, returns and errors as `FusionLayer`.

    Source: Baltrusaitis, Ahuja and Morency (2019), Multimodal machine learning: a survey and taxonomy (joint
    representations).

    Example:
        >>> import numpy as np
        >>> from mmkit.layers import SumFusion
        >>> tuple(SumFusion(32)({"image": np.ones((4, 16)), "audio": np.ones((4, 7, 8))}).shape)
        (4, 32)
    """

    def __init__(self, units: int, activation: Any = "relu", **kwargs: Any) -> None:
        super().__init__(units, **kwargs)
        self.activation = activation
        self.last = keras.layers.Activation(activation, dtype=self.dtype_policy, name="last")

    def build_modalities(self, shapes: dict[str, Shape]) -> None:
        self.projections = dense_for_each(self, self.units, shapes)

    def fuse(self, features: dict[str, Tensor], mask: dict[str, Tensor], training: bool | None) -> Tensor:
        terms = self.for_present(self.projections, self.vectors(features, mask), mask)
        return self.last(ops.sum(ops.stack(terms), axis=0))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "activation": self.activation}


@keras.saving.register_keras_serializable("mmkit")
class FiLMFusion(SumFusion):
    """Feature-wise linear modulation (FiLM): every modality is scaled and shifted, unit by unit, by the others.

    With vectors x_i, and x_-i the others' laid end to end: h_i = x_i W_i + b_i, gamma_i = x_-i G_i, beta_i = x_-i B_i,
    and the result is f(sum over the present modalities of (1 + gamma_i) * h_i + beta_i).

    Args:
        units: int, size of the result.
        activation: f, as `keras.layers.Activation` takes it. Default "relu".
        **kwargs: `kernel_initializer`, `kernel_regularizer` and the others of `FusionLayer`.

    Call arguments, returns and errors as `FusionLayer`; to the others an absent modality counts as zeros.

    Source: Perez, Strub, de Vries, Dumoulin and Courville (2018), FiLM: visual reasoning with a general conditioning
    layer; here every modality conditions every other, where there one (a question) conditions one (a picture).

    Example:
        >>> import numpy as np
        >>> from mmkit.layers import FiLMFusion
        >>> tuple(FiLMFusion(32)({"picture": np.ones((4, 16)), "question": np.ones((4, 7, 8))}).shape)
        (4, 32)
    """

    def build_modalities(self, shapes: dict[str, Shape]) -> None:
        super().build_modalities(shapes)
        total = sum(shape[-1] for shape in shapes.values())
        others = {name: (None, total - shape[-1]) for name, shape in shapes.items()} if len(shapes) > 1 else {}
        self.modulations = dense_for_each(self, 2 * self.units, others, use_bias=False, prefix="modulation_")

    def fuse(self, features: dict[str, Tensor], mask: dict[str, Tensor], training: bool | None) -> Tensor:
        vectors = self.vectors(features, mask)
        terms = self.for_present(self.projections, vectors, mask)
        for place, name in enumerate(self.names if self.modulations else ()):
            others = ops.concatenate(vectors[:place] + vectors[place + 1 :], axis=-1)
            gamma, beta = ops.split(self.modulations[name](others), 2, axis=-1)
            terms[place] = masks.keep((1 + gamma) * terms[place] + beta, masks.is_present(mask.get(name)))
        return self.last(ops.sum(ops.stack(terms), axis=0))


@keras.saving.register_keras_serializable("mmkit")
class DeepFusion(FusionLayer):
    """Dense multimodal fusion (DMF): the modalities keep streams of their own, and a joint stream reads them all.

    With x_i^0 = x_i and no h^0: x_i^l = relu(x_i^(l-1) W_i^l + b_i^l), zeros where modality i is absent, and
    h^l = relu([x_1^l, ..., x_n^l, h^(l-1)] V^l + c^l). The result is h^depth.

    Args:
        units: int, size of the result and of every stream.
        depth: int, layers. Default 2.
        **kwargs: `kernel_initializer`, `kernel_regularizer` and the others of `FusionLayer`.

    Call arguments, returns and errors as `FusionLayer`.

    Source: Hu, Wang, Nie and Li (2019), Dense multimodal fusion for hierarchically joint representation.

    Example:
        >>> import numpy as np
        >>> from mmkit.layers import DeepFusion
        >>> tuple(DeepFusion(32, depth=3)({"image": np.ones((4, 16)), "audio": np.ones((4, 7, 8))}).shape)
        (4, 32)
    """

    def __init__(self, units: int, depth: int = 2, **kwargs: Any) -> None:
        super().__init__(units, **kwargs)
        check_positive(self, depth=depth)
        self.depth = depth

    def build_modalities(self, shapes: dict[str, Shape]) -> None:
        streams, self.joints = {}, []  # streams by level and name: Keras 3.13 saves no dict inside a list
        for level in range(self.depth):
            made = dense_for_each(self, self.units, shapes, activation="relu", prefix=f"stream_{level}_")
            streams |= {f"{level}_{name}": stream for name, stream in made.items()}
            shapes = {name: (None, self.units) for name in self.names}
            joint = keras.layers.Dense(self.units, activation="relu", name=f"joint_{level}", **inner_options(self))
            joint.build((None, self.units * (len(self.names) + (level > 0))))
            self.joints.append(joint)
        self.streams = streams

    def fuse(self, features: dict[str, Tensor], mask: dict[str, Tensor], training: bool | None) -> Tensor:
        vectors, above = self.vectors(features, mask), []
        for level, joint in enumerate(self.joints):
            streams = {name: self.streams[f"{level}_{name}"] for name in self.names}
            vectors = self.for_present(streams, vectors, mask)
            above = [joint(ops.concatenate(vectors + above, axis=-1))]
        return above[0]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "depth": self.depth}


@keras.saving.register_keras_serializable("mmkit")
class GatedFusion(FusionLayer):
    """A gated multimodal unit (GMU): every modality is weighed, unit by unit, by a gate that looks at all of them.

    With vectors x_1 ... x_n and their concatenation x: h_i = tanh(x_i W_i + b_i), z_i = sigmoid(x V_i + c_i), and the
    result is the sum over the present modalities of z_i * h_i.

    Args:
        units: int, size of the result.
        **kwargs: `kernel_initializer`, `kernel_regularizer` and the others of `FusionLayer`.

    Call arguments, returns and errors as `FusionLayer`.

    Source: Arevalo, Solorio, Montes-y-Gomez and Gonzalez (2017), Gated multimodal units for information fusion, in the
    form for more than two modalities (with biases).

    Example:
        >>> import numpy as np
        >>> from mmkit.layers import GatedFusion
        >>> fusion, features = GatedFusion(32), {"image": np.ones((4, 16)), "audio": np.ones((4, 7, 8))}
        >>> tuple(fusion(features).shape)
        (4, 32)
        >>> sorted(fusion.gates(features))
        ['audio', 'image']
    """

    def build_modalities(self, shapes: dict[str, Shape]) -> None:
        self.hidden = dense_for_each(self, self.units, shapes, activation="tanh", prefix="hidden_")
        self.gate = keras.layers.Dense(
            self.units * len(self.names), activation="sigmoid", name="gate", **inner_options(self)
        )
        self.gate.build((None, sum(shape[-1] for shape in shapes.values())))

    def gates(self, features: Features, mask: Mask | None = None) -> dict[str, Tensor]:
        """The gates z_i for some features, 0 where a modality is absent: dict from name to `(batch, units)`.

        Args:
            features, mask: as in a call, after which alone there are gates.

        Raises:
            ValueError: as a call, and before the first one.
        """
        cast, checked = self.check(features, mask)
        return dict(zip(self.names, self._gates(self.vectors(cast, checked), checked)))

    def _gates(self, vectors: list[Tensor], mask: dict[str, Tensor]) -> list[Tensor]:
        opened = ops.split(self.gate(ops.concatenate(vectors, axis=-1)), len(self.names), axis=-1)
        return [masks.keep(gate, masks.is_present(mask.get(name))) for name, gate in zip(self.names, opened)]

    def fuse(self, features: dict[str, Tensor], mask: dict[str, Tensor], training: bool | None) -> Tensor:
        vectors = self.vectors(features, mask)
        hidden = [self.hidden[name](vector) for name, vector in zip(self.names, vectors)]
        return ops.sum(ops.stack(hidden) * ops.stack(self._gates(vectors, mask)), axis=0)
