"""Find problems that overlap with those of evaluation sets."""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable

from ..rewards.spelling import neutral
from .layouts import find_prompt_column
from .prompts import build_prompt
from .stream import stream_rows


_MATHS = re.compile(r"(\$\$?[^$]+\$\$?|\\\(.+?\\\)|\\\[.+?\\\])", re.DOTALL)
_WORD = re.compile(r"[0-9]|[^\W\d_]+")
# A short evaluation problem is looked for at the end of others too, behind a prefix; "Find x" would be in many.
_MIN_WORDS_AT_END = 4


class Decontaminator:
    """
    Compares problems with evaluation problems by the n-grams of their words (lower case, letters and digits only; in
    mathematics, every letter and digit is a word, in one spelling of LaTeX).

    A problem counts as contaminated if it shares at least `min_overlap` of the n-grams of an evaluation problem, or of
    its own if it has fewer. A share, not a single n-gram: competition problems end in the same long phrases ("... can
    be written as m/n where m and n are relatively prime positive integers. Find m + n.").

    Args:
        problems (iterable of `str`):
            Evaluation problems.
        ngram_size (`int`, *optional*, defaults to 8):
            Words per n-gram. A shorter problem is one n-gram of all its words.
        min_overlap (`float`, *optional*, defaults to 0.5):
            Share of common n-grams, in (0, 1], from which on a problem is contaminated.

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
        self._sizes: list[int] = []
        self._holders: dict[int, list[int]] = defaultdict(list)  # n-gram -> evaluation problems that have it
        words = [_words(problem) for problem in problems]
        self._short_sizes = {len(one) for one in words if _MIN_WORDS_AT_END <= len(one) < ngram_size}
        for grams in {frozenset(self._ngrams(one)) for one in words}:
            for gram in grams:
                self._holders[gram].append(len(self._sizes))
            self._sizes.append(len(grams))

    @property
    def num_problems(self) -> int:
        """Number of different evaluation problems."""
        return len(self._sizes)

    def is_contaminated(self, problem: str) -> bool:
        """Whether a problem overlaps with an evaluation problem."""
        words = _words(problem)
        grams = self._ngrams(words) | {
            _hash(" ".join(words[-size:])) for size in self._short_sizes if size < len(words)
        }
        shared = Counter(holder for gram in grams for holder in self._holders.get(gram, ()))
        return any(
            count >= self.min_overlap * min(self._sizes[holder], len(grams)) for holder, count in shared.items()
        )

    def _ngrams(self, words: list[str]) -> set[int]:
        if not words:
            return set()
        size = min(self.ngram_size, len(words))
        return {_hash(" ".join(words[at : at + size])) for at in range(len(words) - size + 1)}


def _words(problem: str) -> list[str]:
    parts = [neutral(part).lower() for part in _MATHS.split(problem)]
    found = [re.findall("[a-z0-9]", part) if at % 2 else _WORD.findall(part) for at, part in enumerate(parts)]
    return [word for part in found for word in part]


def _hash(text: str) -> int:
    # Python's own hash of a text changes from run to run.
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest())


def read_problems(source: str, split: str = "train") -> list[str]:
    """
    The bare problems of an evaluation set; no gold answers are needed.

    Args:
        source (`str`):
            Path of a `.json`, `.jsonl` or `.parquet` file or of a directory, or Hub id.
        split (`str`, *optional*, defaults to `"train"`):
            Split of a data set on the Hub; `"test"` for most evaluation sets.

    Raises:
        ValueError: if no column holds problems, or a row has none.
    """
    problems = []
    layout = None
    for index, row in enumerate(stream_rows(source, split)):
        layout = layout or find_prompt_column(row, source)
        try:
            problems.append(build_prompt(row, layout)[1])
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{source!r}, row {index} (the first is 0), column {layout.prompt!r}: {error}."
            ) from error
    return problems
