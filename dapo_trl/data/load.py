"""A data set from the Hub or from a local file, as the `prompt` and `solution` columns that training needs."""

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Dataset, Features, List, ReadInstruction, Value, concatenate_datasets, load_dataset
from datasets.exceptions import DatasetGenerationError

from .files import Row, WrittenFloat, file_kind, file_rows
from .layouts import find_layout, get_column
from .rows import make_reader
from .sources import check_path, find_files, with_both_readings
from .templates import resolve_template


_CAST_TO_TEXT = ("float16", "float32", "uint64")
"""Kinds of numbers that are not in Python as they are in a table: 0.1 in 32 bits would be 0.10000000149011612."""
_NUMBERS = (int, float, WrittenFloat)

_MESSAGES = List({"role": Value("string"), "content": Value("string")})


def load_prompts(
    source: str,
    *,
    split: str = "train",
    config: str | None = None,
    prompt_column: str | None = None,
    solution_column: str | None = None,
    prompt_template: str | None = None,
    conversational: bool | None = None,
) -> Dataset:
    r"""
    Loads a data set of problems with reference answers as columns `prompt` and `solution`; other columns are kept.

    Reference answers keep their digits. Where they are numbers with a point, an exponent or many digits in a JSON
    file, or numbers in a CSV file on the Hub, the column they are from is text, too. Of numbers in a parquet file the
    value is kept (`1.5` for `1.50`); floats of 2^53 and more are refused.

    Recognized by their columns: DAPO-Math-17k in its published layouts, GSM8K (`question`, and `answer` with the gold
    after `####`), MATH (`problem`, and `answer` or a worked `solution` with a `\boxed{}`), and plain files with
    `prompt`, `problem` or `question` beside `solution`, `answer` or `label`.

    Args:
        source (`str`): Hub id, path of a `.json`, `.jsonl` or `.parquet` file, or a directory with such files.
        split (`str`, *optional*, defaults to `"train"`): split to load; slices such as `"train[:1000]"` work.
        config (`str`, *optional*): configuration (subset) of a data set on the Hub.
        prompt_column (`str`, *optional*): column, or dotted path, with the prompt or problem, if not found by name.
        solution_column (`str`, *optional*): column, or dotted path, with the reference answer, if not found by name.
        prompt_template (`str`, *optional*): `"dapo"`, `"boxed"`, `"plain"`, or a text with `{problem}`: put around
            every problem, in place of a known template that is around it already. If `None`, message lists, texts of a
            column named `prompt` and texts in a known template stay as they are, and bare problems (the other columns)
            get the `dapo` template.
        conversational (`bool`, *optional*): `True`: prompts are message lists, for models with a chat template.
            `False`: prompts are texts. `None`: message lists if the data set has them, texts otherwise.

    Raises:
        FileNotFoundError: if the source is neither a file that exists nor a data set on the Hub.
        ValueError: if it has no rows, columns of no known layout, or `prompt_template` is no template.
        RowError: if a row has no prompt or no reference answer.
    """
    if prompt_template is not None:
        resolve_template(prompt_template)  # a mistake in it should not wait for a download
    columns = {"prompt_column": prompt_column, "solution_column": solution_column}
    dataset = open_source(source, split, config, **columns)
    first = list(islice(dataset, 1))
    reader = make_reader(first, source, **columns, prompt_template=prompt_template, conversational=conversational)
    if getattr(dataset.features.get(reader.layout.solution), "dtype", None) in _CAST_TO_TEXT:
        dataset = dataset.cast_column(reader.layout.solution, Value("string"))
    prompt_feature = _MESSAGES if reader.conversational else Value("string")
    features = Features({**dataset.features, "prompt": prompt_feature, "solution": Value("string")})
    # Cached results would outlive changes to this code: the cache knows functions of a package by name only.
    return dataset.map(
        reader.prompt_and_solution,
        with_indices=True,
        features=features,
        load_from_cache_file=False,
        desc=f"Reading {Path(source).name}",
    )


def open_source(source: str, split: str = "train", config: str | None = None, **columns: str | None) -> Dataset:
    """Opens a source with its own columns, and all digits of reference answers that are numbers in JSON or CSV."""
    is_local = check_path(source).exists()
    name = split.partition("[")[0]  # of train[:1000]
    files = find_files(source, name, config) if is_local else None
    if files and file_kind(files[0]) == "json":
        return _read_json(files, source, split, columns)
    try:
        with with_both_readings(source):
            if files:
                # Named file by file: `datasets` caches a directory with a data card by its name and card alone, and
                # would return the rows of an earlier directory of that name.
                return load_dataset("parquet", data_files={name: files}, split=split)
            dataset = load_dataset(source, config, split=split)
            kind = dataset.info.builder_name
            column = _solution_column(next(iter(dataset), Row()), source, columns)
            if kind == "csv" and column is not None:  # 007, 1.50
                return load_dataset(source, config, split=split, converters={column: str})
            if kind == "json" and column is not None and isinstance(get_column(dataset[0], column), float):
                files = find_files(source, name, config)
            return _read_json(files, source, split, columns) if files else dataset
    except (DatasetGenerationError, pa.ArrowInvalid) as error:
        raise ValueError(f"{source!r} cannot be read: {error.__cause__ or error}") from error
    except ValueError as error:  # such as an unknown split: it does not say of which data set
        raise ValueError(f"{source!r}, split {split!r}: {error}") from error


def _read_json(files: list[str], source: str, split: str, columns: Mapping[str, str | None]) -> Dataset:
    """Read here, because `datasets` makes floats of large integers, of decimals, and of what stands beside them."""
    rows = list(file_rows(files))
    column = _solution_column(rows[0] if rows else {}, source, columns)
    if column is not None and not _are_exact([get_column(row, column) for row in rows]):
        for row in rows:
            _write_as_text(row, column)
    names = dict.fromkeys(name for row in rows for name in row)
    content = {name: [row.get(name) for row in rows] for name in names}
    try:
        dataset = Dataset.from_dict(content, on_mixed_types="use_json")
    except OverflowError as error:
        raise ValueError(
            f"{source!r} holds an integer of more than 64 bits. Write it as a text, in quotes."
        ) from error
    slices = ReadInstruction.from_spec(split).to_absolute({split.partition("[")[0]: len(rows)})
    return concatenate_datasets([dataset.select(range(part.from_, part.to)) for part in slices])


def _solution_column(first: Row, source: str, columns: Mapping[str, str | None]) -> str | None:
    try:
        return find_layout(first, source, **columns).solution
    except ValueError:  # it is said where the rows are read
        return None


def _are_exact(values: list[Any]) -> bool:
    """Whether `datasets` keeps them as they are: texts alone, or integers that a float has room for."""
    kinds = {type(value) for value in values if value is not None}
    return kinds <= {str} or (kinds <= {int} and all(abs(value or 0) < 2**53 for value in values))


def _write_as_text(row: Row, path: str) -> None:
    head, _, rest = path.partition(".")
    value = row.get(path)
    if isinstance(value, list):
        row[path] = [str(entry) if type(entry) in _NUMBERS else entry for entry in value]
    elif type(value) in _NUMBERS:
        row[path] = str(value) if value == value else None  # NaN
    elif path not in row and isinstance(row.get(head), dict):
        _write_as_text(row[head], rest)


def stream_rows(source: str, split: str = "train", config: str | None = None, **columns: str | None) -> Iterator[Row]:
    """The rows of a source one after another: JSON and parquet in chunks, others by [`open_source`]."""
    files = find_files(source, split, config)
    return file_rows(files) if files else iter(open_source(source, split, config, **columns))
