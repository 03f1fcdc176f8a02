"""The problems of an evaluation: each once, with its prompt as in training."""

import hashlib
import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..data.deduplicate import deduplicate
from ..data.files import BUILDERS
from ..data.prompt_form import PromptForm, ask, bare_problem
from ..data.records import Counts, Record, RecordReader
from .config import PRESETS, DataSource


logger = logging.getLogger(__name__)


def find_source(data: str, split: str | None = None, config: str | None = None) -> DataSource:
    """What `--data` means: a preset, a Hub id, or the path of a file or directory."""
    if preset := PRESETS.get(data):
        return replace(preset, split=split or preset.split, config=config or preset.config)
    path = Path(data)
    is_file = path.suffix.lower() in BUILDERS  # a missing one is reported, with its full path, where it is read
    if not (is_file or "/" in data or path.exists()):
        raise FileNotFoundError(
            f"data={data!r} is not one of the presets ({', '.join(PRESETS)}), and there is no such file or directory. "
            "Give a preset, the path of a file, or the id of a data set on the Hub (`owner/name`)."
        )
    return DataSource(path.stem if is_file else path.name, data, split or "train", config)


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
    """
    Reads problems, each once; `prompt_form` replaces the data's own prompts, but for conversations of several turns.
    """
    counts = Counts()
    reader = RecordReader(source.source, counts, split=source.split, config=source.config, **columns)
    records = list(deduplicate(reader, counts))
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
        logger.warning(
            "%s: %d of the %d prompts are conversations of several turns, and stay as they are.",
            *(name, num_dialogues, len(records)),
        )
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
