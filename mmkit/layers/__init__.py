"""Keras layers for several modalities: branches turn one modality into features, fusion layers bring them together.

Features are a dict from the modality's name to a tensor: vectors `(batch, units)` or tokens `(batch, time, units)`.
Presence is a dict from name to booleans: `(batch,)`, whether the example has this modality, or `(batch, time)`, which
of its tokens are there. What is absent cannot change a layer's output, whatever its array holds.
"""

from mmkit.layers.adaptive import OGMGE, MixtureOfExpertsFusion
from mmkit.layers.attention import (
    BottleneckFusion,
    CrossModalAttention,
    FusionTransformer,
    ModalityEmbedding,
    PerceiverFusion,
)
from mmkit.layers.branches import Conv2DBranch, LSTMBranch, TabularBranch
from mmkit.layers.fusion import (
    ConcatFusion,
    ConvLSTMFusion,
    DeepFusion,
    FiLMFusion,
    FusionLayer,
    GatedFusion,
    ModalityDropout,
    SumFusion,
)
from mmkit.layers.tensor import LowRankFusion, TensorFusion
from mmkit.layers.text import BertTextBranch

__all__ = [
    "OGMGE",
    "BertTextBranch",
    "BottleneckFusion",
    "ConcatFusion",
    "Conv2DBranch",
    "ConvLSTMFusion",
    "CrossModalAttention",
    "DeepFusion",
    "FiLMFusion",
    "FusionLayer",
    "FusionTransformer",
    "GatedFusion",
    "LSTMBranch",
    "LowRankFusion",
    "MixtureOfExpertsFusion",
    "ModalityDropout",
    "ModalityEmbedding",
    "PerceiverFusion",
    "SumFusion",
    "TabularBranch",
    "TensorFusion",
]
