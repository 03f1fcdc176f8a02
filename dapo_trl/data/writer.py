"""Write records to a parquet file, a batch at a time."""

import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from .batches import batches
from .records import Record


_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_BATCH_SIZE = 1000


def write_parquet(records: Iterable[Record], path: Path, *, conversational: bool, with_pass_rate: bool) -> None:
    """
    Writes records as columns `id`, `prompt`, `solution`, `problem`, `source` and, if asked, `pass_rate`.

    The file appears under its name only when it is complete. The same records make the same bytes (with the same
    version of pyarrow).
    """
    names = [("id", pa.string()), ("prompt", _MESSAGES if conversational else pa.string())]
    names += [(name, pa.string()) for name in ("solution", "problem", "source")]
    if with_pass_rate:
        names.append(("pass_rate", pa.float64()))
    schema = pa.schema(names)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".tmp")
    try:
        with pq.ParquetWriter(unfinished, schema, compression="zstd") as writer:
            for batch in batches(records, _BATCH_SIZE):
                rows = [asdict(record) for record in batch]
                writer.write_table(pa.Table.from_pylist(rows, schema=schema))
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
