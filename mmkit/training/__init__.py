"""What lessons share when they train: copies side by side, streams, contrastive losses, probes, labelled sets."""

from mmkit.training.augmented import augmented
from mmkit.training.contrastive import Similarity, info_nce, nt_xent
from mmkit.training.drift import adwin
from mmkit.training.fade import Fade
from mmkit.training.labelled_sets import labelled_sets, labels_needed
from mmkit.training.probes import linear_probe
from mmkit.training.rate_grid import RateGrid
from mmkit.training.retrain import Retrain
from mmkit.training.side_by_side import DenseSideBySide, SideBySide
from mmkit.training.streams import RunningSums, Streams

__all__ = [
    "DenseSideBySide",
    "Fade",
    "RateGrid",
    "Retrain",
    "RunningSums",
    "SideBySide",
    "Similarity",
    "Streams",
    "adwin",
    "augmented",
    "info_nce",
    "labelled_sets",
    "labels_needed",
    "linear_probe",
    "nt_xent",
]
