"""Keras layers for several modalities: branches turn one modality into features, fusion layers bring them together.

Features are a dict from the modality's name to a tensor: vectors `(batch, units)` or tokens `(batch, time, units)`.
Presence is a dict from name to booleans: `(batch,)`, whether the example has this modality, or `(batch, time)`, which
of its tokens are there. What is absent cannot change a layer's output, whatever its array holds.
"""

from mmkit.layers.branches import Conv2DBranch, LSTMBranch
from mmkit.layers.fusion import ConcatFusion, ConvLSTMFusion, FusionLayer, GatedFusion, ModalityDropout

__all__ = [
    "ConcatFusion",
    "Conv2DBranch",
    "ConvLSTMFusion",
    "FusionLayer",
    "GatedFusion",
    "LSTMBranch",
    "ModalityDropout",
]
