"""How a setting is declared: a data class's field with its help. Imports no torch."""

from dataclasses import field
from typing import Any


def option(default: Any, help: str, **metadata: Any) -> Any:
    """A field with a default (`MISSING` for none; a list is copied), help, and further metadata such as choices."""
    metadata["help"] = help
    if isinstance(default, list):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)
