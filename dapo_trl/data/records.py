"""Rows of a source, read one after another, as the records that a prepared data set is made of."""

import hashlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

from .load import stream_rows
from .prompts import Messages
from .rows import RowError, make_reader


logger = logging.getLogger(__name__)

T = TypeVar("T")

_MAX_LOGGED = 5


@dataclass
class Record:
    """A row of a prepared data set."""

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
    """Rows read, left out and kept; the text of each field is what the data card says."""

    num_read: int = _count("Rows read")
    num_unreadable: int = _count("Rows without a readable prompt or answer, left out")
    num_duplicates: int = _count("Repetitions of a problem with the same answer, left out")
    num_conflicting: int = _count("Rows of problems with conflicting answers, left out")
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
    Iterates once over the records of a source and counts unreadable rows; a ValueError if they are more than half.
    """

    def __init__(
        self, source: str, counts: Counts, *, split: str = "train", config: str | None = None, **reading: Any
    ):
        self.source = source
        self.counts = counts
        columns = {name: value for name, value in reading.items() if name.endswith("_column") and value is not None}
        rows = stream_rows(source, split, config, **columns)
        first = list(islice(rows, 1))
        self.reader = make_reader(first, source, **reading)
        self._rows = chain(first, rows)

    def __iter__(self) -> Iterator[Record]:
        name = source_name(self.source)
        for index, row in enumerate(self._rows):
            self.counts.num_read += 1
            try:
                prompt, gold, problem = self.reader.read(row, index)
            except RowError as error:
                self.counts.num_unreadable += 1
                if self.counts.num_unreadable <= _MAX_LOGGED:
                    logger.warning("Left out: %s", error)
                continue
            own = (row[column] for column in ("source", "data_source") if isinstance(row.get(column), str))
            yield Record(problem_id(problem), prompt, gold, problem, source=next(own, name))
        if self.counts.num_unreadable * 2 > self.counts.num_read:
            raise ValueError(
                f"{self.source!r}: {self.counts.num_unreadable} of {self.counts.num_read} rows have no readable "
                f"prompt or answer (layout: {self.reader.layout.name}; the first ones are logged above). Name the "
                "right columns with prompt_column and solution_column."
            )


def problem_id(problem: str) -> str:
    """32 hexadecimal digits that stand for a problem up to its white space."""
    text = " ".join(problem.split())
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def source_name(source: str) -> str:
    """How a source is called in data: a Hub id as it is, of a local path the last part (it may be anywhere)."""
    path = Path(source).expanduser()
    return path.resolve().name if path.exists() else source


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items; the last may be shorter. (`itertools.batched` is there from Python 3.12 on only.)"""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
