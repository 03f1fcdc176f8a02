"""Rows of a source, read one after another, as the records that a prepared data set is made of."""

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

from .layouts import Layout
from .load import stream_rows
from .prompts import Messages
from .rows import RowError, make_reader


logger = logging.getLogger(__name__)

T = TypeVar("T")

_MAX_LOGGED = 5


@dataclass
class Record:
    """
    A row of a prepared data set.

    Attributes:
        id (`str`): 32 hexadecimal digits made from the problem, white space aside: the same for the same problem.
        prompt (`str` or `list[dict]`): what the model sees.
        solution (`str`): the reference answer.
        problem (`str`): the problem, without the template around it.
        source (`str`): the row's own `source` or `data_source`, else the name of the data set.
        pass_rate (`float`, *optional*): fraction of a model's completions that were right.
    """

    id: str
    prompt: str | Messages
    solution: str
    problem: str
    source: str
    pass_rate: float | None = None


def _count(text: str) -> Any:
    return field(default=0, metadata={"text": text})


@dataclass
class Counts:
    """Rows read, left out and kept, each row read once; the text of each field is what the data card says."""

    num_read: int = _count("Rows read")
    num_unreadable: int = _count("Rows without a readable prompt or gold, left out")
    num_duplicates: int = _count("Repetitions of a problem with the same gold, left out")
    num_conflicting: int = _count("Rows of problems with conflicting golds, left out")
    num_conflicting_problems: int = _count("... which are so many problems")
    num_too_long: int = _count("Problems with a prompt over the token limit, left out")
    num_contaminated: int = _count("Problems that overlap with evaluation sets, left out")
    num_unscorable: int = _count("Problems whose pass rate could not be told, left out")
    num_too_hard: int = _count("Problems with a pass rate below the range, left out")
    num_too_easy: int = _count("Problems with a pass rate above the range, left out")
    num_kept: int = _count("**Problems kept**")

    def described(self) -> list[tuple[str, int]]:
        """Description and value of every field, in the order of the steps."""
        return [(f.metadata["text"], getattr(self, f.name)) for f in fields(self)]


class RecordReader:
    """
    Iterates once over the records of a source, without holding it in memory; rows that cannot be read are counted.

    Args:
        source (`str`): Hub id, or path of a file or directory; see [`load_prompts`], also for the other arguments.
        counts ([`Counts`]): where rows read and left out are counted.

    Raises:
        ValueError: while iterating, if more than half of the rows cannot be read: then the columns are wrong.
    """

    def __init__(
        self,
        source: str,
        counts: Counts,
        *,
        split: str = "train",
        config: str | None = None,
        prompt_column: str | None = None,
        solution_column: str | None = None,
        prompt_template: str | None = None,
        conversational: bool | None = None,
    ):
        self.source = source
        self.counts = counts
        named = {"prompt_column": prompt_column, "solution_column": solution_column}
        columns = {name: column for name, column in named.items() if column is not None}
        rows = stream_rows(source, split, config, **columns)
        first = list(islice(rows, 1))
        self._reader = make_reader(
            first[0] if first else None,
            source,
            **columns,
            prompt_template=prompt_template,
            conversational=conversational,
        )
        self._rows = chain(first, rows)

    @property
    def layout(self) -> Layout:
        """The layout recognized."""
        return self._reader.layout

    @property
    def conversational(self) -> bool:
        """Whether prompts are lists of messages."""
        return self._reader.conversational

    def __iter__(self) -> Iterator[Record]:
        name = source_name(self.source)
        for index, row in enumerate(self._rows):
            self.counts.num_read += 1
            try:
                prompt, gold, problem = self._reader.read(row, index)
            except RowError as error:
                self.counts.num_unreadable += 1
                if self.counts.num_unreadable <= _MAX_LOGGED:
                    logger.warning("Left out: %s", error)
                continue
            yield Record(problem_key(problem).hex(), prompt, gold, problem, _own_source(row) or name)
        if self.counts.num_unreadable * 2 > self.counts.num_read:
            raise ValueError(
                f"{self.source!r}: {self.counts.num_unreadable} of {self.counts.num_read} rows have no readable "
                f"prompt or gold answer (layout: {self.layout.name}; the first ones are logged above). Name the right "
                "columns with prompt_column and solution_column."
            )


def problem_key(problem: str) -> bytes:
    """16 bytes that stand for a problem up to its white space."""
    text = " ".join(problem.split())
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def source_name(source: str) -> str:
    """How a source is called in data: a Hub id as it is, of a local path the last part (it may be anywhere)."""
    path = Path(source).expanduser()
    return path.resolve().name if path.exists() else source


def _own_source(row: Mapping[str, Any]) -> str | None:
    return next((row[name] for name in ("source", "data_source") if isinstance(row.get(name), str)), None)


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """
    Lists of `size` items; the last may be shorter. (`itertools.batched` is there from Python 3.12 on only.)

    >>> list(batches([1, 2, 3], 2))
    [[1, 2], [3]]
    """
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
