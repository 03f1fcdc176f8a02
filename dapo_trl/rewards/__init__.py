"""What a completion is worth: correctness of its final answer (DAPO Eq. 7), and its length (Eq. 13)."""

from .functions import AccuracyReward, SoftOverlongPunishment, accuracy
from .registry import load_reward


__all__ = ["AccuracyReward", "SoftOverlongPunishment", "accuracy", "load_reward"]
