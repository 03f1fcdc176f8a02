"""DAPO (https://huggingface.co/papers/2503.14476) as a Hugging Face TRL trainer."""

import importlib
from typing import TYPE_CHECKING


__version__ = "0.1.0"

# Loaded on first use: commands that only handle texts do not wait for torch and TRL.
_HOMES = {
    "DAPOConfig": "config",
    "DAPOTrainer": "trainer",
    "AccuracyReward": "rewards",
    "SoftOverlongPunishment": "rewards",
    "accuracy": "rewards",
}

__all__ = ["AccuracyReward", "DAPOConfig", "DAPOTrainer", "SoftOverlongPunishment", "accuracy"]

if TYPE_CHECKING:
    from .config import DAPOConfig
    from .rewards import AccuracyReward, SoftOverlongPunishment, accuracy
    from .trainer import DAPOTrainer


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__():
    return sorted(__all__)
