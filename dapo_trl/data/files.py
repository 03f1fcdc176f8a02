"""Rows of JSON and parquet files one after another, with numbers as they are written."""

import hashlib
import json
import mmap
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from .layouts import get_column


Row = dict[str, Any]

_BATCH_SIZE = 1000
_BUFFER_BYTES = 2**20


def json_rows(stream: BinaryIO, file: str, parse_float: Callable[[str], Any] = str) -> Iterator[Row]:
    """
    The rows of a file with a row on each line, or with one list of rows. Decimals are texts, to keep all digits.

    Raises:
        ValueError: if it is not JSON, with its name and the line, or a row is not an object.
    """
    is_list = stream.read(1) == b"["
    stream.seek(0)
    texts = [("it", stream.read())] if is_list else ((f"line {n}", line) for n, line in enumerate(stream, start=1))
    for where, text in texts:
        if not text.strip():
            continue
        try:
            parsed = json.loads(text, parse_float=parse_float)
        except ValueError as error:
            raise ValueError(f"{file!r} cannot be read: {where} is not JSON ({error}). Correct it.") from error
        for index, row in enumerate(parsed if is_list else [parsed]):
            if not isinstance(row, dict):
                where = f"entry {index} of the list" if is_list else where
                raise ValueError(
                    f"{file!r}: {where} is a {type(row).__name__}, but a row must be an object with columns."
                )
            yield row


def parquet_rows(stream: BinaryIO, file: str) -> Iterator[Row]:
    """
    The rows of a parquet file, in little memory.

    `datasets` streams too, but reads whole row groups: of a file with one group of 600,000 rows it holds 1 GB and
    takes several times as long.
    """
    try:
        reader = pq.ParquetFile(stream, buffer_size=_BUFFER_BYTES, pre_buffer=False)
        for batch in reader.iter_batches(_BATCH_SIZE):
            for index, field in enumerate(batch.schema):
                if pa.types.is_float16(field.type) or pa.types.is_float32(field.type):
                    # 0.1 in 32 bits would be 0.10000000149011612 in Python.
                    batch = batch.set_column(index, field.name, batch.column(index).cast(pa.string()))
            yield from batch.to_pylist()
    except pa.ArrowInvalid as error:
        raise ValueError(f"{file!r} cannot be read: {error}. Is it a complete parquet file?") from error


def with_text_column(file: str, column: str) -> str:
    """
    A JSON file in which a column (or dotted path) of numbers is one of texts, if `datasets` would not keep all digits.

    Arrow and pandas, with which it reads JSON, make floats of large integers, of integers in a column that also holds
    decimals, and of decimals.

    Returns:
        `str`: the file itself, if no such number is in it; else a copy, in the cache of `datasets`.
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
        with (
            open(file, "rb") as plain,
            open(file, "rb") as exact,
            open(temporary, "w", encoding="utf-8") as written,
        ):
            for row, texts in zip(json_rows(plain, file, float), json_rows(exact, file), strict=True):
                _set_column(row, column, _as_text(get_column(texts, column)))
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


def _set_column(row: Row, path: str, value: Any) -> None:
    head, _, rest = path.partition(".")
    if path in row:
        row[path] = value
    elif isinstance(row.get(head), Mapping):
        _set_column(row[head], rest, value)


def _as_text(value: Any) -> Any:
    if isinstance(value, list):
        return [_as_text(entry) for entry in value]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number and value == value else None if is_number else value
