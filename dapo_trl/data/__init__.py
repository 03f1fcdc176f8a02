"""Data sets in, `prompt` and `solution` columns out."""

from .check import check_dataset
from .check_report import CheckFailedError, CheckReport
from .load import load_prompts
from .rows import RowError
from .templates import TEMPLATES, apply_template, undo_template


__all__ = [
    "TEMPLATES",
    "CheckFailedError",
    "CheckReport",
    "RowError",
    "apply_template",
    "check_dataset",
    "load_prompts",
    "undo_template",
]
