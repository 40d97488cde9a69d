"""What lessons share when they train: labelled sets, augmentation inside a model."""

from mmkit.training.augmented import augmented
from mmkit.training.labelled_sets import labelled_sets

__all__ = ["augmented", "labelled_sets"]
