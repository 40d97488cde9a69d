"""`emoji`: pictures and names of emoji."""

from mmkit.datasets.emoji.builder import Emoji

__all__ = ["Emoji"]
