"""Find problems that overlap with those of evaluation sets."""

import html
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from .layouts import Layout, describe_columns
from .load import stream_rows
from .rows import build_prompt


NGRAM_SIZE = 40
"""Characters per n-gram, about eight words. Copies without spaces, and formulas, have no words to count."""

MIN_OVERLAP = 0.5
"""
Share of common n-grams from which on a problem is contaminated. A share, not a single n-gram: competition problems end
in the same long phrases ("... can be written as m/n where m and n are relatively prime positive integers. Find m+n.").
"""

_SHORTEST = 8
"""Characters of the shortest problem that is looked for within longer ones."""

_SYMBOLS = str.maketrans({"−": "-", "–": "-", "≤": "<", "≥": ">", "·": "*", "×": "*", "⋅": "*", "√": " sqrt "})
_REWRITES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\(?:begin|end|[hv]space\*?)\s*\{[^{}]*\}", " "),
        (r"\\(?:cdot|times)(?![a-z])|\\(?:cdot|times)(?=[a-z]\b)", "*"),
        # Letters may follow at once: a copy without spaces has `\lex` for `\le x`.
        (r"\\l(?:eqslant|eq|e(?!ft|ss)|t(?!imes))|<=", "<"),
        (r"\\g(?:eqslant|eq|e(?!ts)|t(?!rsim))|>=", ">"),
        # Commands that only say how something looks.
        (r"\\(?:left|right|[dtc]?frac|text[a-z]{0,6}|math[a-z]{2,4}|display[a-z]+|operatorname|boxed|q?quad)", " "),
        (r"\\[()\[\]]", "|"),
        (r"\\[^a-z0-9]|\*\*|(?<=\d)(?:,|\{,\}) ?(?=\d{3})", ""),
        (r"(?<=\d)\.(?=\d)", "·"),
        (r"[.?!:;$\n]", "|"),
        (r"[^\w+\-*<>=|·]|_", ""),
        (r"\|+", "|"),
    )
)


def normalize(problem: str) -> str:
    r"""
    A problem as letters, digits and signs, with a bar between sentences and around formulas: the same however it is
    written in LaTeX, Unicode, white space, case and punctuation.

    >>> normalize(r"Is $\dfrac{1}{2}x \le -3$?")
    'is|12x<-3|'
    """
    text = unicodedata.normalize("NFKD", html.unescape(problem).translate(_SYMBOLS)).lower()
    text = re.sub("[α-ω]", lambda letter: unicodedata.name(letter[0]).split()[-1].lower(), text)
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    return text


class Decontaminator:
    """A problem is contaminated if it shares half of the n-grams of an evaluation problem, or holds a short one."""

    def __init__(self, problems: Iterable[str]):
        self._short: list[re.Pattern] = []
        self._sizes: list[int] = []  # number of n-grams of each problem
        self._holders: dict[str, list[int]] = defaultdict(list)  # n-gram -> evaluation problems that have it
        for problem in problems:
            plain = normalize(problem).replace("|", "")
            if not plain:
                continue
            if len(plain) < NGRAM_SIZE:
                # Within longer ones only if it is more than a phrase ("Find the shaded area"): a number or a formula.
                is_more = len(plain) >= _SHORTEST and re.search(r"\d|[-+*<>=]|[$\\]", problem)
                pattern = r"\|?".join(map(re.escape, plain)) + r"(?:\||$)"
                self._short.append(re.compile(pattern if is_more else rf"^\|?{pattern}$"))
                continue
            grams = _ngrams(plain)
            for gram in grams:
                self._holders[gram].append(len(self._sizes))
            self._sizes.append(len(grams))

    def is_contaminated(self, problem: str) -> bool:
        text = normalize(problem)
        grams = _ngrams(text.replace("|", ""))
        shared = Counter(holder for gram in grams for holder in self._holders.get(gram, ()))
        return any(
            count >= MIN_OVERLAP * min(self._sizes[holder], len(grams)) for holder, count in shared.items()
        ) or any(short.search(text) for short in self._short)


def _ngrams(text: str) -> set[str]:
    return {text[at : at + NGRAM_SIZE] for at in range(len(text) - NGRAM_SIZE + 1)}


def read_problems(sources: Iterable[str], split: str = "train") -> Iterator[str]:
    """The bare problems of evaluation sets (files, directories or Hub ids), which need no reference answers."""
    for source in sources:
        for index, row in enumerate(stream_rows(source, split)):
            column = next((name for name in ("problem", "question", "prompt") if name in row), None)
            if column is None:
                there = describe_columns(row)
                raise ValueError(f"{source!r}: no column `problem`, `question` or `prompt`. Rename one among {there}.")
            try:
                yield build_prompt(row, Layout(column, column, solution=""))[1]
            except (TypeError, ValueError) as error:
                raise ValueError(f"{source!r}, row {index} (the first is 0), column {column!r}: {error}.") from error
