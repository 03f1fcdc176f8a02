"""What a run of a recipe takes: memory and time."""

from .hardware import Hardware, Sharding, read_sharding
from .recipe import Recipe, read_recipe
from .remedies import Remedy, find_remedy
from .report import format_estimate, format_problems, summarize
from .run import Estimate, Question, estimate


__all__ = [
    "Estimate",
    "Hardware",
    "Question",
    "Recipe",
    "Remedy",
    "Sharding",
    "estimate",
    "find_remedy",
    "format_estimate",
    "format_problems",
    "read_recipe",
    "read_sharding",
    "summarize",
]
