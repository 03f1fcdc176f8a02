"""A data set from the Hub or from a local file, as the `prompt` and `solution` columns that training needs."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, IterableDataset, List, Value, load_dataset
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError

from .layouts import Layout, describe_columns, find_layout, get_column, read_gold
from .prompts import as_messages, as_text, build_prompt
from .templates import resolve_template


_BUILDERS = {".json": "json", ".jsonl": "json", ".parquet": "parquet"}
_MESSAGES = List({"role": Value("string"), "content": Value("string")})


class RowError(ValueError):
    """A row that cannot be read. The message names the data set, the row, the column, and says what to change."""


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
    Loads a data set of problems with gold answers as columns `prompt` and `solution`; other columns are kept.

    Recognised by their columns: DAPO-Math-17k in its published layouts, GSM8K (`question`, and `answer` with the gold
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
            Column, or dotted path, with the gold answer; found by name if not given.
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
        RowError: if a row has no prompt or no gold answer.
    """
    if prompt_template is not None:
        prompt_template = resolve_template(prompt_template)
    dataset = open_source(source, split=split, config=config, streaming=streaming)
    first = next(iter(dataset), None)
    if first is None:
        raise ValueError(f"{source!r}, split {split!r}, has no rows. Name a file or split that has some.")
    layout = find_layout(first, source, prompt_column, solution_column)
    if conversational is None:
        conversational = isinstance(get_column(first, layout.prompt), list)
    if streaming and dataset.features is None:
        dataset = dataset._resolve_features()
    features = Features(
        {**dataset.features, "prompt": _MESSAGES if conversational else Value("string"), "solution": Value("string")}
    )
    convert = partial(
        convert_row, layout=layout, source=source, prompt_template=prompt_template, conversational=conversational
    )
    # Cached results would outlive changes to this code: the cache knows functions of a package by name only.
    options = {} if streaming else {"load_from_cache_file": False, "desc": f"Reading {Path(source).name}"}
    return dataset.map(convert, with_indices=True, features=features, **options)


def open_source(
    source: str, *, split: str = "train", config: str | None = None, streaming: bool = False
) -> Dataset | IterableDataset:
    """
    Opens a local file or directory, or a data set on the Hub, with the columns it has.

    Raises:
        FileNotFoundError: if the source is neither a file that exists nor a data set on the Hub.
        ValueError: if a local file cannot be read.
    """
    path = Path(source).expanduser()
    builder = _BUILDERS.get(path.suffix.lower())
    if path.is_file() and builder is None:
        raise ValueError(f"{source!r}: files must end in {', '.join(_BUILDERS)}. Convert the file to one of these.")
    if not path.exists() and (builder or path.is_absolute() or source.startswith(("./", "../", "~"))):
        raise FileNotFoundError(
            f"{source!r} looks like a local path, and there is no such file (looked for {path.absolute()}). Correct "
            "the path, or give the id of a data set on the Hub (`owner/name`)."
        )
    try:
        if path.is_file():
            files = {split.partition("[")[0]: str(path)}
            return load_dataset(builder, data_files=files, split=split, streaming=streaming)
        return load_dataset(str(path) if path.is_dir() else source, config, split=split, streaming=streaming)
    except DatasetGenerationError as error:
        raise ValueError(f"{source!r} cannot be read: {error.__cause__ or error}") from error
    except (DatasetNotFoundError, ConnectionError) as error:
        raise FileNotFoundError(
            f"{source!r} is neither a local file or directory (looked for {path.absolute()}) nor a data set that "
            f"could be reached on the Hub ({error}). Correct the path or the id; private data sets need a login."
        ) from error


def convert_row(
    row: Mapping[str, Any],
    index: int,
    *,
    layout: Layout,
    source: str,
    prompt_template: str | None = None,
    conversational: bool = False,
) -> dict[str, Any]:
    """The `prompt` and `solution` of a row, or a [`RowError`] that names row and column."""
    where = f"{source!r}, row {index} (the first is 0)"
    try:
        gold = read_gold(_value(row, layout.solution), layout.is_worked)
    except TypeError as error:
        raise RowError(f"{where}, column {layout.solution!r}: {error}. {_columns(row)}") from error
    if gold is None:
        kind = "no gold answer after `####` or in `\\boxed{}`" if layout.is_worked else "no gold answer"
        raise RowError(
            f"{where}, column {layout.solution!r}: {kind} in {_shorten(_value(row, layout.solution))}. Name another "
            f"column with solution_column, or let prepare_data leave such rows out. {_columns(row)}"
        )
    try:
        prompt, _ = build_prompt(row, layout, prompt_template)
        prompt = as_messages(prompt) if conversational else as_text(prompt)
    except (TypeError, ValueError, KeyError) as error:
        raise RowError(f"{where}, column {layout.prompt!r}: {error}. {_columns(row)}") from error
    return {"prompt": prompt, "solution": gold}


def _value(row: Mapping[str, Any], path: str) -> Any:
    try:
        return get_column(row, path)
    except KeyError:
        return None


def _columns(row: Mapping[str, Any]) -> str:
    return f"The row's columns: {describe_columns(row)}."


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:40]}...{text[-37:]}"
