"""
The completions of an evaluation in a JSON-lines file, written as they come.

The first line holds the settings they were sampled with, every other line a sample:
`{"problem": id, "sample": 3, "seed": 17, "completion": "...", "num_tokens": 211, "is_truncated": false}`.
The name of the file holds a hash of the settings, so that samples of different settings are never mixed.
"""

import fcntl
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ..run.secret_values import mask_values
from .samples import Completion, Request


logger = logging.getLogger(__name__)


class CompletionsFileError(ValueError):
    """A file of completions that cannot be continued."""


class CompletionsFile:
    """
    A file of completions, to be continued or begun.

    Args:
        path (`Path`): the file; its directory is made.
        settings (`dict`): what the completions are sampled with; secrets are left out.

    Raises:
        CompletionsFileError: on entering, if the file is damaged, holds other settings, or is in use.

    Example:
    ```python
    >>> with CompletionsFile(path, settings) as file:
    ...     for request in requests:
    ...         if request.key not in file.done:
    ...             file.add(request, sample(request))
    ```
    """

    def __init__(self, path: Path, settings: dict[str, Any]):
        self.path = path
        self.settings = mask_values(settings)
        self.done: set[tuple[str, int]] = set()

    def __enter__(self) -> "CompletionsFile":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self.path, "a+b")
        try:
            self._lock()
            self._drop_half_line()
            self._read_header()
            self.done = {(row["problem"], row["sample"]) for row in self.rows()}
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(self, *_) -> None:
        self._file.close()

    def add(self, request: Request, completion: Completion) -> None:
        """Writes a sample."""
        row = {"problem": request.problem_id, "sample": request.sample, "seed": request.seed}
        row |= {"completion": completion.text, "num_tokens": completion.num_tokens}
        self._write(row | {"is_truncated": completion.is_truncated})
        self.done.add(request.key)

    def rows(self) -> Iterator[dict[str, Any]]:
        """
        The samples in the file.

        Raises:
            CompletionsFileError: if a line is not a sample.
        """
        with open(self.path, "rb") as file:
            file.readline()
            for number, line in enumerate(file, start=2):
                row = _parse(line)
                if row is None or not {"problem", "sample", "completion", "num_tokens", "is_truncated"} <= row.keys():
                    raise CompletionsFileError(
                        f"{self.path}, line {number}, is not a sample. Remove the line to sample it again, or the "
                        "file to begin anew."
                    )
                yield row

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with the process, however that ends
        except BlockingIOError as error:
            raise CompletionsFileError(
                f"{self.path} is being written by another evaluation with the same settings. Wait for it, or give "
                "another --output_dir."
            ) from error

    def _drop_half_line(self) -> None:
        """Cuts off a last line without its end, as a killed process leaves it."""
        size = self._file.seek(0, 2)
        end = _end_of_last_line(self._file, size)
        if end < size:
            logger.info("%s: the last line was half written; its sample is drawn again.", self.path)
            self._file.truncate(end)

    def _read_header(self) -> None:
        self._file.seek(0)
        line = self._file.readline()
        if not line:
            self._write({"settings": self.settings})
            return
        header = _parse(line)
        if header is None or header.get("settings") != self.settings:
            raise CompletionsFileError(
                f"{self.path} does not begin with the settings of this evaluation. Move the file away, or give "
                "another --output_dir."
            )

    def _write(self, row: dict[str, Any]) -> None:
        self._file.write(json.dumps(row).encode() + b"\n")
        self._file.flush()  # what was added survives a killed process


def _end_of_last_line(file: BinaryIO, size: int, block: int = 2**16) -> int:
    """Position behind the last line break."""
    end = size
    while end > 0:
        start = max(0, end - block)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
