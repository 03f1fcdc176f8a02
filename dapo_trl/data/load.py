"""A data set from the Hub or from a local file, as the `prompt` and `solution` columns that training needs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
from datasets import Dataset, DownloadManager, Features, IterableDataset, List, Value, load_dataset
from datasets.exceptions import DatasetGenerationError

from .files import Row, json_rows, parquet_rows, with_text_column
from .layouts import find_layout, get_column
from .rows import make_reader
from .sources import BUILDERS, check_path, file_suffix, find_files, with_both_readings
from .templates import resolve_template


_CAST_TO_TEXT = ("float16", "float32", "uint64")
"""Kinds of numbers that are not in Python as they are in a table: 0.1 in 32 bits would be 0.10000000149011612."""

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
    streaming: bool = False,
) -> Dataset | IterableDataset:
    r"""
    Loads a data set of problems with reference answers as columns `prompt` and `solution`; other columns are kept.

    Reference answers keep their digits. Where they are numbers with a point, an exponent or many digits in a JSON
    file, or numbers in a CSV file on the Hub, the column they are from is text, too. Of numbers in a parquet file, and
    of those in JSON on the Hub when streaming, the value is kept (`1.5` for `1.50`); floats of 2^53 and more are
    refused.

    Recognized by their columns: DAPO-Math-17k in its published layouts, GSM8K (`question`, and `answer` with the gold
    after `####`), MATH (`problem`, and `answer` or a worked `solution` with a `\boxed{}`), and plain files with
    `prompt`, `problem` or `question` beside `solution`, `answer` or `label`.

    Args:
        source (`str`):
            Hub id, path of a `.json`, `.jsonl` or `.parquet` file, or a directory with such files.
        split (`str`, *optional*, defaults to `"train"`):
            Split to load; slices such as `"train[:1000]"` work, except when streaming.
        config (`str`, *optional*):
            Configuration (subset) of a data set on the Hub.
        prompt_column (`str`, *optional*):
            Column, or dotted path, with the prompt or problem; found by name if not given.
        solution_column (`str`, *optional*):
            Column, or dotted path, with the reference answer; found by name if not given.
        prompt_template (`str`, *optional*):
            `"dapo"`, `"boxed"`, `"plain"`, or a text with `{problem}`: put around every problem, in place of a known
            template that is around it already. If `None`, message lists, texts of a column named `prompt` and texts in
            a known template stay as they are, and bare problems (the other columns) get the `dapo` template.
        conversational (`bool`, *optional*):
            `True`: prompts are message lists, for models with a chat template. `False`: prompts are texts. `None`:
            message lists if the data set has them, texts otherwise.
        streaming (`bool`, *optional*, defaults to `False`):
            Return an iterable data set that reads rows when they are asked for.

    Returns:
        `datasets.Dataset`, or `datasets.IterableDataset` if `streaming`.

    Raises:
        FileNotFoundError: if the source is neither a file that exists nor a data set on the Hub.
        ValueError: if it has no rows, columns of no known layout, or `prompt_template` is no template.
        RowError: if a row has no prompt or no reference answer.
    """
    if prompt_template is not None:
        resolve_template(prompt_template)  # a mistake in it should not wait for a download
    columns = {"prompt_column": prompt_column, "solution_column": solution_column}
    dataset = open_source(source, split=split, config=config, streaming=streaming, **columns)
    reader = make_reader(
        next(iter_rows(dataset, source), None),
        source,
        **columns,
        prompt_template=prompt_template,
        conversational=conversational,
    )
    if isinstance(dataset, IterableDataset) and dataset.features is None:
        dataset = dataset._resolve_features()
    if getattr(dataset.features.get(reader.layout.solution), "dtype", None) in _CAST_TO_TEXT:
        dataset = dataset.cast_column(reader.layout.solution, Value("string"))
    prompt_feature = _MESSAGES if reader.conversational else Value("string")
    features = Features({**dataset.features, "prompt": prompt_feature, "solution": Value("string")})
    # Cached results would outlive changes to this code: the cache knows functions of a package by name only.
    options = {} if streaming else {"load_from_cache_file": False, "desc": f"Reading {Path(source).name}"}
    return dataset.map(reader.prompt_and_solution, with_indices=True, features=features, **options)


def open_source(
    source: str,
    *,
    split: str = "train",
    config: str | None = None,
    streaming: bool = False,
    prompt_column: str | None = None,
    solution_column: str | None = None,
) -> Dataset | IterableDataset:
    """
    Opens a local file or directory, or a data set on the Hub, with the columns it has.

    Reference answers that are numbers in a JSON or CSV file become texts where digits would be lost.

    Raises:
        FileNotFoundError: if the source is neither a file that exists nor a data set on the Hub.
        ValueError: if a local file cannot be read.
    """
    options: dict[str, Any] = {"split": split, "streaming": streaming}
    location = (source, config)
    is_local = check_path(source).exists()
    if is_local:
        # Named file by file: `datasets` caches a directory with a data card by its name and card alone, and would
        # return the rows of an earlier directory of that name.
        name = split.partition("[")[0]
        files = _with_exact_golds(find_files(source, name, config) or [], source, prompt_column, solution_column)
        location, options["data_files"] = (BUILDERS[file_suffix(files[0])], None), {name: files}
    try:
        with with_both_readings(source):
            dataset = load_dataset(*location, **options)
            if is_local:
                return dataset
            return _reread_with_exact_golds(dataset, source, config, options, prompt_column, solution_column)
    except (DatasetGenerationError, pa.ArrowInvalid) as error:
        raise ValueError(f"{source!r} cannot be read: {error.__cause__ or error}") from error
    except ValueError as error:  # such as an unknown split: it does not say of which data set
        raise ValueError(f"{source!r}, split {split!r}: {error}") from error


def _reread_with_exact_golds(
    dataset: Dataset | IterableDataset,
    source: str,
    config: str | None,
    options: dict[str, Any],
    prompt_column: str | None,
    solution_column: str | None,
) -> Dataset | IterableDataset:
    """A data set of the Hub, read again if its golds may be numbers in CSV (007, 1.50), or are floats in JSON."""
    try:
        first = next(iter(dataset), {})
        column = find_layout(first, source, prompt_column, solution_column).solution
    except ValueError:  # it is said where the rows are read
        return dataset
    if dataset.info.builder_name == "csv":
        return load_dataset(source, config, converters={column: str}, **options)
    if (
        dataset.info.builder_name == "json"
        and isinstance(get_column(first, column), float)
        and not options["streaming"]
    ):
        name = options["split"].partition("[")[0]
        files = DownloadManager().download(find_files(source, name, config) or [])
        if files:  # none: compressed ones
            files = [with_text_column(file, column) for file in files]
            return load_dataset("json", data_files={name: files}, **options)
    return dataset


def _with_exact_golds(
    files: list[str], source: str, prompt_column: str | None, solution_column: str | None
) -> list[str]:
    if BUILDERS[file_suffix(files[0])] != "json":
        return files
    try:
        first = next(_file_rows(files), {})
        column = find_layout(first, source, prompt_column, solution_column).solution
    except ValueError:  # it is said where the rows are read
        return files
    return [with_text_column(file, column) for file in files]


def iter_rows(dataset: Dataset | IterableDataset, source: str) -> Iterator[Row]:
    """The rows of an opened data set; a file that cannot be read on is a `ValueError` that names it."""
    try:
        yield from dataset
    except (DatasetGenerationError, pa.ArrowInvalid) as error:
        raise ValueError(f"{source!r} cannot be read: {error.__cause__ or error}") from error


def stream_rows(source: str, split: str = "train", config: str | None = None, **columns: str | None) -> Iterator[Row]:
    """
    The rows of a local file or directory, or of a data set on the Hub, one after another in little memory.

    Parquet and JSON-lines files are read in chunks, also from the Hub; a `.json` file with one big list is read
    whole; anything else on the Hub is left to `datasets`. `columns`: those named by the user, as in [`open_source`].

    Raises:
        FileNotFoundError: if the source is neither a file that exists nor a data set on the Hub.
        ValueError: if a file cannot be read, with its name and, for JSON, the line.
    """
    files = find_files(source, split, config)
    if files is None:
        return iter_rows(open_source(source, split=split, config=config, streaming=True, **columns), source)
    return _file_rows(files)


def _file_rows(files: list[str]) -> Iterator[Row]:
    readers = {"json": json_rows, "parquet": parquet_rows}
    for file in files:
        with fsspec.open(file, "rb") as stream:
            yield from readers[BUILDERS[file_suffix(file)]](stream, file)
