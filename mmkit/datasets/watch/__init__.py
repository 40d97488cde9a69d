"""`watch`: a watch's motion sensors."""

from mmkit.datasets.watch.builder import Watch

__all__ = ["Watch"]
