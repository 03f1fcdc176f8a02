"""Data sets in, `prompt` and `solution` columns out."""

from .load import load_prompts
from .rows import RowError
from .templates import TEMPLATES, apply_template, undo_template


__all__ = ["TEMPLATES", "RowError", "apply_template", "load_prompts", "undo_template"]
