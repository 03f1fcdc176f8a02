"""One row of a data set, as a prompt, its gold answer, and the bare problem."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .layouts import Layout, describe_columns, get_column, read_gold
from .prompts import Messages, as_messages, as_text, build_prompt


class RowError(ValueError):
    """A row that cannot be read. The message names the data set, the row, the column, and says what to change."""


@dataclass(frozen=True)
class RowReader:
    """
    Reads rows of one data set.

    Args:
        source (`str`):
            Name of the data set, for messages.
        layout ([`Layout`]):
            Which columns hold prompt and gold answer.
        prompt_template (`str`, *optional*):
            Template to put around every problem; see [`load_prompts`].
        conversational (`bool`, *optional*, defaults to `False`):
            Prompts as lists of messages rather than texts.
    """

    source: str
    layout: Layout
    prompt_template: str | None = None
    conversational: bool = False

    def read(self, row: Mapping[str, Any], index: int) -> tuple[str | Messages, str, str]:
        """
        Prompt, gold answer and bare problem of a row.

        Raises:
            RowError: if one of them is missing or of a type that cannot be used.
        """
        gold = self._gold(row, index)
        try:
            prompt, problem = build_prompt(row, self.layout, self.prompt_template)
            prompt = as_messages(prompt) if self.conversational else as_text(prompt)
        except (TypeError, ValueError) as error:
            raise self._error(row, index, self.layout.prompt, error) from error
        return prompt, gold, problem

    def prompt_and_solution(self, row: Mapping[str, Any], index: int) -> dict[str, Any]:
        """What [`load_prompts`] puts into a row."""
        prompt, gold, _ = self.read(row, index)
        return {"prompt": prompt, "solution": gold}

    def _gold(self, row: Mapping[str, Any], index: int) -> str:
        column = self.layout.solution
        value = get_column(row, column)
        try:
            gold = read_gold(value, self.layout.is_worked)
        except TypeError as error:
            raise self._error(row, index, column, error) from error
        if gold is None:
            kind = "no gold answer after `####` or in `\\boxed{}`" if self.layout.is_worked else "no gold answer"
            advice = "Name another column with solution_column, or let prepare_data leave such rows out"
            raise self._error(row, index, column, f"{kind} in {_shorten(value)}. {advice}")
        return gold

    def _error(self, row: Mapping[str, Any], index: int, column: str, reason: object) -> RowError:
        return RowError(
            f"{self.source!r}, row {index} (the first is 0), column {column!r}: {reason}. "
            f"The row's columns: {describe_columns(row)}."
        )


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:40]}...{text[-37:]}"
