r"""Find `\boxed{...}` in a text, at bounded cost however the braces are nested or left open."""

import re


# The longest gold in MATH-500 has 159 characters; what is longer than this is no final answer.
MAX_ANSWER_CHARS = 1000
MAX_CANDIDATES = 16

_COMMANDS = ("\\boxed", "\\fbox")
_SPACE = r"(?:[\s$]|\\quad|\\qquad|\\[()])*"
_AND = re.compile(rf"{_SPACE}(?:,|;|,? ?and|,? ?or|\\text *\{{ *,? ?(?:and|or) *\}}){_SPACE}")


def last_box(text: str) -> tuple[int, str] | None:
    """Position and content of the last box that closes and is not empty; `None` without one."""
    end = len(text)
    for _ in range(MAX_CANDIDATES):
        start = max(text.rfind(command, 0, end) for command in _COMMANDS)
        if start < 0:
            return None
        box = read_box(text, start)
        if box is not None and has_content(box[0]):
            return start, box[0]
        end = start
    return None


def last_boxes(text: str) -> tuple[int, str] | None:
    r"""As [`last_box`], with those enumerated before it: `\boxed{5} and \boxed{6}` is `5, 6`."""
    last = last_box(text)
    if last is None:
        return None
    position, contents = last[0], [last[1]]
    while len(contents) < MAX_CANDIDATES:
        window_start = max(0, position - MAX_ANSWER_CHARS)
        window = text[window_start:position]
        before = last_box(window)
        if before is None or not _AND.fullmatch(window[read_box(window, before[0])[1] :]):
            break
        position = window_start + before[0]
        contents.insert(0, before[1])
    return last[0], ", ".join(contents)


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
