"""Rows of a source, read one after another, as the records that a prepared data set is made of."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from .counts import Counts
from .layouts import Layout
from .load import make_reader
from .prompts import Messages
from .rows import RowError, RowReader
from .stream import stream_rows
from .text import text_key


logger = logging.getLogger(__name__)

_MAX_LOGGED = 5


@dataclass
class Record:
    """
    A row of a prepared data set.

    Args:
        id (`str`):
            32 hexadecimal digits made from the problem, white space aside: the same everywhere for the same problem.
        prompt (`str` or `list[dict]`):
            What the model sees.
        solution (`str`):
            The gold answer.
        problem (`str`):
            The problem, without the template around it.
        source (`str`):
            Where the problem is from: the row's own `source` or `data_source`, else the name of the data set.
        pass_rate (`float`, *optional*):
            Fraction of a model's completions that were right.
    """

    id: str
    prompt: str | Messages
    solution: str
    problem: str
    source: str
    pass_rate: float | None = None


class RecordReader:
    """
    Iterates once over the records of a source, without holding it in memory; rows that cannot be read are counted.

    Args:
        source (`str`):
            Hub id, or path of a file or directory; see [`load_prompts`], also for the other arguments.
        counts ([`Counts`]):
            Where rows read and left out are counted.

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
        first = next(rows, None)
        self._reader: RowReader = make_reader(
            first,
            source,
            **columns,
            prompt_template=prompt_template,
            conversational=conversational,
        )
        self._rows = chain([first], rows)

    @property
    def layout(self) -> Layout:
        """The layout recognised."""
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
            yield Record(text_key(problem).hex(), prompt, gold, problem, _own_source(row) or name)
        if self.counts.num_unreadable * 2 > self.counts.num_read:
            raise ValueError(
                f"{self.source!r}: {self.counts.num_unreadable} of {self.counts.num_read} rows have no readable "
                f"prompt or gold answer (layout: {self.layout.name}; the first ones are logged above). Name the right "
                "columns with prompt_column and solution_column."
            )


def source_name(source: str) -> str:
    """How a source is called in data: a Hub id as it is, of a local path the last part (it may be anywhere)."""
    path = Path(source).expanduser()
    return path.resolve().name if path.exists() else source


def _own_source(row: dict[str, Any]) -> str | None:
    return next((row[name] for name in ("source", "data_source") if isinstance(row.get(name), str)), None)
