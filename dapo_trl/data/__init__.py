"""Data sets in, `prompt` and `solution` columns out."""

import importlib
from typing import TYPE_CHECKING


# Loaded on first use: what only needs the forms of prompts does not wait for `datasets` and the rewards.
_HOMES = {
    "CheckFailedError": "check",
    "CheckReport": "check",
    "RowError": "rows",
    "apply_template": "templates",
    "check_dataset": "check",
    "load_prompts": "load",
    "undo_template": "templates",
}

__all__ = [
    "CheckFailedError",
    "CheckReport",
    "RowError",
    "apply_template",
    "check_dataset",
    "load_prompts",
    "undo_template",
]

if TYPE_CHECKING:
    from .check import CheckFailedError, CheckReport, check_dataset
    from .load import load_prompts
    from .rows import RowError
    from .templates import apply_template, undo_template


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
