"""Which columns of a data set hold the prompt and the gold answer, and how to read them."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from ..rewards.answers import find_auto, find_gold


@dataclass(frozen=True)
class Layout:
    """
    Where prompt and gold answer stand in a row. Columns may be dotted paths into nested ones.

    Args:
        name (`str`):
            What the layout is called in messages and data cards.
        prompt (`str`):
            Column with the prompt: a text, or a list of messages.
        solution (`str`):
            Column with the gold answer.
        is_bare (`bool`, *optional*, defaults to `False`):
            Texts in `prompt` are problems, without words on how to answer them.
        is_worked (`bool`, *optional*, defaults to `False`):
            `solution` holds worked solutions: only what they end with (`\\boxed{}`, `####`) is the gold answer.
        problem (`str`, *optional*):
            Column with the bare problem, where it stands beside the prompt.
        tell_tale (`str`, *optional*):
            Column that is not used, but tells this layout from others with the same columns.
    """

    name: str
    prompt: str
    solution: str
    is_bare: bool = False
    is_worked: bool = False
    problem: str | None = None
    tell_tale: str | None = None

    def fits(self, row: Mapping[str, Any]) -> bool:
        """Whether a row has all the columns of this layout."""
        columns = (self.prompt, self.solution, self.problem, self.tell_tale)
        return all(has_column(row, column) for column in columns if column is not None)


# The first layout whose columns are all there is taken, so the more specific ones come first.
LAYOUTS = (
    Layout(
        "DAPO-Math-17k-Processed (`prompt`, `solution`, `source_prompt`)",
        "prompt",
        "solution",
        is_bare=True,
        tell_tale="source_prompt",
    ),
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
_ROUNDED_FROM = 2**53


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
    Recognises the layout of a data set by the columns of a row of it, or takes the columns named by the user.

    A column named `prompt` is taken to hold what the model shall see, any other to hold bare problems.

    Args:
        row (`Mapping`):
            A row of the data set.
        source (`str`):
            Name of the data set, for messages.
        prompt_column (`str`, *optional*):
            Column, or dotted path, with the prompt or problem; found by name if not given.
        solution_column (`str`, *optional*):
            Column, or dotted path, with the gold answer; found by name if not given.

    Returns:
        [`Layout`]

    Raises:
        ValueError: if a named column does not exist, or the columns are of no known layout.
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
    missing = [name for name, column in (("prompt", prompt), ("solution", solution)) if column is None]
    if missing:
        fields = " and ".join(f"{name}_column" for name in missing)
        raise ValueError(
            f"{source!r}: no column for the {' and the '.join(missing)} was recognised among {describe_columns(row)}. "
            f"Known layouts: {'; '.join(layout.name for layout in LAYOUTS)}. Name the column with {fields}."
        )
    return Layout(f"`{prompt}`, `{solution}`, as named", prompt, solution, is_bare=prompt != "prompt")


def find_prompt_column(row: Mapping[str, Any], source: str) -> Layout:
    """
    A layout for the problems alone, for data sets whose golds are not needed.

    Raises:
        ValueError: if no column is named as one with prompts or problems.
    """
    prompt = _first_column(row, ("problem", "question", "prompt"))
    if prompt is None:
        raise ValueError(
            f"{source!r}: no column `problem`, `question` or `prompt` among {describe_columns(row)}. Rename the one "
            "that holds the problems."
        )
    return Layout(f"`{prompt}`", prompt, solution="", is_bare=prompt != "prompt")


def _first_column(row: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    return next((name for name in names if has_column(row, name)), None)


def describe_columns(row: Mapping[str, Any]) -> str:
    """The columns of a row, for messages: `prompt, reward_model.{ground_truth, style}`."""
    return ", ".join(
        f"{name}.{{{', '.join(value)}}}" if isinstance(value, Mapping) else name for name, value in row.items()
    )


def read_gold(value: Any, is_worked: bool = False) -> str | None:
    r"""
    The gold answer in a value of the solution column.

    Args:
        value:
            A text, a number, or a list of one of these; NaN is none. Of a text with `####` (GSM8K) what follows the
            last one is taken, of a text with `\boxed{}` what the `accuracy` reward reads in it, all different ones
            (`3, 5`), else all of it.
        is_worked (`bool`, *optional*, defaults to `False`):
            The text is a worked solution (MATH): of its boxes the last counts, with those that are enumerated before
            it, and without `####` or `\boxed{}` it has no gold answer that could be read.

    Returns:
        `str` or `None`: the gold answer, `None` if there is none.

    Raises:
        TypeError: if the value is something else, or a float so large that digits may be lost.
    """
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if value is None or value != value:  # NaN
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise TypeError(f"a gold answer must be a text or a number, not {type(value).__name__}")
    if type(value) is float and abs(value) >= _ROUNDED_FROM:
        raise TypeError(
            f"the gold answer {value!r} is a number that was rounded to 53 bits. Write it as a text, in quotes"
        )
    text = str(value).strip()
    if "####" in text:
        text = text.rpartition("####")[2].strip()
    else:
        has_box = "\\boxed" in text or "\\fbox" in text
        if is_worked:
            text = find_auto(text) if has_box else None
        elif has_box:
            text = find_gold(text)
    return text or None
