"""What a run of a recipe takes: memory and time."""

from .recipe import Recipe, read_recipe


__all__ = ["Recipe", "read_recipe"]
