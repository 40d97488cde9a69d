"""Keras layers for several modalities: branches turn one modality into features, fusion layers bring them together.

Features are a dict from the modality's name to a tensor: vectors `(batch, units)` or tokens `(batch, time, units)`.
A mask is a dict from name to booleans: `(batch,)`, whether the example has this modality, or `(batch, time)`, which of
its tokens count. What is absent cannot change a layer's output, whatever its array holds.
"""

from mmkit.layers.attention import BottleneckFusion, CrossModalAttention, FusionTransformer, PerceiverFusion
from mmkit.layers.balancing import OGMGE, GradientModulationHead, UncertaintyWeighting
from mmkit.layers.base import FusionLayer
from mmkit.layers.bert_branch import BertTextBranch
from mmkit.layers.conv2d_branch import Conv2DBranch
from mmkit.layers.conv_lstm import ConvLSTMFusion
from mmkit.layers.experts import MixtureOfExpertsFusion
from mmkit.layers.fusion import ConcatFusion, DeepFusion, FiLMFusion, GatedFusion, SumFusion
from mmkit.layers.late_fusion import LateFusion
from mmkit.layers.lstm_branch import LSTMBranch
from mmkit.layers.modalities import ModalityDropout, ModalityEmbedding
from mmkit.layers.products import LowRankFusion, TensorFusion
from mmkit.layers.tabular_branch import TabularBranch

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
    "GradientModulationHead",
    "LSTMBranch",
    "LateFusion",
    "LowRankFusion",
    "MixtureOfExpertsFusion",
    "ModalityDropout",
    "ModalityEmbedding",
    "PerceiverFusion",
    "SumFusion",
    "TabularBranch",
    "TensorFusion",
    "UncertaintyWeighting",
]
