"""Files that other programs read while they are being written."""

import os
from pathlib import Path


def write_atomically(path: Path, text: str) -> None:
    """Writes by temporary file and rename: whoever reads finds the whole text, or what was there before."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
