"""Layers that keep the modalities apart: one takes whole modalities away, one says which is which."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from mmkit.layers import masks


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


@keras.saving.register_keras_serializable("mmkit")
class ModalityEmbedding(keras.layers.Layer):
    """Adds to every vector or token a learned vector that says which modality it comes from.

    Call arguments:
        features, mask: as `FusionLayer`.

    Returns:
        The features, zeros where absent: a dict. Masks are handed on.

    Raises:
        ValueError: as `FusionLayer`.

    Source: Devlin, Chang, Lee and Toutanova (2019), BERT (segment embeddings); Su et al. (2020), VL-BERT.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def build(self, features_shape: Mapping[str, Sequence[int | None]]) -> None:
        self.names = masks.check_names("ModalityEmbedding", features_shape)
        self.embeddings = {}
        for name in self.names:
            shape = features_shape[name]
            masks.check_shape("ModalityEmbedding", name, shape, (2, 3))
            self.embeddings[name] = self.add_weight(
                shape=(shape[-1],), initializer=keras.initializers.RandomNormal(stddev=0.02), name=name
            )

    def call(
        self, features: Mapping[str, Any], mask: Mapping[str, Any] | None = None, training: bool | None = None
    ) -> dict[str, Any]:
        masks.check_names("ModalityEmbedding", features, self.names)
        for name, embedding in self.embeddings.items():
            masks.check_shape("ModalityEmbedding", name, features[name].shape, (2, 3), embedding.shape[0])
        given = masks.check_masks("ModalityEmbedding", features, mask)
        return {
            name: masks.keep(
                ops.cast(features[name], self.compute_dtype) + ops.cast(self.embeddings[name], self.compute_dtype),
                given.get(name),
            )
            for name in self.names
        }

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return previous_mask

    def compute_output_shape(self, features_shape: Mapping[str, Sequence[int | None]]) -> dict[str, tuple]:
        return {name: tuple(features_shape[name]) for name in sorted(features_shape)}
