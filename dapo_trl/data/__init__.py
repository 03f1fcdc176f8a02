"""Data sets in, `prompt` and `solution` columns out."""

from .load import RowError, load_prompts
from .templates import TEMPLATES, apply_template, undo_template


__all__ = ["TEMPLATES", "RowError", "apply_template", "load_prompts", "undo_template"]
