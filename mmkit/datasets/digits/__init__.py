"""`digits`: handwritten digits."""

from mmkit.datasets.digits.builder import Digits

__all__ = ["Digits"]
