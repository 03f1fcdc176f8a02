"""Find problems that overlap with those of evaluation sets."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable

from .layouts import find_problem_column
from .load import stream_rows
from .rows import build_prompt
from .spelling import Spelling, spell


_WORD_LENGTH = 5
"""Letters in a word, on average. Copies without spaces, and formulas, have no words that could be counted."""

_SHORTEST = 8
"""Letters and digits of the shortest problem that is looked for within longer ones."""


class Decontaminator:
    """
    Compares problems with evaluation problems by their n-grams: of letters and numbers, however the problem is written
    (see [`~dapo_trl.data.spelling.spell`]).

    A problem counts as contaminated if it shares at least `min_overlap` of the n-grams of an evaluation problem, or of
    its own if it has fewer. A share, not a single n-gram: competition problems end in the same long phrases ("... can
    be written as m/n where m and n are relatively prime positive integers. Find m + n."). A problem with another
    number or sign in the place of one of the evaluation problem is another problem.

    An evaluation problem shorter than an n-gram must be there as a whole: as the problem, or as sentences of it.

    Args:
        problems (iterable of `str`): evaluation problems.
        ngram_size (`int`, *optional*, defaults to 8): words per n-gram, at five letters or numbers a word.
        min_overlap (`float`, *optional*, defaults to 0.5): share of common n-grams, in (0, 1], from which on a problem
            is contaminated.

    Raises:
        ValueError: if `ngram_size` or `min_overlap` is out of range.
    """

    def __init__(self, problems: Iterable[str], ngram_size: int = 8, min_overlap: float = 0.5):
        if ngram_size < 1:
            raise ValueError(f"ngram_size={ngram_size} must be at least 1 word. Usual values are 8 to 13.")
        if not 0 < min_overlap <= 1:
            raise ValueError(f"min_overlap={min_overlap} must be in (0, 1]. 0.5 means half of the n-grams.")
        self.ngram_size = ngram_size
        self.min_overlap = min_overlap
        self._length = ngram_size * _WORD_LENGTH
        spelled = {tuple(spelling.values): spelling for spelling in map(spell, problems) if spelling.text}
        self._problems = list(spelled.values())
        self._short = [
            problem for problem in self._problems if len(problem.text) < self._length and _can_be_found(problem)
        ]
        self._sizes: list[int] = []
        self._holders: dict[str, list[int]] = defaultdict(list)  # n-gram -> evaluation problems that have it
        for number, problem in enumerate(self._problems):
            grams = self._ngrams(problem)
            for gram in grams:
                self._holders[gram].append(number)
            self._sizes.append(len(grams))

    @property
    def num_problems(self) -> int:
        """Number of different evaluation problems."""
        return len(self._problems)

    def is_contaminated(self, problem: str) -> bool:
        """Whether a problem overlaps with an evaluation problem."""
        spelling = spell(problem)
        grams = self._ngrams(spelling)
        shared = Counter(holder for gram in grams for holder in self._holders.get(gram, ()))
        return any(
            count >= self.min_overlap * min(self._sizes[holder], len(grams))
            and self._has_same_values(self._problems[holder], spelling)
            for holder, count in shared.items()
        ) or any(_has_within(spelling, short) for short in self._short)

    def _ngrams(self, spelling: Spelling) -> set[str]:
        """N-grams without the values of numbers; a shorter text is one."""
        text = spelling.text
        return {text[at : at + self._length] for at in range(max(1, len(text) - self._length + 1))} if text else set()

    def _has_same_values(self, first: Spelling, second: Spelling) -> bool:
        """Whether all common n-grams have common numbers and signs."""
        values = [self._values(spelling) for spelling in (first, second)]
        return all(values[0][gram] & values[1][gram] for gram in values[0].keys() & values[1].keys())

    def _values(self, spelling: Spelling) -> dict[str, set[tuple[str, ...]]]:
        values = defaultdict(set)
        for at in range(max(1, len(spelling.text) - self._length + 1)):
            end = at + self._length
            # What stands before the n-gram does not belong to it, and so neither does the first sign.
            values[spelling.text[at:end]].add((spelling.values[at].lstrip("+-<>≤≥"), *spelling.values[at + 1 : end]))
        return values


def _can_be_found(short: Spelling) -> bool:
    """Whether a problem is more than a phrase of others ("Find the shaded area"): with a number or two variables."""
    is_alone = [bool(before and after) for before, after in zip(short.gaps, short.gaps[1:], strict=False)]
    num_variables = sum(alone and letter not in "#ai" for alone, letter in zip(is_alone, short.text, strict=True))
    return len("".join(short.values)) >= _SHORTEST and ("#" in short.text or num_variables >= 2)


def _has_within(problem: Spelling, short: Spelling) -> bool:
    """Whether a short problem stands in a longer one, begun and ended like a sentence."""
    size = len(short.text)
    at = problem.text.find(short.text)
    while at >= 0:
        end = at + size
        if (
            problem.values[at:end] == short.values
            and (at == 0 or problem.gaps[at])
            and (end == len(problem.text) or re.search(r"[.?!:;$]|\n", problem.gaps[end]))
        ):
            return True
        at = problem.text.find(short.text, at + 1)
    return False


def read_problems(source: str, split: str = "train") -> list[str]:
    """
    The bare problems of an evaluation set (a file, directory or Hub id); no reference answers are needed.

    Raises:
        ValueError: if no column holds problems, or a row has none.
    """
    problems = []
    layout = None
    for index, row in enumerate(stream_rows(source, split)):
        layout = layout or find_problem_column(row, source)
        try:
            problems.append(build_prompt(row, layout)[1])
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{source!r}, row {index} (the first is 0), column {layout.prompt!r}: {error}."
            ) from error
    return problems
