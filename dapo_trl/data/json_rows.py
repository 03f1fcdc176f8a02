"""Rows of JSON files, with numbers as they are written."""

import hashlib
import json
import mmap
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

import datasets


Row = dict[str, Any]


class WrittenFloat(float):
    """A number with a point or an exponent, of a JSON text; as a text, it is what is written there."""

    def __new__(cls, text: str) -> "WrittenFloat":
        number = super().__new__(cls, text)
        number.text = text
        return number

    def __str__(self) -> str:
        return self.text

    def __reduce__(self) -> tuple:
        return WrittenFloat, (self.text,)


def json_rows(stream: BinaryIO, file: str) -> Iterator[Row]:
    """
    The rows of a file with a row on each line, or with one list of rows.

    Raises:
        ValueError: if it is not JSON, with its name and the line, or a row is not an object.
    """
    if stream.read(1) == b"[":
        yield from _list_rows(stream, file)
        return
    stream.seek(0)
    for number, line in enumerate(stream, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, parse_float=WrittenFloat)
        except ValueError as error:
            raise ValueError(f"{file!r} cannot be read: line {number} is not JSON ({error}). Correct it.") from error
        yield _check_row(row, file, f"line {number}")


def _list_rows(stream: BinaryIO, file: str) -> Iterator[Row]:
    stream.seek(0)
    try:
        rows = json.load(stream, parse_float=WrittenFloat)
    except ValueError as error:
        raise ValueError(f"{file!r} cannot be read: it is not JSON ({error}). Correct it.") from error
    for index, row in enumerate(rows):
        yield _check_row(row, file, f"entry {index} of the list")


def _check_row(row: Any, file: str, where: str) -> Row:
    if not isinstance(row, dict):
        raise ValueError(f"{file!r}: {where} is a {type(row).__name__}, but a row must be an object with columns.")
    return row


def first_columns(file: str, num_rows: int = 100) -> Row:
    """The columns of the first rows, each with its first value that is not null."""
    columns: Row = {}
    with open(file, "rb") as stream:
        for _, row in zip(range(num_rows), json_rows(stream, file), strict=False):
            columns |= {name: value for name, value in row.items() if columns.get(name) is None}
    return columns


def with_text_column(file: str, column: str) -> str:
    """
    A file in which a column of numbers is one of texts, if `datasets` would not keep all their digits.

    Arrow and pandas, with which it reads JSON, make floats of large integers, of integers in a column that also holds
    decimals, and of decimals.

    Args:
        file (`str`): path of a JSON file.
        column (`str`): column, or dotted path.

    Returns:
        `str`: the file itself, if no such number is in it; else that of a copy, in the cache of `datasets`.
    """
    if not os.path.getsize(file) or not _has_lossy_numbers(file, column.rpartition(".")[2]):
        return file
    state = os.stat(file)
    key = f"{Path(file).resolve()} {state.st_mtime_ns} {state.st_size} {column}"
    directory = Path(datasets.config.HF_DATASETS_CACHE) / "dapo_trl" / hashlib.sha256(key.encode()).hexdigest()[:16]
    copy = directory / f"{Path(file).stem}.jsonl"
    if copy.exists():
        return str(copy)
    directory.mkdir(parents=True, exist_ok=True)
    temporary = directory / f"{uuid4().hex}.tmp"  # of several processes each writes one, and the last stays
    try:
        with open(file, "rb") as stream, open(temporary, "w", encoding="utf-8") as written:
            for row in json_rows(stream, file):
                _write_as_text(row, column)
                written.write(json.dumps(row) + "\n")
        os.replace(temporary, copy)
    finally:
        temporary.unlink(missing_ok=True)
    return str(copy)


def _has_lossy_numbers(file: str, name: str) -> bool:
    """By patterns on the bytes: to read all rows takes a hundred times as long."""
    start = rb'"%s"\s*:\s*\[?\s*' % re.escape(json.dumps(name)[1:-1]).encode()
    with open(file, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if re.search(start + rb"-?(?:\d+[.eE]|\d{16})", content):
            return True
        return bool(re.search(start + rb"-?\d", content) and re.search(start + b'"', content))


def _write_as_text(row: Row, column: str) -> None:
    if column in row:
        row[column] = _as_text(row[column])
        return
    head, _, rest = column.partition(".")
    if rest and isinstance(row.get(head), dict):
        _write_as_text(row[head], rest)


def _as_text(value: Any) -> Any:
    if isinstance(value, list):
        return [_as_text(entry) for entry in value]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number and value == value else None if is_number else value
