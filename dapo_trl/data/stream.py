"""
Rows of a source one after another, in little memory.

`datasets` can stream too, but it reads parquet files whole row groups at a time, and ahead: of a file with 1.8 million
rows it held 2 GB and took several times as long as pyarrow does here.
"""

from collections.abc import Callable, Iterator
from typing import BinaryIO

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from .json_rows import Row, json_rows
from .load import iter_rows, open_source
from .sources import file_suffix, find_files


_BATCH_SIZE = 1000
_BUFFER_BYTES = 2**20


def stream_rows(source: str, split: str = "train", config: str | None = None, **columns: str | None) -> Iterator[Row]:
    """
    The rows of a local file or directory, or of a data set on the Hub.

    Parquet and JSON-lines files are read piece by piece, also from the Hub; a `.json` file with one big list is read
    whole; anything else on the Hub is left to `datasets`. `columns`: those named by the user, as in [`open_source`].

    Raises:
        FileNotFoundError: if the source is neither a file that exists nor a data set on the Hub.
        ValueError: if a file cannot be read, with its name and, for JSON, the line.
    """
    files = find_files(source, split, config)
    if files is None:
        yield from iter_rows(open_source(source, split=split, config=config, streaming=True, **columns), source)
        return
    for file in files:
        with fsspec.open(file, "rb") as stream:
            yield from _READERS[file_suffix(file)](stream, file)


def _parquet_rows(stream: BinaryIO, file: str) -> Iterator[Row]:
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


_READERS: dict[str, Callable[[BinaryIO, str], Iterator[Row]]] = {
    ".parquet": _parquet_rows,
    ".json": json_rows,
    ".jsonl": json_rows,
}
