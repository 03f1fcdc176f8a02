"""One row of a data set, as a prompt, its reference answer, and the bare problem."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from ..rewards.answers import find_auto, find_gold
from .layouts import Layout, describe_columns, find_layout, get_column
from .prompts import Messages, as_messages, as_text, check_messages
from .templates import DEFAULT_TEMPLATE, apply_template, resolve_template, undo_template


_ROUNDED_FROM = 2**53


class RowError(ValueError):
    """A row that cannot be read. The message names the data set, the row, the column, and says what to change."""


@dataclass(frozen=True)
class RowReader:
    """Reads rows of the data set `source`; template and form of the prompts are as for [`load_prompts`]."""

    source: str
    layout: Layout
    prompt_template: str | None = None
    conversational: bool = False

    def read(self, row: Mapping[str, Any], index: int) -> tuple[str | Messages, str, str]:
        """Prompt, reference answer and bare problem of a row; a [`RowError`] if one cannot be used."""
        column = self.layout.solution
        try:
            value = get_column(row, column)
            gold = read_gold(value, self.layout.is_worked)
            if gold is None:
                place = " after `####` or in `\\boxed{}`" if self.layout.is_worked else ""
                shown = repr(value) if len(repr(value)) <= 80 else f"{repr(value)[:40]}...{repr(value)[-37:]}"
                raise ValueError(
                    f"no reference answer{place} in {shown}. Name another column with solution_column, or let "
                    "dapo-trl prepare-data leave such rows out"
                )
            column = self.layout.prompt
            prompt, problem = build_prompt(row, self.layout, self.prompt_template)
            prompt = as_messages(prompt) if self.conversational else as_text(prompt)
        except (TypeError, ValueError) as error:
            raise RowError(
                f"{self.source!r}, row {index} (the first is 0), column {column!r}: {error}. "
                f"The row's columns: {describe_columns(row)}."
            ) from error
        return prompt, gold, problem

    def prompt_and_solution(self, row: Mapping[str, Any], index: int) -> dict[str, Any]:
        prompt, gold, _ = self.read(row, index)
        return {"prompt": prompt, "solution": gold}


def make_reader(
    first: Sequence[Mapping[str, Any]],
    source: str,
    *,
    prompt_column: str | None = None,
    solution_column: str | None = None,
    prompt_template: str | None = None,
    conversational: bool | None = None,
) -> RowReader:
    """The reader of a data set's rows, by a list of its first row and what the user named."""
    if not first:
        raise ValueError(f"{source!r} has no rows in this split. Name a file or split that has some.")
    if prompt_template is not None:
        prompt_template = resolve_template(prompt_template)
    layout = find_layout(first[0], source, prompt_column, solution_column)
    if conversational is None:
        conversational = isinstance(get_column(first[0], layout.prompt), list)
    return RowReader(source, layout, prompt_template, conversational)


def build_prompt(
    row: Mapping[str, Any], layout: Layout, prompt_template: str | None = None
) -> tuple[str | Messages, str]:
    """The prompt of a row, text or messages as it is there, and its bare problem (which gets the `dapo` template)."""
    value = get_column(row, layout.prompt)
    messages = as_messages(value) if isinstance(value, str) else check_messages(value)
    *before, last = messages
    if last["role"] != "user" or any(message["role"] == "user" for message in before):
        if prompt_template is not None:
            raise ValueError(
                f"prompt_template={prompt_template!r} needs one user message, not {len(messages)}. Leave it out"
            )
        return messages, last["content"].strip()
    wrapped = last["content"]
    if not wrapped.strip():
        raise ValueError("the prompt is empty")
    undone = undo_template(wrapped)
    beside = get_column(row, layout.problem) if layout.problem else None
    problem = (beside.strip() if isinstance(beside, str) else "") or undone or wrapped.strip()
    if prompt_template is None and isinstance(value, str) and layout.is_bare and undone is None:
        prompt_template = DEFAULT_TEMPLATE
    text = wrapped if prompt_template is None else apply_template(prompt_template, problem)
    return (text if isinstance(value, str) else [*before, {"role": "user", "content": text}]), problem


def read_gold(value: Any, is_worked: bool = False) -> str | None:
    r"""
    The reference answer in a value of the solution column (text, number, or list of one of these); None if there is
    none.

    Of a text with `####` (GSM8K) it is what follows the last one, of one with `\boxed{}` all different boxes, else all
    of it. Of a worked solution (MATH) it is the last box, with those enumerated before it; without a box it has none.
    A TypeError is raised for other types, and for floats so large that digits may be lost.
    """
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if value is None or value != value:  # NaN
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise TypeError(f"a reference answer must be a text or a number, not {type(value).__name__}")
    if type(value) is float and abs(value) >= _ROUNDED_FROM:  # not one that keeps its text
        raise TypeError(f"the reference answer {value!r} is a number that was rounded to 53 bits. Write it as a text")
    text = str(value).strip()
    if "####" in text:
        return text.rpartition("####")[2].strip() or None
    if "\\boxed" in text or "\\fbox" in text:
        return find_auto(text) if is_worked else find_gold(text)
    return None if is_worked else text or None
