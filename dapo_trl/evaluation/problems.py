"""The problems of an evaluation: each once, with its prompt as in training."""

import hashlib
import json
import logging
from dataclasses import dataclass, replace
from typing import Any

import httpx

from ..data.prompts import PromptForm, ask, bare_problem
from ..data.records import Counts, Record, RecordReader, deduplicate
from .presets import PRESETS, DataSource


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Problems:
    """What is evaluated."""

    source: DataSource
    records: list[Record]  # one per problem; `id` is made from the bare problem, without the template
    num_rows: int  # read, with repetitions

    @property
    def problems_hash(self) -> str:
        """Stands for problems and reference answers, in any order: results with the same one can be compared."""
        return digest(sorted([record.id, record.solution] for record in self.records))

    @property
    def prompts_hash(self) -> str:
        """Stands for what the model sees, in any order."""
        return digest(sorted(([record.id, record.prompt] for record in self.records), key=lambda pair: pair[0]))


def load_problems(
    source: DataSource, *, prompt_form: PromptForm | None = None, num_problems: int | None = None, **columns: Any
) -> Problems:
    """Reads problems, each once; `prompt_form` replaces the data's own prompts, but for dialogues."""
    counts = Counts()
    try:
        reader = RecordReader(source.source, counts, split=source.split, config=source.config, **columns)
        records = list(deduplicate(reader, counts))
    except (OSError, httpx.HTTPError) as error:
        if source.name not in PRESETS or source.source != PRESETS[source.name].source:
            raise
        raise FileNotFoundError(
            f"data={source.name!r} is a preset, whose data set {source.source!r} on the Hub could not be read "
            f"({error.__cause__ or error}). Give the path of a local copy with --data_file, or try again when the Hub "
            "can be reached."
        ) from error
    _report(source.name, counts, len(records))
    records = records[:num_problems]
    if not records:
        raise ValueError(f"data={source.source!r} has no problem that could be evaluated: see the warnings above.")
    if prompt_form is not None:
        records = _with_form(records, prompt_form, source.name)
    return Problems(source, records, counts.num_read)


def _with_form(records: list[Record], form: PromptForm, name: str) -> list[Record]:
    asked, num_dialogues = [], 0
    for record in records:
        prompt = record.prompt
        if isinstance(prompt, list) and sum(message["role"] != "system" for message in prompt) > 1:
            num_dialogues += 1
        else:
            prompt = ask(form, bare_problem(form, record.problem))
        asked.append(replace(record, prompt=prompt))
    if num_dialogues:
        logger.warning(f"{name}: {num_dialogues} of the {len(records)} prompts are dialogues, and stay as they are.")
    return asked


def _report(name: str, counts: Counts, num_problems: int) -> None:
    if counts.num_duplicates:
        logger.info(
            "%s: %d of the %d rows repeat a problem. Each of the %d problems is evaluated once, with k samples.",
            *(name, counts.num_duplicates, counts.num_read, num_problems),
        )
    for number, what in (
        (counts.num_unreadable, "without a readable prompt or reference answer"),
        (counts.num_conflicting, "of problems with different reference answers"),
    ):
        if number:
            logger.warning("%s: %d of the %d rows left out: %s.", name, number, counts.num_read, what)


def digest(value: object) -> str:
    """12 hexadecimal digits that stand for a value that JSON can hold."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
