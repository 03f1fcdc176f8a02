r"""
Find the final answer in a completion.

A rule has a name and a version: scores are comparable only between runs that used the same rule, so write
[`AnswerRule.tag`] into every result. Change what a rule finds, and its version goes up.

Nothing here looks further than [`MAX_ANSWER_CHARS`] from a candidate, and the number of candidates is bounded: a
completion of megabytes of braces costs no more than finding the words `answer` and `\boxed` in it.
"""

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from .boxes import MAX_ANSWER_CHARS, MAX_CANDIDATES, has_content, last_box, last_boxes, read_box
from .math_dapo import equals_math_dapo, find_math_dapo
from .plain_numbers import leaves_number_alone


_MARKUP = "*_`"
_ANSWER_LINE = re.compile(rf"answers?[ \t]{{0,8}}[{_MARKUP}]{{0,3}}[ \t]{{0,8}}[:：]")
_ANSWER_IS = re.compile(r"answer\b[^\n.:=]{0,60}?\b(?:is|are|equals)\b[ \t]{0,8}:?")
_HASHES = re.compile(r"(?m)^####[ \t]{1,8}(?=\S)")
_LEAD_IN = re.compile(
    r"(?i)^(?:[^0-9=<>^_]{0,200}\b(?:is|are|equals)\b(?! (?:not|in|at|either)\b):?|(?:final )?answer\b:?)(?=[ $\\*])"
)
_SIGN_OFF = re.compile(r"(?i)\.?\s*(?:I hope (?:it|this) (?:is correct|helps)|<\|).*$", re.DOTALL)
_MATH_DELIMITERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"))
_MATH_SEGMENT = re.compile(r"(?<!\\)\$\$?([^$]+)(?<!\\)\$\$?|\\\(((?:[^\\]|\\[^)])+)\\\)")


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
    box = last_box(text)
    return None if box is None else clean_answer(box[1])


def find_auto(text: str) -> str | None:
    r"""
    The final answer that is stated last.

    An `Answer:` line in any of the ways models write it (bold, trailing period, `$...$`, content on the next line), or
    a `\boxed{...}`, whichever comes last; only without any of these "the answer is 34", or `#### 34`.
    """
    lower = text.lower()  # much faster to search than ignoring case
    if len(lower) != len(text):  # a few letters, such as İ, become two
        lower = "".join(char.lower() if char.isascii() else char for char in text)
    stated = [found for found in (_last_after(_ANSWER_LINE, lower, text), last_boxes(text)) if found]
    if not stated:
        sentences = (_last_after(_ANSWER_IS, lower, text), _last_after(_HASHES, text, text))
        stated = [found for found in sentences if found]
    return clean_answer(max(stated)[1]) if stated else None


def clean_answer(answer: str) -> str | None:
    r"""
    Take off what is written around an answer: emphasis, math delimiters, a box, a lead-in, words, a final period.

    Returns:
        `str` or `None`: `None` if no letter or digit is left, or more than [`MAX_ANSWER_CHARS`] characters.

    Example:
    ```python
    >>> clean_answer("**the value of $x$ is $\\frac{1}{2}$.**")
    '\\frac{1}{2}'
    ```
    """
    answer = answer[: 2 * MAX_ANSWER_CHARS]
    for _ in range(MAX_CANDIDATES):
        before = answer
        answer = _SIGN_OFF.sub("", answer.strip().lstrip("}").strip(_MARKUP + " ")).rstrip(".,;:。 ")
        answer = _unwrap(_LEAD_IN.sub("", answer, count=1).strip())
        if answer.endswith("}") and answer.count("{") < answer.count("}"):  # from "\textbf{Answer: 5}"
            answer = answer[:-1]
        if answer == before:
            break
    return answer if has_content(answer) and len(answer) <= MAX_ANSWER_CHARS else None


def _unwrap(answer: str) -> str:
    """Remove one pair of math delimiters, or one box, or the words, around what is the whole answer."""
    for left, right in _MATH_DELIMITERS:
        inner = answer[len(left) : len(answer) - len(right)]
        if answer.startswith(left) and answer.endswith(right) and inner and left not in inner and right not in inner:
            return inner
    box = read_box(answer, 0) if answer.startswith(("\\boxed", "\\fbox")) else None
    if box is not None and box[1] == len(answer):
        return box[0]
    segments = list(_MATH_SEGMENT.finditer(answer))
    if len(segments) == 1 and leaves_number_alone(_MATH_SEGMENT.sub(" ", answer)):  # "$\frac12$ in all cases"
        return segments[0][1] or segments[0][2]
    return answer


def _last_after(pattern: re.Pattern, searched: str, text: str) -> tuple[int, str] | None:
    """Position and content in `text` of the last match of `pattern` in `searched` that any content follows."""
    for match in reversed(deque(pattern.finditer(searched), maxlen=MAX_CANDIDATES)):
        content = _first_content(text[match.end() : match.end() + MAX_ANSWER_CHARS])
        if content is not None:
            return match.start(), content
    return None


def _first_content(window: str) -> str | None:
    r"""The first line with a letter or digit: the answer may stand below `Answer:`, between `$$` or `\[` lines."""
    for line in window.split("\n"):  # splitlines would cut at form feeds too
        if has_content(line):
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
