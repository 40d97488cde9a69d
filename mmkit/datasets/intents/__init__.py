"""`intents`: sentences to a smart home."""

from mmkit.datasets.intents.builder import Intents

__all__ = ["Intents"]
