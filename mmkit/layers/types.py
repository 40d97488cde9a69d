"""The types that the layers' calls speak of."""

from collections.abc import Mapping
from typing import Any, TypeAlias

Tensor: TypeAlias = Any
"""A tensor of the backend that Keras runs on, a symbolic one, or a NumPy array."""

Shape: TypeAlias = tuple[int | None, ...]
"""A tensor's shape, None for a size that is not known."""

Features: TypeAlias = Mapping[str, Tensor]
"""From a modality's name to its features, `(batch, units)` or `(batch, time, units)`."""

Mask: TypeAlias = Mapping[str, Tensor | None]
"""From a modality's name to booleans or whole numbers, `(batch,)` or `(batch, time)`: what is False or 0 is absent.

A modality that is left out, or None, has the mask that its features carry (from `Embedding(mask_zero=True)`, `Masking`
or `LSTMBranch(tokens=True)`); without one, all of it is present.
"""
