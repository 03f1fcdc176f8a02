r"""Find `\boxed{...}` in a text, at bounded cost however the braces are nested or left open."""

import re
from collections.abc import Iterator


# The longest gold in MATH-500 has 159 characters; what is longer than this is no final answer.
MAX_ANSWER_CHARS = 1000
MAX_CANDIDATES = 16

_COMMANDS = ("\\boxed", "\\fbox")
_SPACE = r"(?:[\s$]|\\quad|\\qquad|\\[()])*"
_AND = re.compile(
    rf"{_SPACE}(?:,|;|,? ?and|,? ?or|\\text *\{{[^{{}}]{{0,40}}(?:and|or) *\}})"
    rf"{_SPACE}(?:[A-Za-z](?:_\{{?\w+\}}?)? *= *)?"
)


def boxes(text: str) -> Iterator[tuple[int, int, str]]:
    """Start, end and content of boxes that close and are not empty, from the last one back; of the last 16 only."""
    end = len(text)
    for _ in range(MAX_CANDIDATES):
        start = max(text.rfind(command, 0, end) for command in _COMMANDS)
        if start < 0:
            return
        box = read_box(text, start)
        if box is not None and has_content(box[0]):
            yield start, box[1], box[0]
        end = start


def last_boxes(text: str) -> tuple[int, str] | None:
    r"""Position and content of the last box, with those enumerated before it: `\boxed{5} and \boxed{6}` is `5, 6`."""
    found: list[tuple[int, int, str]] = []
    for box in boxes(text):
        if found and not _AND.fullmatch(text[box[1] : found[-1][0]]):
            break
        found.append(box)
    return (found[0][0], ", ".join(content for *_, content in reversed(found))) if found else None


def read_box(text: str, start: int) -> tuple[str, int] | None:
    """Content and end of the box command at `start`; `None` if it is not closed within the longest answer."""
    begin = start + len(next(command for command in _COMMANDS if text.startswith(command, start)))
    begin += len(text[begin : begin + MAX_CANDIDATES]) - len(text[begin : begin + MAX_CANDIDATES].lstrip())
    if re.match("[0-9]", text[begin : begin + 1]):  # LaTeX reads \boxed5 as \boxed{5}
        return text[begin], begin + 1
    if not text.startswith("{", begin):
        return None
    depth = 0
    for position in range(begin, min(len(text), begin + MAX_ANSWER_CHARS)):
        char = text[position]
        if char in "{}" and text[position - 1] != "\\":
            depth += 1 if char == "{" else -1
            if depth == 0:
                return text[begin + 1 : position], position + 1
    return None


def has_content(text: str) -> bool:
    """Whether there is anything but punctuation and space."""
    return any(char.isalnum() or char in "∞∅" for char in text)
