r"""
Find the final answer in a completion.

A rule has a name and a version: scores are comparable only between runs that used the same rule, so write
[`AnswerRule.tag`] into every result. Change what a rule finds, and its version goes up.

Nothing here scans further than [`MAX_ANSWER_CHARS`] from a candidate, and the number of candidates is bounded: a
completion of megabytes of braces costs no more than finding the words `answer` and `\boxed` in it.
"""

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from .math_dapo import equals_math_dapo, find_math_dapo


# The longest gold in MATH-500 has 159 characters; what is longer than this is no final answer.
MAX_ANSWER_CHARS = 1000
MAX_CANDIDATES = 16

_MARKUP = "*_`"
_ANSWER_LINE = re.compile(rf"(?i)answers?[ \t]{{0,8}}[{_MARKUP}]{{0,3}}[ \t]{{0,8}}[:：]")
_ANSWER_IS = re.compile(r"(?i)answer\b[^\n.:=]{0,60}?\b(?:is|are|equals)\b[ \t]{0,8}:?")
_HASHES = re.compile(r"(?m)^####[ \t]{1,8}(?=\S)")
_LEAD_IN = re.compile(
    r"(?i)^(?:so|thus|therefore|hence)?,? ?(?:the )?(?:final )?(?:answer|result) (?:is|=|equals)\b:?"
)
_SIGN_OFF = re.compile(r"(?i)\.?\s*I hope (?:it|this) is correct\.?$")
_MATH_DELIMITERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"))


@dataclass(frozen=True)
class AnswerRule:
    """
    How to find the final answer, and how to compare it.

    Attributes:
        name (`str`): name of the rule, as in `answer_rule`.
        version (`int`): goes up whenever the rule finds something else.
        find (`Callable[[str], str | None]`): the final answer of a completion, `None` without one.
        equals (`Callable[[str, str], bool]`, *optional*):
            The rule's own whole comparison of `(answer, gold)`. `None`: the cheap rules, then math-verify.
    """

    name: str
    version: int
    find: Callable[[str], str | None]
    equals: Callable[[str, str], bool] | None = None

    @property
    def tag(self) -> str:
        """Name and version in one word, such as `"auto-1"`, for checkpoints and results."""
        return f"{self.name}-{self.version}"


def find_boxed(text: str) -> str | None:
    r"""The content of the last complete `\boxed{...}` (or `\fbox{...}`) in `text`; `None` without one."""
    box = _last_box(text)
    return None if box is None else clean_answer(box[1])


def find_auto(text: str) -> str | None:
    r"""
    The final answer that is stated last.

    An `Answer:` line in any of the ways models write it (bold, trailing period, `$...$`, content on the next line), or
    a `\boxed{...}`, whichever comes last; only without any of these "the answer is 34", or `#### 34`.
    """
    line, box = _last_after(_ANSWER_LINE, text), _last_box(text)
    if (
        line and box and line[1].count("\\boxed") > 1 and box[1] in line[1]
    ):  # "Answer: \boxed{5}, \boxed{6}" states both
        return clean_answer(re.sub(r"\\boxed\{([^{}]*)\}", r"\1", line[1]))
    stated = [found for found in (line, box) if found]
    if not stated:
        stated = [found for found in (_last_after(_ANSWER_IS, text), _last_after(_HASHES, text)) if found]
    return clean_answer(max(stated)[1]) if stated else None


def clean_answer(answer: str) -> str | None:
    r"""
    Take off what is written around an answer: emphasis, math delimiters, a box, a lead-in, a final period.

    Returns:
        `str` or `None`: `None` if no letter or digit is left, or more than [`MAX_ANSWER_CHARS`] characters.
    """
    answer = answer[: 2 * MAX_ANSWER_CHARS]
    for _ in range(MAX_CANDIDATES):
        before = answer
        answer = _SIGN_OFF.sub("", answer.strip().lstrip("}").strip(_MARKUP + " ")).rstrip(".,;:。 ")
        answer = _LEAD_IN.sub("", answer, count=1).strip()
        answer = _unwrap(answer)
        if answer.endswith("}") and answer.count("{") < answer.count("}"):  # from "\\textbf{Answer: 5}"
            answer = answer[:-1]
        if answer == before:
            break
    return answer if _has_content(answer) and len(answer) <= MAX_ANSWER_CHARS else None


def _has_content(text: str) -> bool:
    return any(char.isalnum() or char in "∞∅" for char in text)


def _unwrap(answer: str) -> str:
    """Remove one pair of math delimiters, or one box, that encloses the whole answer."""
    for left, right in _MATH_DELIMITERS:
        inner = answer[len(left) : len(answer) - len(right)]
        if answer.startswith(left) and answer.endswith(right) and inner and left not in inner and right not in inner:
            return inner
    box = _read_box(answer, 0) if answer.startswith(("\\boxed", "\\fbox")) else None
    if box is not None and box[1] == len(answer):
        return box[0]
    return answer


def _last_box(text: str) -> tuple[int, str] | None:
    """Position and content of the last box that closes."""
    end = len(text)
    for _ in range(MAX_CANDIDATES):
        start = max(text.rfind("\\boxed", 0, end), text.rfind("\\fbox", 0, end))
        if start < 0:
            return None
        box = _read_box(text, start)
        if box is not None and _has_content(box[0]):
            return start, box[0]
        end = start
    return None


def _read_box(text: str, start: int) -> tuple[str, int] | None:
    """Content and end position of the box command at `start`; `None` if it is not closed within the longest answer."""
    begin = text.find("d" if text.startswith("\\boxed", start) else "x", start + 2) + 1
    while begin < len(text) and text[begin] == " ":
        begin += 1
    if begin < len(text) and text[begin].isdigit():  # LaTeX reads \boxed5 as \boxed{5}
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


def _last_after(pattern: re.Pattern, text: str) -> tuple[int, str] | None:
    """Position and content of the last match of `pattern` that is followed by any content."""
    for match in reversed(deque(pattern.finditer(text), maxlen=MAX_CANDIDATES)):
        content = _first_content(text[match.end() : match.end() + MAX_ANSWER_CHARS])
        if content is not None:
            return match.start(), content
    return None


def _first_content(window: str) -> str | None:
    r"""The first line with a letter or digit: the answer may stand below `Answer:`, between `$$` or `\[` lines."""
    for line in window.splitlines():
        if _has_content(line):
            return line
    return None


ANSWER_RULES = {
    rule.name: rule
    for rule in (
        AnswerRule("math_dapo", 1, find_math_dapo, equals_math_dapo),
        AnswerRule("boxed", 1, find_boxed),
        AnswerRule("auto", 1, find_auto),
    )
}


def get_answer_rule(name: str) -> AnswerRule:
    """
    The answer rule of this name.

    Raises:
        ValueError: if there is no such rule; the message lists those there are.
    """
    if name not in ANSWER_RULES:
        raise ValueError(f"`answer_rule` is {name!r}, but the known rules are: {', '.join(sorted(ANSWER_RULES))}.")
    return ANSWER_RULES[name]
