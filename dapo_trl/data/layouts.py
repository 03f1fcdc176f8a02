"""Which columns of a data set hold the prompt and the reference answer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Layout:
    """Where prompt and reference answer stand in a row. Columns may be dotted paths into nested ones."""

    name: str
    prompt: str
    solution: str
    is_bare: bool = False
    is_worked: bool = False
    problem: str | None = None
    marker: str | None = None

    def fits(self, row: Mapping[str, Any]) -> bool:
        columns = (self.prompt, self.solution, self.problem, self.marker)
        return all(has_column(row, column) for column in columns if column is not None)


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
    Recognizes the layout of the data set `source` by the columns of a row, or takes the columns (or paths) that the
    user names, of which `prompt` holds what the model shall see and any other bare problems; else a ValueError.
    """
    for field, column in (("prompt_column", prompt_column), ("solution_column", solution_column)):
        if column is not None and not has_column(row, column):
            raise ValueError(f"{field}={column!r}: {source!r} has no such column. It has: {describe_columns(row)}.")
    if prompt_column is None and solution_column is None:
        for layout in LAYOUTS:
            if layout.fits(row):
                return layout
    prompt = prompt_column or _first_column(row, _PROMPT_NAMES)
    solution = solution_column or _first_column(row, _SOLUTION_NAMES)
    if prompt is None or solution is None:
        missing = [name for name, column in (("prompt", prompt), ("solution", solution)) if column is None]
        fields = " and ".join(f"{name}_column" for name in missing)
        raise ValueError(
            f"{source!r}: no column for the {' and the '.join(missing)} was recognised among {describe_columns(row)}. "
            f"Known layouts: {'; '.join(layout.name for layout in LAYOUTS)}. Name the column with {fields}."
        )
    return Layout(f"`{prompt}`, `{solution}`, as named", prompt, solution, is_bare=prompt != "prompt")


def _first_column(row: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    return next((name for name in names if has_column(row, name)), None)


def describe_columns(row: Mapping[str, Any]) -> str:
    """The columns of a row, for messages: `prompt, reward_model.{ground_truth, style}`."""
    return ", ".join(
        f"{name}.{{{', '.join(value)}}}" if isinstance(value, Mapping) else name for name, value in row.items()
    )
