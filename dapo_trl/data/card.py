"""The data card: what a prepared data set is made of, and how."""

from collections import Counter
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from huggingface_hub import DatasetCardData

from .counts import Counts


DATA_FILE = "data/train-00000-of-00001.parquet"

_CARD = """---
{front_matter}
---

# {name}, prepared

{num_kept} problems with gold answers for reinforcement learning, prepared by `dapo-trl prepare-data` from `{source}`
(layout: {layout}).

## Counts

| step | number |
|---|--:|
{counts}

## Settings

| setting | value |
|---|---|
{settings}

## Columns

| column | content |
|---|---|
| `id` | 32 hexadecimal digits made from the problem, the same wherever the problem occurs |
| `prompt` | what the model sees: {prompt_kind} |
| `solution` | the gold answer |
| `problem` | the problem, without the template around it |
| `source` | where the problem is from |
{pass_rate_column}
## Gold answers

| kind | number |
|---|--:|
{answer_types}
"""

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def write_card(
    *,
    source: str,
    is_hub_source: bool,
    layout: str,
    counts: Counts,
    settings: Mapping[str, Any],
    answer_types: Counter,
    conversational: bool,
    with_pass_rate: bool,
) -> str:
    """
    The text of the card, valid for the Hub. It holds no date and no local path: same input, same bytes.

    Args:
        source (`str`):
            Name of the source; a Hub id if `is_hub_source`, which is then linked from the card's metadata.
        layout (`str`):
            Layout of the source that was recognised.
        counts ([`Counts`]):
            Rows read, left out and kept.
        settings (`Mapping`):
            Settings that shaped the data, by name.
        answer_types (`Counter`):
            Number of gold answers per kind.
        conversational (`bool`):
            Prompts are lists of messages.
        with_pass_rate (`bool`):
            There is a column `pass_rate`.

    Returns:
        `str`
    """
    # Named after the source, not after the directory it is written to: same input, same bytes.
    name = PurePath(source).stem if not is_hub_source else source.rpartition("/")[2]
    return _CARD.format(
        front_matter=_front_matter(name, source if is_hub_source else None, counts.num_kept),
        name=name,
        num_kept=counts.num_kept,
        source=source,
        layout=layout,
        counts=_table(counts.described()),
        settings=_table((f"`{key}`", f"`{_one_line(value)}`") for key, value in settings.items()),
        prompt_kind="a list of messages" if conversational else "a text",
        pass_rate_column="| `pass_rate` | fraction of a model's completions that were right |\n" * with_pass_rate,
        answer_types=_table(sorted(answer_types.items(), key=lambda item: (-item[1], item[0]))),
    )


def _front_matter(name: str, hub_source: str | None, num_rows: int) -> str:
    size = next((label for bound, label in _SIZES if num_rows < bound), "n>1M")
    return DatasetCardData(
        pretty_name=f"{name}, prepared",
        task_categories=["text-generation"],
        size_categories=[size],
        tags=["dapo", "trl", "reinforcement-learning", "math"],
        source_datasets=[hub_source] if hub_source else None,
        configs=[{"config_name": "default", "data_files": [{"split": "train", "path": DATA_FILE}]}],
    ).to_yaml()


def _table(rows: Any) -> str:
    return "\n".join(f"| {left} | {right} |" for left, right in rows)


def _one_line(value: Any) -> str:
    return str(value).replace("\n", "\\n").replace("|", "\\|").replace("`", "'")
