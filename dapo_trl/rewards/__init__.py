"""What a completion is worth: correctness of its final answer (DAPO Eq. 7), and its length (Eq. 13)."""

from .functions import AccuracyReward, accuracy
from .overlong import SoftOverlongPunishment
from .registry import load_reward


__all__ = ["AccuracyReward", "SoftOverlongPunishment", "accuracy", "load_reward"]
