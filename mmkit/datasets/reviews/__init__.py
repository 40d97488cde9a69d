"""`reviews`: reviews of food."""

from mmkit.datasets.reviews.builder import Reviews

__all__ = ["Reviews"]
