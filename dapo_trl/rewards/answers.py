r"""
Find the final answer in a completion: of the last [`MAX_CANDIDATES`], nothing beyond [`MAX_ANSWER_CHARS`], so that one
of megabytes of braces costs no more than to find `answer` and `\boxed` in it.
"""

import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from .equivalence import read
from .math_dapo import equals_math_dapo, find_math_dapo


THINKING_TAGS = ("<think>", "</think>")
# The longest gold in MATH-500 has 159 characters; what is longer than this is no final answer.
MAX_ANSWER_CHARS, MAX_CANDIDATES = 1000, 16

_SPACE = r"(?:[\s$]|\\quad|\\qquad|\\[()])*"
_AND = re.compile(
    rf"{_SPACE}(?:,|;|,? ?and|,? ?or|\\text *\{{[^{{}}]{{0,40}}(?:and|or) *\}})"
    rf"{_SPACE}(?:[A-Za-z](?:_\{{?\w+\}}?)? *= *)?"
)
_BOX = re.compile(r"\\(?:boxed|fbox)\s{0,15}(?:([0-9])|\{)")
_BRACE = re.compile(r"(?<!\\)[{}]")
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
_MATH = re.compile(r"(?<!\\)\$\$?([^$]+)(?<!\\)\$\$?|\\\(((?:[^\\]|\\[^()])+)\\\)|\\\[((?:[^\\]|\\[^\[\]])+)\\\]")
_CONTENT = re.compile(r"[^\W_]|[∞∅]")  # anything but punctuation and space


def find_boxed(text: str) -> str | None:
    r"""The content of the last complete `\boxed{...}` (or `\fbox{...}`) in `text`; `None` without one."""
    return next((clean_answer(content) for *_, content in _boxes(text)), None)


def find_auto(text: str) -> str | None:
    r"""
    The last `Answer:` line in any of the ways models write it (bold, trailing period, `$...$`, content below it),
    `\boxed{...}` or `<answer>` element; only without any of these "the answer is 34", or `#### 34`.
    """
    lower = text.replace("İ", "I").lower()  # much faster to search than ignoring case; İ alone would become longer
    stated = [_last_after(_ANSWER_LINE, lower, text), _last_boxes(text)]
    for element in deque(_ELEMENT.finditer(lower), maxlen=1):
        content = text[slice(*element.span(1))]
        stated.append((element.end(1), find_auto(content) or content))
    if not any(stated):
        stated = [_last_after(_ANSWER_IS, lower, text), _last_after(_HASHES, text, text)]
    return clean_answer(max(filter(None, stated))[1]) if any(stated) else None


@lru_cache(maxsize=10_000)
def find_gold(text: str) -> str | None:
    """The reference answer in a text or a worked solution; of several boxes all different ones, `1, 2`."""
    contents = dict.fromkeys(reversed([content for *_, content in _boxes(text)]))
    if len(contents) > 1:
        return clean_answer(", ".join(contents))
    return find_auto(text) or clean_answer(text)


def clean_answer(answer: str) -> str | None:
    """Take off emphasis, math delimiters, a box, a lead-in, words, a final period; `None` if empty or too long."""
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
    return answer if _CONTENT.search(answer) and len(answer) <= MAX_ANSWER_CHARS else None


def _unwrap(answer: str) -> str:
    """Remove one box, or one pair of math delimiters with the words around it."""
    opening = _BOX.match(answer)
    box = _read_box(opening) if opening else None
    if box is not None and box[1] == len(answer):
        return box[0]
    segments = list(_MATH.finditer(answer))
    if len(segments) == 1 and read(_MATH.sub(" 7 ", answer)).number:  # "$\frac12$ in all cases"
        return next(filter(None, segments[0].groups()))
    return answer


def _last_after(pattern: re.Pattern, searched: str, text: str) -> tuple[int, str] | None:
    """Position of the last match that any content follows, and the first line of that, which may stand below."""
    for match in reversed(deque(pattern.finditer(searched), maxlen=MAX_CANDIDATES)):
        for line in text[match.end() : match.end() + MAX_ANSWER_CHARS].split("\n"):
            if _CONTENT.search(line):
                return match.start(), line
    return None


def _boxes(text: str) -> Iterator[tuple[int, int, str]]:
    """Start, end and content of boxes that close and are not empty, from the last one back; of the last 16 only."""
    for opening in reversed(deque(_BOX.finditer(text), maxlen=MAX_CANDIDATES)):
        box = _read_box(opening)
        if box is not None and _CONTENT.search(box[0]):
            yield opening.start(), box[1], box[0]


def _last_boxes(text: str) -> tuple[int, str] | None:
    r"""Position and content of the last box, with those enumerated before it: `\boxed{5} and \boxed{6}` is `5, 6`."""
    found: list[tuple[int, int, str]] = []
    for box in _boxes(text):
        if found and not _AND.fullmatch(text[box[1] : found[-1][0]]):
            break
        found.append(box)
    return (found[0][0], ", ".join(content for *_, content in reversed(found))) if found else None


def _read_box(opening: re.Match) -> tuple[str, int] | None:
    r"""Content and end of a box; of `\boxed5` the digit. `None` if it is not closed within the longest answer."""
    if opening[1]:
        return opening[1], opening.end()
    text, start, depth = opening.string, opening.end(), 1
    for brace in _BRACE.finditer(text, start, start + MAX_ANSWER_CHARS):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return text[start : brace.start()], brace.end()
    return None


@dataclass(frozen=True)
class AnswerRule:
    """How to find the final answer, and how to compare it. Scores are comparable only if their rule is the same."""

    name: str  # as in `answer_rule`
    version: int  # goes up whenever the rule finds something else
    find: Callable[[str], str | None]  # the final answer of a completion, `None` without one
    # The rule's own whole comparison of answer and gold, in all of a text; without, thinking is left out.
    equals: Callable[[str, str], bool] | None = None

    @property
    def tag(self) -> str:
        """Name and version in one word, such as `"auto-2"`, for checkpoints and results."""
        return f"{self.name}-{self.version}"


ANSWER_RULES = {
    "math_dapo": AnswerRule("math_dapo", 1, find_math_dapo, equals_math_dapo),
    "boxed": AnswerRule("boxed", 2, find_boxed),
    "auto": AnswerRule("auto", 2, find_auto),
}


def get_answer_rule(name: str) -> AnswerRule:
    """The answer rule of this name, such as `"auto"`, or of this tag, such as `"auto-2"`; else a `ValueError`."""
    for rule in ANSWER_RULES.values():
        if name in (rule.name, rule.tag):
            return rule
    raise ValueError(f"`answer_rule` is {name!r}, but the known rules are: {', '.join(sorted(ANSWER_RULES))}.")
