"""The problems of an evaluation: each once, with its prompt as in training."""

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import httpx

from ..data.deduplicate import deduplicate
from ..data.prompt_form import PromptForm, ask, bare_problem
from ..data.prompts import Messages
from ..data.records import Counts, Record, RecordReader
from .presets import PRESETS, DataSource


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Problems:
    """
    What is evaluated.

    Attributes:
        source ([`DataSource`]): where it is from.
        records (`list[Record]`): one per problem; `id` is made from the bare problem, without the template.
        num_rows (`int`): rows read, with repetitions.
    """

    source: DataSource
    records: list[Record]
    num_rows: int

    @property
    def problems_hash(self) -> str:
        """Stands for the problems and their golds, in any order: results with the same one can be compared."""
        return digest(sorted([record.id, record.solution] for record in self.records))

    @property
    def prompts_hash(self) -> str:
        """Stands for what the model sees, in any order."""
        return digest(sorted(([record.id, record.prompt] for record in self.records), key=lambda pair: pair[0]))


def load_problems(
    source: DataSource,
    *,
    conversational: bool,
    prompt_column: str | None = None,
    solution_column: str | None = None,
    prompt_template: str | None = None,
    prompt_form: PromptForm | None = None,
    num_problems: int | None = None,
) -> Problems:
    """
    Reads problems, each once, however often its row is repeated (the AIME 2024 file of the DAPO authors has 960 rows
    for 30 problems). Rows without a gold, and problems with different golds, are left out with a warning.

    Args:
        source ([`DataSource`]): what to read.
        conversational (`bool`): prompts as lists of messages, for models with a chat template.
        prompt_column, solution_column, prompt_template (`str`, *optional*): as for [`load_prompts`].
        prompt_form (`str` or `list[dict]`, *optional*): the prompt with `{problem}` in it, in place of the data's own.
            Conversations of several turns stay as they are, with a warning.
        num_problems (`int`, *optional*): take the first so many problems only.

    Returns:
        [`Problems`]

    Raises:
        FileNotFoundError: if the source is neither a file that exists nor a data set on the Hub that can be reached.
        ValueError: if its columns are not recognised, or no problem is left.
    """
    counts = Counts()
    with _naming_the_preset(source):
        reader = RecordReader(
            source.source,
            counts,
            split=source.split,
            config=source.config,
            prompt_column=prompt_column,
            solution_column=solution_column,
            prompt_template=prompt_template,
            conversational=conversational,
        )
        records = list(deduplicate(reader, counts))
    _report(source, counts, len(records))
    records = records[:num_problems]
    if not records:
        raise ValueError(f"data={source.source!r} has no problem that could be evaluated: see the warnings above.")
    if prompt_form is not None:
        records = _asked(records, prompt_form, source.name)
    return Problems(source, records, counts.num_read)


@contextmanager
def _naming_the_preset(source: DataSource) -> Iterator[None]:
    """A data set on the Hub that the user did not name, but a preset of ours, has a way out."""
    preset = PRESETS.get(source.name)
    try:
        yield
    except (OSError, httpx.HTTPError) as error:
        if preset is None or preset.source != source.source:
            raise
        raise FileNotFoundError(
            f"data={source.name!r} is a preset, whose data set {preset.source!r} on the Hub could not be read "
            f"({error.__cause__ or error}). Give the path of a local copy with --data_file, or try again when the Hub "
            "can be reached."
        ) from error


def _asked(records: list[Record], form: PromptForm, name: str) -> list[Record]:
    is_dialogue = [isinstance(record.prompt, list) and _num_turns(record.prompt) > 1 for record in records]
    if any(is_dialogue):
        logger.warning(
            "%s: %d of the %d prompts are conversations of several turns, and stay as they are.",
            name,
            sum(is_dialogue),
            len(records),
        )
    return [
        record if stays else replace(record, prompt=ask(form, bare_problem(form, record.problem)))
        for record, stays in zip(records, is_dialogue, strict=True)
    ]


def _num_turns(messages: Messages) -> int:
    return sum(message["role"] != "system" for message in messages)


def _report(source: DataSource, counts: Counts, num_problems: int) -> None:
    if counts.num_duplicates:
        logger.info(
            "%s: %d of the %d rows repeat a problem. Each of the %d problems is evaluated once, with k samples.",
            source.name,
            counts.num_duplicates,
            counts.num_read,
            num_problems,
        )
    for number, what in (
        (counts.num_unreadable, "without a readable prompt or gold"),
        (counts.num_conflicting, "of problems with different golds"),
    ):
        if number:
            logger.warning("%s: %d of the %d rows left out: %s.", source.name, number, counts.num_read, what)


def digest(value: object) -> str:
    """12 hexadecimal digits that stand for a value that JSON can hold."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
