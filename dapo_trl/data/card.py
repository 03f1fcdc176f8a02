"""The data card: what a prepared data set is made of, and how."""

from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path, PurePath
from typing import Any

from huggingface_hub import DatasetCardData

from .prepare_config import PrepareConfig
from .records import Counts, RecordReader, source_name
from .scoring import RewardFunc, reward_name


DATA_FILE = "data/train-00000-of-00001.parquet"

# Settings that do not shape the data, and those that have a place of their own in the card.
_NOT_SHOWN = {"source", "output", "overwrite", "private", "conversational", "decontaminate_split", "pass_rate_server"}
_NOT_SHOWN |= {"pass_rate_batch_size", "reward_funcs", "answer_rule"}
_NOT_SHOWN |= {"check", "check_sample", "min_frac_right", "completion_template"}

_CARD = """---
{front_matter}
---

# {name}, prepared

{num_kept} problems with reference answers for reinforcement learning, prepared by `dapo-trl prepare-data` from
`{source}` (layout: {layout}).

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
| `solution` | the reference answer |
| `problem` | the problem, without the template around it |
| `source` | where the problem is from |
"""
_PASS_RATE = "| `pass_rate` | fraction of a model's completions that were right |\n"


def write_card(config: PrepareConfig, reader: RecordReader, counts: Counts, reward_func: RewardFunc | None) -> str:
    """
    The text of the card, valid for the Hub. It holds no date and no local path: same input, same bytes.

    Args:
        config ([`PrepareConfig`]): settings of the command; those that shaped the data are shown.
        reader ([`RecordReader`]): the source that was read.
        counts ([`Counts`]): rows read, left out and kept.
        reward_func (`Callable`, *optional*): what judged completions for the column `pass_rate`, if there is one.
    """
    source = source_name(config.source)
    is_local = Path(config.source).expanduser().exists()
    # Named after the source, not after the directory it is written to.
    name = PurePath(source).stem if is_local else source.rpartition("/")[2]
    front_matter = DatasetCardData(
        pretty_name=f"{name}, prepared",
        task_categories=["text-generation"],
        tags=["dapo", "trl", "reinforcement-learning", "math"],
        source_datasets=None if is_local else [source],
        configs=[{"config_name": "default", "data_files": [{"split": "train", "path": DATA_FILE}]}],
    )
    card = _CARD.format(
        front_matter=front_matter.to_yaml(),
        name=name,
        num_kept=counts.num_kept,
        source=source,
        layout=reader.layout.name,
        counts=_table(counts.described()),
        settings=_table((f"`{key}`", f"`{_one_line(value)}`") for key, value in _settings(config, reward_func)),
        prompt_kind="a list of messages" if reader.conversational else "a text",
    )
    return card + _PASS_RATE if reward_func else card


def _settings(config: PrepareConfig, reward_func: RewardFunc | None) -> list[tuple[str, Any]]:
    settings = {f.name: getattr(config, f.name) for f in fields(config) if f.name not in _NOT_SHOWN}
    settings["prompt_template"] = config.prompt_template or "as in the source; dapo around bare problems"
    if config.decontaminate:
        settings["decontaminate"] = ", ".join(map(source_name, config.decontaminate))
    for name in ("tokenizer", "pass_rate_model"):
        settings[name] = settings[name] and source_name(settings[name])
    if reward_func:
        settings["pass_rate_reward"] = reward_name(reward_func)
    return [(name, value) for name, value in settings.items() if value is not None]


def _table(rows: Iterable[tuple[Any, Any]]) -> str:
    return "\n".join(f"| {left} | {right} |" for left, right in rows)


def _one_line(value: Any) -> str:
    return str(value).replace("\n", "\\n").replace("|", "\\|").replace("`", "'")
