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
from functools import lru_cache

from .boxes import MAX_ANSWER_CHARS, MAX_CANDIDATES, boxes, has_content, last_boxes, read_box
from .equivalence import read
from .math_dapo import equals_math_dapo, find_math_dapo


THINKING_TAGS = ("<think>", "</think>")

_MARKUP = "*_`"
_ANSWER_LINE = re.compile(rf"answers?[ \t]{{0,8}}[{_MARKUP}]{{0,3}}[ \t]{{0,8}}[:：]")
_ANSWER_IS = re.compile(r"answer\b[^\n.:=]{0,60}?\b(?:is|are|equals)\b[ \t]{0,8}:?")
_HASHES = re.compile(r"(?m)^####[ \t]{1,8}(?=\S)")
_ELEMENT = re.compile(r"<answer>((?:(?!<answer>).)*?)</answer>", re.DOTALL)
_LEAD_IN = re.compile(
    r"(?i)^(?:[^0-9=<>^_]{0,200}\b(?:is|are|was|were|equals|has|have|had|makes?|made|needs?|gets?|got|costs?|earns?|pays?"
    r"|paid|spends?|spent|takes?|took|saves?|saved|sold|sells?|ate|eats?|bought|total of|exactly)\b:?"
    r"|(?:final )?answer\b:?|(?:therefore|thus|hence|so)\b,?|we (?:find|get|have)(?: that)?\b:?)"
    r"(?=[ $\\*}]+[^ $*}])(?! (?:not|in|at|either)\b)"
)
# Words that make the value after them another one, or leave open which it is.
_CHANGES = re.compile(
    r"(?i)\b(?:not|never|no|nor|neither|none|cannot|wrong|incorrect|false|but|except|unless|if|or|half|twice|double|triple"
    r"|thrice|negative|minus|first|any|either|less|more|fewer|other|than)\b|n't\b"
)
_SIGN_OFF = re.compile(r"(?i)\.?\s*(?:I hope (?:it|this) (?:is correct|helps)|<\|).*$", re.DOTALL)
_EXPLANATION = re.compile(r"(?<=[0-9}$)a-z])\. +[A-Z][^0-9=\\]*$")
_END = re.compile(r"(?:(?<!\\)[.,;:。\s]|(?<!\\)\\(?:[,;:!>\s]|q?quad|$))+$")
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
            The rule's own whole comparison of `(answer, gold)`, of all of a text. `None`: what is outside of thinking
            is read, and compared by the cheap rules, then math-verify.
    """

    name: str
    version: int
    find: Callable[[str], str | None]
    equals: Callable[[str, str], bool] | None = None

    @property
    def tag(self) -> str:
        """Name and version in one word, such as `"auto-2"`, for checkpoints and results."""
        return f"{self.name}-{self.version}"


def without_thinking(text: str, tags: tuple[str, str] = THINKING_TAGS) -> str:
    """
    What a completion says outside of its thinking: what follows the last end of thinking, up to a further beginning.

    Without a beginning (`("", "</think>")`, where the chat template has written it) the thinking begins with the
    completion, and one that does not end says nothing.
    """
    begin, end = tags
    _, ended, text = text.rpartition(end)
    if not begin:
        return text if ended else ""
    return text.partition(begin)[0]


def find_boxed(text: str) -> str | None:
    r"""The content of the last complete `\boxed{...}` (or `\fbox{...}`) in `text`; `None` without one."""
    return next((clean_answer(content) for *_, content in boxes(text)), None)


def find_auto(text: str) -> str | None:
    r"""
    The final answer that is stated last.

    An `Answer:` line in any of the ways models write it (bold, trailing period, `$...$`, content on the next line), a
    `\boxed{...}` or an `<answer>` element, whichever comes last; only without any of these "the answer is 34", or
    `#### 34`.
    """
    lower = text.lower()  # much faster to search than ignoring case
    if len(lower) != len(text):  # a few letters, such as İ, become two
        lower = "".join(char.lower() if char.isascii() else char for char in text)
    elements = deque(_ELEMENT.finditer(lower), maxlen=1)
    start, end = elements[0].span(1) if elements else (0, 0)
    stated = [
        found for found in (_last_after(_ANSWER_LINE, lower, text), last_boxes(text)) if found and found[0] >= end
    ]
    if not stated and elements:
        return find_auto(text[start:end]) or clean_answer(text[start:end])
    if not stated:
        sentences = (_last_after(_ANSWER_IS, lower, text), _last_after(_HASHES, text, text))
        stated = [found for found in sentences if found]
    return clean_answer(max(stated)[1]) if stated else None


@lru_cache(maxsize=10_000)
def find_gold(text: str) -> str | None:
    """The reference answer in a text or a worked solution; of several boxes all different ones, `1, 2`."""
    contents = dict.fromkeys(reversed([content for *_, content in boxes(text)]))
    if len(contents) > 1:
        return clean_answer(", ".join(contents))
    return find_auto(text) or clean_answer(text)


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
    if answer.isascii() and answer.isdigit() and len(answer) <= MAX_ANSWER_CHARS:
        return answer
    answer = answer[: 2 * MAX_ANSWER_CHARS].replace('\\"', "")
    for _ in range(MAX_CANDIDATES):
        before = answer
        answer = _END.sub("", _SIGN_OFF.sub("", answer.strip().lstrip("}").strip(_MARKUP + " ")))
        rest = _EXPLANATION.search(answer)
        answer = answer[: rest.start()] if rest and not _CHANGES.search(rest[0]) else answer
        lead = _LEAD_IN.match(answer)
        answer = _unwrap(answer[lead.end() if lead and not _CHANGES.search(lead[0]) else 0 :].strip())
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
    if len(segments) == 1 and read(_MATH_SEGMENT.sub(" 7 ", answer)).number:  # "$\frac12$ in all cases"
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
        AnswerRule("boxed", 2, find_boxed),
        AnswerRule("auto", 2, find_auto),
    )
}


def get_answer_rule(name: str) -> AnswerRule:
    """
    The answer rule of this name, such as `"auto"`, or of this tag, such as `"auto-2"`.

    Raises:
        ValueError: if there is no such rule; the message lists those there are.
    """
    name = next((rule.name for rule in ANSWER_RULES.values() if rule.tag == name), name)
    if name not in ANSWER_RULES:
        raise ValueError(f"`answer_rule` is {name!r}, but the known rules are: {', '.join(sorted(ANSWER_RULES))}.")
    return ANSWER_RULES[name]
