"""Rows of JSON and parquet files one after another, with numbers as they are written."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq


Row = dict[str, Any]

BUILDERS = {".json": "json", ".jsonl": "json", ".parquet": "parquet"}
"""Endings of the files that are read, and what `datasets` calls them."""

_BATCH_SIZE = 1000
_BUFFER_BYTES = 2**20


class WrittenFloat(float):
    """A number with a point or an exponent in a JSON text; as a text, it is what is written there."""

    text: str

    def __new__(cls, text: str) -> "WrittenFloat":
        number = super().__new__(cls, text)
        number.text = text
        return number

    def __str__(self) -> str:
        return self.text


def file_kind(file: str) -> str | None:
    """`"json"` or `"parquet"` by the ending of a file name, else None."""
    return BUILDERS.get(Path(file).suffix.lower())


def file_rows(files: list[str]) -> Iterator[Row]:
    """The rows of local or `hf://` files, in chunks (but JSON lists); a ValueError names file and line."""
    for file in files:
        with fsspec.open(file, "rb") as stream:
            yield from (_json_rows if file_kind(file) == "json" else _parquet_rows)(stream, file)


def _json_rows(stream: BinaryIO, file: str) -> Iterator[Row]:
    """Of a file with a row on each line, or with one list of rows."""
    is_list = stream.read(1) == b"["
    stream.seek(0)
    texts = [("it", stream.read())] if is_list else ((f"line {n}", line) for n, line in enumerate(stream, start=1))
    for where, text in texts:
        if not text.strip():
            continue
        try:
            parsed = json.loads(text, parse_float=WrittenFloat)
        except ValueError as error:
            raise ValueError(f"{file!r} cannot be read: {where} is not JSON ({error}). Correct it.") from error
        for index, row in enumerate(parsed if is_list else [parsed]):
            if not isinstance(row, dict):
                where = f"entry {index} of the list" if is_list else where
                raise ValueError(
                    f"{file!r}: {where} is a {type(row).__name__}, but a row must be an object with columns."
                )
            yield row


def _parquet_rows(stream: BinaryIO, file: str) -> Iterator[Row]:
    """`datasets` streams too, but holds whole row groups, 1 GB for one of 600,000 rows, and takes longer."""
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
