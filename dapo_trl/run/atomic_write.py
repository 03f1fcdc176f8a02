"""Atomic file writes: whoever reads finds the whole new file, or what was there before."""

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from .secret_values import mask_values


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of `path` when it is whole and on the disk."""
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def write_atomically(path: Path, text: str) -> None:
    """Writes a whole text."""
    with atomic_file(path) as file:
        file.write(text.encode())


def write_json(path: Path, content: Any, default: Callable[[Any], Any] | None = None) -> None:
    """Writes a record of a run without its secrets; `default` makes something of values that JSON does not know."""
    text = json.dumps(mask_values(content), indent=1, default=default, ensure_ascii=False)
    write_atomically(path, text + "\n")
