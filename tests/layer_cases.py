"""The one list of layers whose promises `test_layers.py` tests. A new layer joins by a line here."""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
from gradients import called

from mmkit import layers

VECTORS = {"a": (5,), "b": (3,), "c": (4,)}
MIXED = {"a": (5,), "b": (6, 3), "c": (9, 4)}
LOGITS = {"a": (6,), "b": (6,), "c": (6,)}
RAW = {"picture": (12, 10, 2), "sound": (16, 8, 1), "touch": (7, 3)}


@dataclass(frozen=True)
class Case:
    """A layer and what it is fed.

    Attributes:
        name: for the test's name.
        make: makes the layer, the same at each call but for its weights' values.
        shapes: from modality to shape without the batch; a branch's only one is called "x".
        sequences: modalities whose first axis is time and takes a mask per step.
        vocabulary: for a layer that reads token ids, how many there are; 0 if it reads numbers.
        labels: for a layer that is called with labels too, how many classes; 0 if it is not.
    """

    name: str
    make: Callable[..., keras.layers.Layer]
    shapes: dict[str, tuple[int, ...]]
    sequences: tuple[str, ...] = ()
    vocabulary: int = 0
    labels: int = 0

    @property
    def kind(self) -> str:
        return type(self.make()).__name__

    @property
    def junk(self) -> tuple:
        """What an absent modality may hold."""
        return (-1, self.vocabulary, 2**31 - 1) if self.vocabulary else (np.nan, np.inf, 1e6)

    def features(self, batch: int, seed: int = 0, scale: float = 1.0) -> dict[str, np.ndarray]:
        random = np.random.default_rng(seed)
        if self.vocabulary:
            return {
                name: random.integers(0, self.vocabulary, (batch, *shape), "int32")
                for name, shape in self.shapes.items()
            }
        return {
            name: scale * random.normal(size=(batch, *shape)).astype("float32") for name, shape in self.shapes.items()
        }

    def presence(self, batch: int, seed: int = 0) -> dict[str, np.ndarray]:
        """Some of each modality absent, the first row whole; for sequences, of random lengths, some of none."""
        random = np.random.default_rng(seed)
        mask = {}
        for name, shape in self.shapes.items():
            if name in self.sequences:
                lengths = random.integers(0, shape[0] + 1, size=batch)
                lengths[0] = shape[0]
                mask[name] = np.arange(shape[0]) < lengths[:, None]
            else:
                mask[name] = random.random(batch) < 0.6
                mask[name][0] = True
        return mask

    def call(self, layer: keras.layers.Layer, features: dict, mask: dict | None = None, training: bool = False) -> list:
        """The layer's results as a list of tensors; a layer that takes labels gets those of `labels_of`."""
        options = {"labels": self.labels_of(features)} if self.labels else {}
        if set(self.shapes) == {"x"}:
            features, mask = features["x"], None if mask is None else mask["x"]
        return keras.tree.flatten(called(layer, features, mask=mask, training=training, **options))

    def labels_of(self, features: dict) -> np.ndarray | keras.KerasTensor:
        """A label for each example, or an input for labels if the features are inputs."""
        first = next(iter(features.values()))
        if keras.backend.is_keras_tensor(first):
            return keras.Input((), dtype="int32", name="labels")
        return np.arange(first.shape[0], dtype="int32") % self.labels

    def data(self, features: dict, mask: dict | None = None) -> list[np.ndarray]:
        """What `model` is fed."""
        labels = [self.labels_of(features)] if self.labels else []
        return [*features.values(), *(mask or {}).values(), *labels]

    def model(self, prefix: str = "") -> keras.Model:
        """The layer in a functional model, batch size and the time of sequences unknown; `prefix` of inputs' names."""
        inputs, mask = {}, {}
        for name, shape in self.shapes.items():
            timed = name in self.sequences
            kind = "int32" if self.vocabulary else None
            inputs[name] = keras.Input((None, *shape[1:]) if timed else shape, name=prefix + name, dtype=kind)
            mask[name] = keras.Input((None,) if timed else (), dtype="bool", name=f"{prefix}{name}_mask")
        labels = {"labels": self.labels_of(inputs)} if self.labels else {}
        features, masks = (inputs["x"], mask["x"]) if set(self.shapes) == {"x"} else (inputs, mask)
        outputs = self.make()(features, mask=masks, **labels)
        return keras.Model([*inputs.values(), *mask.values(), *labels.values()], keras.tree.flatten(outputs))


def text_branch(units: int, **options) -> layers.BertTextBranch:
    """A branch on a BERT of three small layers, new and random, with dropout as BERT has it.

    Without dropout Keras takes JAX's fused attention, which has no float16 on processors.
    """
    import keras_hub  # of Keras's earlier versions it wants TensorFlow, which not every test has

    bert = keras_hub.models.BertBackbone(
        11, 3, 2, 8, 16, dropout=0.1, max_sequence_length=16, dtype=options.get("dtype")
    )
    return layers.BertTextBranch(units, backbone=bert, **options)


