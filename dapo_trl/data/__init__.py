"""Data sets in, `prompt` and `solution` columns out."""

import importlib
from typing import TYPE_CHECKING


# Loaded on first use: what only needs the forms of prompts does not wait for `datasets` and the rewards.
_HOMES = {"CheckFailedError": "check", "check_dataset": "check", "RowError": "rows", "load_prompts": "load"}

__all__ = ["CheckFailedError", "RowError", "check_dataset", "load_prompts"]

if TYPE_CHECKING:
    from .check import CheckFailedError, check_dataset
    from .load import load_prompts
    from .rows import RowError


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
