"""The steps of preparing a data set, one after the other, on a stream of records."""

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from huggingface_hub import DatasetCardData
from tqdm.auto import tqdm

from ..run.atomic_write import atomic_file
from ..run.secret_values import mask_text
from .check import RewardFunc, reward_name, score
from .decontaminate import Decontaminator, read_problems
from .prepare_config import PrepareConfig
from .records import Counts, Record, RecordReader, batches, deduplicate, source_name
from .tokens import prompt_ids


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


Sampler = Callable[[Sequence[Record]], list[list[str]]]
"""Samples completions: as many texts for each record."""

DATA_FILE = "data/train-00000-of-00001.parquet"
SAMPLER_BATCH = 32
"""Records sampled for at a time."""

_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_PATHS = ("tokenizer", "pass_rate_model")
_NOT_IN_CARD = {"source", "output", "overwrite", "private", "check", "check_sample", "min_frac_right"}
_NOT_IN_CARD |= {"pass_rate_server", "reward_funcs", "answer_rule"}
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

Those that are not their defaults:

```yaml
{settings}```
"""


def prepare(
    config: PrepareConfig,
    directory: Path,
    *,
    tokenizer: "PreTrainedTokenizerBase | None" = None,
    make_sampler: Callable[[bool], Sampler] | None = None,
    reward_func: RewardFunc | None = None,
) -> Counts:
    """
    Reads a source and writes a parquet file and a data card to a directory.

    The tokenizer counts tokens for `max_prompt_tokens`; `make_sampler`, told whether prompts are lists of messages,
    makes what samples completions for pass rates, which `reward_func` judges. A FileExistsError is raised if a data
    set is there and `overwrite` is off, a ValueError if the source cannot be read or no row is kept.
    """
    there = [name for name in (DATA_FILE, "README.md") if (directory / name).exists()]
    if there and not config.overwrite:
        raise FileExistsError(
            f"output={config.output!r} holds {there[0]} already. Choose another, or give --overwrite."
        )
    counts = Counts()
    reader = RecordReader(config.source, counts, **config.reading())
    sampler = make_sampler(reader.reader.conversational) if make_sampler else None
    records = list(deduplicate(tqdm(reader, desc="Reading", unit=" rows", unit_scale=True), counts))
    # Cheap criteria first, pass rates last.
    if tokenizer is not None and config.max_prompt_tokens is not None:
        num_tokens = [
            len(ids)
            for batch in batches(records, 1000)
            for ids in prompt_ids([record.prompt for record in batch], tokenizer)
        ]
        kept = [record for record, n in zip(records, num_tokens, strict=True) if n <= config.max_prompt_tokens]
        counts.num_too_long = len(records) - len(kept)
        records = kept
    if config.decontaminate:
        evaluation = Decontaminator(read_problems(config.decontaminate, config.decontaminate_split))
        kept = [record for record in records if not evaluation.is_contaminated(record.problem)]
        counts.num_contaminated = len(records) - len(kept)
        records = kept
    if sampler is not None and reward_func is not None:
        records = within_pass_rate(records, sampler, reward_func, config, counts)
    counts.num_kept = len(records)
    if not records:
        raise ValueError(f"No row is kept, so nothing is written: {counts}. Loosen the step that leaves out the most.")
    _write_parquet(records, directory / DATA_FILE)
    card = _card(config, reader.reader.layout.name, counts, reward_func if sampler else None)
    (directory / "README.md").write_text(mask_text(card), encoding="utf-8")
    return counts


def within_pass_rate(
    records: list[Record], sampler: Sampler, reward_func: RewardFunc, config: PrepareConfig, counts: Counts
) -> list[Record]:
    """The records with a pass rate (share of rewards above 0) in the range of the settings; the others are counted."""
    kept = []
    progress = tqdm(total=len(records), desc="Sampling", unit=" problems")
    for batch in batches(records, SAMPLER_BATCH):
        for record, texts in zip(batch, sampler(batch), strict=True):
            columns = {name: [getattr(record, name)] * len(texts) for name in ("solution", "problem", "source", "id")}
            rewards = score(reward_func, [record.prompt] * len(texts), texts, columns)
            known = [reward for reward in rewards if reward is not None]
            pass_rate = sum(reward > 0 for reward in known) / len(texts)
            if len(known) < len(texts):
                counts.num_unscorable += 1
            elif pass_rate < config.min_pass_rate:
                counts.num_too_hard += 1
            elif pass_rate > config.max_pass_rate:
                counts.num_too_easy += 1
            else:
                kept.append(replace(record, pass_rate=pass_rate))
        progress.update(len(batch))
    return kept


def _write_parquet(records: list[Record], path: Path) -> None:
    """The same records make the same bytes."""
    names = [("id", pa.string()), ("prompt", pa.string() if isinstance(records[0].prompt, str) else _MESSAGES)]
    names += [(name, pa.string()) for name in ("solution", "problem", "source")]
    if records[0].pass_rate is not None:
        names.append(("pass_rate", pa.float64()))
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist([vars(record) for record in records], schema=pa.schema(names))
    with atomic_file(path) as file:
        pq.write_table(table, file, compression="zstd")


def _card(config: PrepareConfig, layout: str, counts: Counts, reward_func: RewardFunc | None) -> str:
    """The data card, valid for the Hub. It holds no date and no local path: same input, same bytes."""
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
    shown = [f for f in fields(config) if f.name not in _NOT_IN_CARD and getattr(config, f.name) != f.default]
    settings = {f.name: getattr(config, f.name) for f in shown}
    settings |= {name: source_name(settings[name]) for name in _PATHS if name in settings}
    if config.decontaminate:
        settings["decontaminate"] = [source_name(evaluation) for evaluation in config.decontaminate]
    if reward_func:
        settings["pass_rate_reward"] = reward_name(reward_func)
    return _CARD.format(
        front_matter=front_matter.to_yaml(),
        name=name,
        num_kept=counts.num_kept,
        source=source,
        layout=layout,
        counts="\n".join(f"| {text} | {number} |" for text, number in counts.described()),
        settings=yaml.safe_dump(settings, sort_keys=False),
    )
