"""Layers that keep the modalities apart: one takes whole modalities away, one says which is which."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from mmkit.layers import masks
from mmkit.layers.kernels import keras_name
from mmkit.layers.types import Features, Mask, Shape, Tensor


@keras.saving.register_keras_serializable("mmkit")
class ModalityDropout(keras.layers.Layer):
    """Takes whole modalities away from examples while training, so that a model learns to do without any of them.

    Each present modality of an example is dropped with probability `rate`, independently, except that the last one is
    always kept. Elementwise dropout is another thing: it thins all modalities and takes away none.

    Args:
        rate: float, the probability, from 0 to below 1. Default 0.3.
        seed: int, seed of the draws, or None. Default None.
        **kwargs: those of every Keras layer: `name`, `dtype`.

    Call arguments:
        features, mask: as `FusionLayer`, of any rank.

    Returns:
        Two dicts: the features, zeros where dropped or absent, and the masks to be handed on with them. A mask has the
        shape of the one that came, else `(batch,)`. Not in training, nothing is dropped.

    Raises:
        ValueError: if `rate` is out of range, a name is unknown, or a shape wrong.

    Source: Neverova, Wolf, Taylor and Nebout (2016), ModDrop: adaptive multi-modal gesture recognition.

    Example:
        >>> import numpy as np
        >>> from mmkit.layers import ConcatFusion, ModalityDropout
        >>> features, mask = ModalityDropout(0.5)({"image": np.ones((4, 16)), "audio": np.ones((4, 8))}, training=True)
        >>> tuple(mask["image"].shape), tuple(ConcatFusion(32)(features, mask=mask).shape)
        ((4,), (4, 32))
    """

    def __init__(self, rate: float = 0.3, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"ModalityDropout: rate must be from 0 to below 1: got {rate}")
        self.rate, self.seed = rate, seed
        self.supports_masking = True
        self.generator = keras.random.SeedGenerator(seed)

    def build(self, features_shape: Mapping[str, Shape]) -> None:
        self.names = masks.check_names("ModalityDropout", features_shape)

    def call(
        self, features: Features, mask: Mask | None = None, training: bool | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        masks.check_names("ModalityDropout", features, self.names)
        checked = masks.check_masks("ModalityDropout", features, mask)
        batch = ops.shape(features[self.names[0]])[0]
        everyone = ops.ones((batch,), dtype="bool")
        kept = ops.stack([masks.is_present(checked.get(name, everyone)) for name in self.names], axis=1)
        if training:
            luck = keras.random.uniform((batch, len(self.names)), seed=self.generator, dtype="float32")
            luck = ops.where(kept, luck, -ops.ones_like(luck))
            luckiest = ops.equal(luck, ops.max(luck, axis=1, keepdims=True))
            kept = ops.logical_and(kept, ops.logical_or(luck >= self.rate, luckiest))
        handed_on = {}
        for place, name in enumerate(self.names):
            handed_on[name] = kept[:, place]
            if name in checked and len(checked[name].shape) == 2:
                handed_on[name] = ops.logical_and(checked[name], ops.expand_dims(handed_on[name], 1))
        return {name: masks.keep(features[name], handed_on[name]) for name in self.names}, handed_on

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> None:
        return None  # the masks are a result of their own

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}


@keras.saving.register_keras_serializable("mmkit")
class ModalityEmbedding(keras.layers.Layer):
    """Adds to every vector or token a learned vector that says which modality it comes from.

    Args:
        **kwargs: those of every Keras layer: `name`, `dtype`.

    Call arguments:
        features, mask: as `FusionLayer`.

    Returns:
        The features, zeros where absent: a dict. They carry their masks.

    Raises:
        ValueError: as `FusionLayer`.

    Source: Devlin, Chang, Lee and Toutanova (2019), BERT (segment embeddings); Su et al. (2020), VL-BERT.

    Example:
        >>> import numpy as np
        >>> from mmkit.layers import ConcatFusion, ModalityEmbedding
        >>> told = ModalityEmbedding()({"image": np.zeros((4, 16)), "audio": np.zeros((4, 7, 8))})
        >>> tuple(told["audio"].shape), tuple(ConcatFusion(32)(told).shape)
        ((4, 7, 8), (4, 32))
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def build(self, features_shape: Mapping[str, Shape]) -> None:
        self.names = masks.check_names("ModalityEmbedding", features_shape)
        self.embeddings = {}
        for name in self.names:
            shape = features_shape[name]
            masks.check_shape("ModalityEmbedding", name, shape, (2, 3))
            start = keras.initializers.RandomNormal(stddev=0.02)
            self.embeddings[name] = self.add_weight((shape[-1],), start, name=keras_name(name, "embedding_"))

    def call(self, features: Features, mask: Mask | None = None, training: bool | None = None) -> dict[str, Tensor]:
        masks.check_names("ModalityEmbedding", features, self.names)
        for name, embedding in self.embeddings.items():
            masks.check_shape("ModalityEmbedding", name, features[name].shape, (2, 3), embedding.shape[0])
        checked = masks.check_masks("ModalityEmbedding", features, mask)
        return {
            name: masks.keep(
                ops.cast(features[name], self.compute_dtype) + ops.cast(self.embeddings[name], self.compute_dtype),
                checked.get(name),
            )
            for name in self.names
        }

    def compute_mask(self, inputs: Features, previous_mask: Mask | None = None) -> dict[str, Tensor | None]:
        both = masks.with_carried("ModalityEmbedding", inputs, previous_mask)
        return {
            name: masks.per_step(both[name], inputs[name])
            if name in both and len(inputs[name].shape) == 3
            else both.get(name)
            for name in sorted(inputs)
        }

    def compute_output_shape(self, features_shape: Mapping[str, Shape]) -> dict[str, Shape]:
        return {name: tuple(features_shape[name]) for name in sorted(features_shape)}
