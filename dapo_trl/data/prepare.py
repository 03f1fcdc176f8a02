"""The steps of preparing a data set, one after the other, on a stream of records."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm.auto import tqdm

from ..run.secret_values import mask_text
from .card import DATA_FILE, write_card
from .decontaminate import Decontaminator, read_problems
from .deduplicate import deduplicate
from .prepare_config import PrepareConfig
from .records import Counts, Record, RecordReader, batches
from .scoring import RewardFunc, score
from .tokens import prompt_ids


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


Sampler = Callable[[Sequence[Record]], list[list[str]]]
"""Samples completions: as many texts for each record."""

_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_BATCH_SIZE = 1000


def prepare(
    config: PrepareConfig,
    directory: Path,
    *,
    tokenizer: "PreTrainedTokenizerBase | None" = None,
    make_sampler: Callable[[bool], Sampler] | None = None,
    reward_func: RewardFunc | None = None,
) -> Counts:
    """
    Reads a source and writes a prepared data set: a parquet file and a data card.

    Args:
        config ([`PrepareConfig`]): settings.
        directory (`Path`): where to write.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`], *optional*): counts tokens for `max_prompt_tokens`.
        make_sampler (`Callable`, *optional*): from whether prompts are lists of messages, what samples completions for
            pass rates. Without it there are none.
        reward_func (`Callable`, *optional*): judges them.

    Raises:
        FileExistsError: if the directory holds a data set already and `overwrite` is off.
        ValueError: if the source cannot be read, or no row is kept.
    """
    _refuse_overwriting(directory, config)
    counts = Counts()
    reader = RecordReader(
        config.source,
        counts,
        split=config.split,
        config=config.config_name,
        prompt_column=config.prompt_column,
        solution_column=config.solution_column,
        prompt_template=config.prompt_template,
        conversational=config.conversational,
    )
    sampler = make_sampler(reader.conversational) if make_sampler else None
    records = deduplicate(tqdm(reader, desc="Reading", unit=" rows", unit_scale=True), counts)
    # Cheap criteria first, pass rates last.
    if tokenizer is not None and config.max_prompt_tokens is not None:
        records = _within_token_limit(records, tokenizer, config.max_prompt_tokens, counts)
    if config.decontaminate:
        records = _uncontaminated(records, config, counts)
    if sampler is not None and reward_func is not None:
        records = within_pass_rate(records, sampler, reward_func, config, counts)
    records = _counted(tqdm(records, desc="Writing", unit=" problems"), counts)
    _write_parquet(records, directory / DATA_FILE, reader.conversational, with_pass_rate=sampler is not None)
    card = write_card(config, reader, counts, reward_func if sampler else None)
    (directory / "README.md").write_text(mask_text(card), encoding="utf-8")
    return counts


def _refuse_overwriting(directory: Path, config: PrepareConfig) -> None:
    there = [path for path in (directory / DATA_FILE, directory / "README.md") if path.exists()]
    if there and not config.overwrite:
        raise FileExistsError(
            f"output={config.output!r} holds {there[0].relative_to(directory)} already. Choose another directory, or "
            "give --overwrite to replace it."
        )


def _within_token_limit(
    records: Iterable[Record], tokenizer: "PreTrainedTokenizerBase", max_tokens: int, counts: Counts
) -> Iterator[Record]:
    for batch in batches(records, _BATCH_SIZE):
        ids = prompt_ids([record.prompt for record in batch], tokenizer)
        kept = [record for record, tokens in zip(batch, ids, strict=True) if len(tokens) <= max_tokens]
        counts.num_too_long += len(batch) - len(kept)
        yield from kept


def _uncontaminated(records: Iterable[Record], config: PrepareConfig, counts: Counts) -> Iterator[Record]:
    sources = config.decontaminate or []
    problems = [problem for source in sources for problem in read_problems(source, config.decontaminate_split)]
    evaluation = Decontaminator(problems, config.ngram_size, config.min_overlap)
    for record in records:
        if evaluation.is_contaminated(record.problem):
            counts.num_contaminated += 1
        else:
            yield record


def within_pass_rate(
    records: Iterable[Record], sampler: Sampler, reward_func: RewardFunc, config: PrepareConfig, counts: Counts
) -> Iterator[Record]:
    """
    The records whose pass rate, the share of sampled completions with a reward above 0, is in the range of the
    settings, with the pass rate stored. A problem with a completion that gets no reward is left out and counted.
    """
    for batch in batches(records, config.pass_rate_batch_size):
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
                yield replace(record, pass_rate=pass_rate)


def _counted(records: Iterable[Record], counts: Counts) -> Iterator[Record]:
    for record in records:
        counts.num_kept += 1
        yield record
    if counts.num_kept == 0:
        raise ValueError(f"No row is kept, so nothing is written: {counts}. Loosen the step that leaves out the most.")


def _write_parquet(records: Iterable[Record], path: Path, conversational: bool, with_pass_rate: bool) -> None:
    """The file appears under its name only when it is complete. The same records make the same bytes."""
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
