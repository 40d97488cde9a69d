"""The furniture of a lesson: its beginning, its claims, the self-check of its exercises, its plots, drawings and
controls."""

from mmkit.lesson import plots
from mmkit.lesson.claims import ClaimFailed, Claims
from mmkit.lesson.controls import explore
from mmkit.lesson.drawing import Drawing
from mmkit.lesson.exercises import grade
from mmkit.lesson.start import setup

__all__ = ["ClaimFailed", "Claims", "Drawing", "explore", "grade", "plots", "setup"]
