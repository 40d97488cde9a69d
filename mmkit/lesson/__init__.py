"""The furniture of a lesson: its claims, the self-check of its exercises, its plots."""

from mmkit.lesson import plots
from mmkit.lesson.claims import ClaimFailed, Claims
from mmkit.lesson.exercises import grade

__all__ = ["ClaimFailed", "Claims", "grade", "plots"]