CASES = [
    Case("Conv2DBranch", lambda **k: layers.Conv2DBranch(6, filters=(4, 5), **k), {"x": (12, 10, 2)}),
    Case(
        "Conv2DBranch-max", lambda **k: layers.Conv2DBranch(6, filters=(4, 5), pooling="max", **k), {"x": (12, 10, 2)}
    ),
    Case(
        "Conv2DBranch-tokens", lambda **k: layers.Conv2DBranch(6, filters=(4, 5), pooling=None, **k), {"x": (12, 10, 2)}
    ),
    Case("LSTMBranch", lambda **k: layers.LSTMBranch(6, **k), {"x": (7, 3)}, ("x",)),
    Case("LSTMBranch-tokens", lambda **k: layers.LSTMBranch(6, tokens=True, **k), {"x": (7, 3)}, ("x",)),
    Case(
        "LSTMBranch-both-ways",
        lambda **k: layers.LSTMBranch(6, tokens=True, num_layers=2, bidirectional=True, **k),
        {"x": (7, 3)},
        ("x",),
    ),
    Case(
        "Conv2DBranch-max-rows",
        lambda **k: layers.Conv2DBranch(6, filters=(4, 5), pooling="max", activation="tanh", **k),
        {"x": (12, 10, 2)},
        ("x",),
    ),
    Case("ConcatFusion", lambda **k: layers.ConcatFusion(6, activation="tanh", **k), MIXED, ("b", "c")),
    Case("ConcatFusion-vectors", lambda **k: layers.ConcatFusion(6, activation="tanh", **k), VECTORS),
    Case("GatedFusion", lambda **k: layers.GatedFusion(6, **k), MIXED, ("b", "c")),
    Case("GatedFusion-one", lambda **k: layers.GatedFusion(6, **k), {"a": (5,)}),
    Case("ConvLSTMFusion", lambda **k: layers.ConvLSTMFusion(6, **k), RAW, ("touch",)),
    Case("ConvLSTMFusion-max", lambda **k: layers.ConvLSTMFusion(6, pooling={"sound": "max"}, **k), RAW, ("touch",)),
    Case("TabularBranch", lambda **k: layers.TabularBranch(6, hidden=8, activation="tanh", **k), {"x": (5,)}),
    Case("SumFusion", lambda **k: layers.SumFusion(6, activation="tanh", **k), MIXED, ("b", "c")),
    Case("FiLMFusion", lambda **k: layers.FiLMFusion(6, activation="tanh", **k), MIXED, ("b", "c")),
    Case("FiLMFusion-one", lambda **k: layers.FiLMFusion(6, activation="tanh", **k), {"a": (5,)}),
    Case("TensorFusion", lambda **k: layers.TensorFusion(6, size=3, activation="tanh", **k), MIXED, ("b", "c")),
    Case("TensorFusion-full", lambda **k: layers.TensorFusion(6, size=None, activation="tanh", **k), VECTORS),
    Case("LowRankFusion", lambda **k: layers.LowRankFusion(6, activation="tanh", **k), MIXED, ("b", "c")),
    Case("DeepFusion", lambda **k: layers.DeepFusion(6, depth=3, **k), MIXED, ("b", "c")),
    Case("CrossModalAttention", lambda **k: layers.CrossModalAttention(6, num_heads=2, **k), MIXED, ("b", "c")),
    Case("CrossModalAttention-one", lambda **k: layers.CrossModalAttention(6, 2, 2, **k), {"b": (6, 3)}, ("b",)),
    Case("BottleneckFusion", lambda **k: layers.BottleneckFusion(6, 3, num_heads=2, **k), MIXED, ("b", "c")),
    Case("PerceiverFusion", lambda **k: layers.PerceiverFusion(6, num_latents=3, num_heads=2, **k), MIXED, ("b", "c")),
    Case("FusionTransformer", lambda **k: layers.FusionTransformer(6, num_heads=2, **k), MIXED, ("b", "c")),
    Case("FusionTransformer-vectors", lambda **k: layers.FusionTransformer(6, num_heads=2, **k), VECTORS),
    Case("MixtureOfExpertsFusion", lambda **k: layers.MixtureOfExpertsFusion(6, 3, **k), MIXED, ("b", "c")),
    Case("OGMGE", lambda **k: layers.OGMGE(6, seed=1, **k), MIXED, ("b", "c")),
    Case("OGMGE-labels", lambda **k: layers.OGMGE(6, seed=1, **k), MIXED, ("b", "c"), labels=6),
    Case(
        "LateFusion",
        lambda **k: layers.LateFusion(6, prior=[3, 1, 1, 1, 1, 1], learn_exponents=True, **k),
        LOGITS,
    ),
    Case("ModalityEmbedding", lambda **k: layers.ModalityEmbedding(**k), MIXED, ("b", "c")),
    Case("ModalityDropout", lambda **k: layers.ModalityDropout(0.4, seed=1, **k), MIXED, ("b", "c")),
    Case("BertTextBranch", lambda **k: text_branch(6, **k), {"x": (7,)}, ("x",), 11),
    Case("BertTextBranch-last", lambda **k: text_branch(6, train="last", pooling="cls", **k), {"x": (7,)}, ("x",), 11),
    Case("BertTextBranch-lora", lambda **k: text_branch(6, train="lora", rank=2, **k), {"x": (7,)}, ("x",), 11),
    Case(
        "BertTextBranch-all", lambda **k: text_branch(6, train="all", pooling="attention", **k), {"x": (7,)}, ("x",), 11
    ),
    Case("BertTextBranch-tokens", lambda **k: text_branch(6, train="last", tokens=True, **k), {"x": (7,)}, ("x",), 11),
    Case("BertTextBranch-states", lambda **k: text_branch(6, train="last", last=1, **k), {"x": (7, 8)}, ("x",)),
]
