"""Which columns of a data set hold the prompt and the reference answer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Layout:
    """Where prompt and reference answer stand in a row. Columns may be dotted paths into nested ones."""

    name: str  # in messages and data cards
    prompt: str  # a text, or a list of messages
    solution: str
    is_bare: bool = False  # texts in `prompt` are problems, without words on how to answer them
    is_worked: bool = False  # of `solution` only the end (`\boxed{}`, `####`) is wanted
    problem: str | None = None  # column with the bare problem, where it stands beside the prompt
    marker: str | None = None  # column that tells this layout from others with the same columns


# The first layout whose columns are all there is taken, so the more specific ones come first.
LAYOUTS = (
    Layout("DAPO-Math-17k-Processed (`source_prompt`)", "prompt", "solution", is_bare=True, marker="source_prompt"),
    Layout("prepared (`prompt`, `solution`, `problem`)", "prompt", "solution", problem="problem"),
    Layout("DAPO-Math-17k (`prompt`, `reward_model.ground_truth`)", "prompt", "reward_model.ground_truth"),
    Layout("DAPO-Math-17k (`prompt`, `label`)", "prompt", "label"),
    Layout("`prompt`, `solution`", "prompt", "solution"),
    Layout("`prompt`, `answer`", "prompt", "answer"),
    Layout("MATH (`problem`, `answer`)", "problem", "answer", is_bare=True),
    Layout("GSM8K (`question`, `answer`)", "question", "answer", is_bare=True),
    Layout("MATH (`problem`, worked `solution`)", "problem", "solution", is_bare=True, is_worked=True),
)

_PROMPT_NAMES = ("prompt", "problem", "question")
_SOLUTION_NAMES = ("solution", "answer", "label", "reward_model.ground_truth")
_MISSING = object()


def get_column(row: Mapping[str, Any], path: str, default: Any = None) -> Any:
    """The value of a column or of a dotted path into a nested one; `default` if there is none."""
    if path in row:
        return row[path]
    head, _, rest = path.partition(".")
    nested = row.get(head)
    return get_column(nested, rest, default) if rest and isinstance(nested, Mapping) else default


def has_column(row: Mapping[str, Any], path: str) -> bool:
    """Whether a row has this column, or this dotted path into a nested one."""
    return get_column(row, path, _MISSING) is not _MISSING


def find_layout(
    row: Mapping[str, Any], source: str, prompt_column: str | None = None, solution_column: str | None = None
) -> Layout:
    """
    The layout of a data set by a row's columns, or by the columns (or paths) that the user names; else a ValueError.
    """
    for field, column in (("prompt_column", prompt_column), ("solution_column", solution_column)):
        if column is not None and not has_column(row, column):
            raise ValueError(f"{field}={column!r}: {source!r} has no such column. It has: {describe_columns(row)}.")
    if prompt_column is None and solution_column is None:
        for layout in LAYOUTS:
            columns = (layout.prompt, layout.solution, layout.problem, layout.marker)
            if all(column is None or has_column(row, column) for column in columns):
                return layout
    prompt = prompt_column or next((name for name in _PROMPT_NAMES if has_column(row, name)), None)
    solution = solution_column or next((name for name in _SOLUTION_NAMES if has_column(row, name)), None)
    if prompt is None or solution is None:
        missing = [name for name, column in (("prompt", prompt), ("solution", solution)) if column is None]
        fields = " and ".join(f"{name}_column" for name in missing)
        raise ValueError(
            f"{source!r}: no column for the {' and the '.join(missing)} was recognised among {describe_columns(row)}. "
            f"Known layouts: {'; '.join(layout.name for layout in LAYOUTS)}. Name the column with {fields}."
        )
    return Layout(f"`{prompt}`, `{solution}`, as named", prompt, solution, is_bare=prompt != "prompt")


def describe_columns(row: Mapping[str, Any]) -> str:
    """The columns of a row, for messages: `prompt, reward_model.{ground_truth, style}`."""
    return ", ".join(
        f"{name}.{{{', '.join(value)}}}" if isinstance(value, Mapping) else name for name, value in row.items()
    )
