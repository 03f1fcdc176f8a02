"""What runs in a worker process: one comparison by math-verify. It is killed from outside when it takes too long."""

import logging
import math
import re
import resource
import signal
from contextlib import suppress
from functools import cache, lru_cache

from latex2sympy2_extended import NormalizationConfig
from math_verify import LatexExtractionConfig, parse, verify
from sympy import Basic, E, Expr, Float, MatrixBase, Rational, UnevaluatedExpr

from .equivalence import ROUNDED_DIGITS, Reading, read
from .finished import is_finished
from .outcome import Outcome, Reason
from .spelling import split_unit


MEMORY_LIMIT_BYTES = 1024**3
ORPHAN_GRACE_SECONDS = 15  # after the time-out: then the alarm of the kernel ends a worker whose owner has died

# What sympy raises where it has no way to compare, such as x != 3 with a set. [`_prepare`] finds broken installations.
_INCOMPARABLE = (TypeError, ValueError, KeyError, NotImplementedError, ArithmeticError, RecursionError, MemoryError)

# The parser learns from what it reads; every worker is forked with what it has learned from these.
_SAMPLES = r"""-5.25; 2x - 3y; 1, 2, 3; (1, 2, 3); x^2 + 2x + 1 = 0; 3 + 4i; A, B; -\frac{3}{4}\pi; 5\sqrt{3} - 2
\{1, 2\}; (-\infty, 2] \cup (3, 5); 1 < x \le 2; [1, 2); \sin(2x); e^{-2x}; 3x(x+1)^2(x-2); \text{even}
\frac{x+1}{2y^2}; \begin{pmatrix} -1 & 2 \\ \frac{1}{3} & 4 \end{pmatrix}; 1 \pm \sqrt{2}"""

_NORMALIZATION = NormalizationConfig(units=False, malformed_operators=True, nits=True)  # 5h is no 5
_EXTRACTION = (LatexExtractionConfig(boxed_match_priority=-1, normalization_config=_NORMALIZATION),)


@cache
def _limit() -> None:
    """Once per worker: bound its memory, and let signals end it at once."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a Python handler would wait for a running big-integer power
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    hard_limit = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = MEMORY_LIMIT_BYTES if hard_limit == resource.RLIM_INFINITY else min(MEMORY_LIMIT_BYTES, hard_limit)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard_limit))


def check(answer: str, gold: str, timeout: float) -> Outcome:
    """Compare by math-verify; what cannot be read, compared, or evaluated within the memory limit is wrong."""
    _limit()
    signal.alarm(math.ceil(timeout) + ORPHAN_GRACE_SECONDS)
    try:
        return _compare(answer, gold)
    finally:
        signal.alarm(0)


def _compare(answer: str, gold: str) -> Outcome:
    stated, wanted = read(answer), read(gold)
    if not wanted.is_plain and not _is_right(wanted, wanted):
        return Outcome(None, Reason.GOLD_UNREADABLE)
    is_correct = _is_right(stated, wanted)
    if is_correct and not wanted.is_plain:
        gold_tree, tree = _parse(wanted.text), _parse(stated.text)  # None: an equation
        is_gold_finished = gold_tree is not None and is_finished(wanted.text, gold_tree, gold_tree)
        if is_gold_finished and not is_finished(stated.text, tree, gold_tree):
            return Outcome(False, Reason.UNFINISHED)
    return Outcome(is_correct, Reason.MATH_VERIFY)


@lru_cache(maxsize=1000)
def _is_right(answer: Reading, gold: Reading) -> bool:
    with suppress(*_INCOMPARABLE):  # no fault of the verifier: it must not count towards stopping the run
        return _is_equal(answer, gold)
    return False


def _is_equal(answer: Reading, gold: Reading) -> bool:
    """Values are compared, and equations as a whole: 6 is not `xy = 6`. Of `2 + 3 = 5` both sides must be the gold."""
    answer_is_equation, gold_is_equation = (not one.name and "=" in one.whole for one in (answer, gold))
    is_other_name = gold.name and (answer_is_equation or (answer.name and answer.name != gold.name))
    if gold_is_equation or is_other_name:
        return "=" in answer.whole and _verify(_parse(gold.whole), _parse(answer.whole))
    if not answer_is_equation:
        return _verify(_parse(gold.text), _parse(answer.text))
    sides = answer.whole.split("=")
    return all(_verify(_parse(gold.text), _parse(split_unit(side.strip())[0])) for side in sides)


def _verify(gold: Basic | MatrixBase | None, answer: Basic | MatrixBase | None) -> bool:
    """Exactly: with its own 15 digits math-verify takes 1e-16 for 0. A decimal of six digits may also be rounded."""
    if gold is None or answer is None or _differ(gold, answer):
        return False
    options = {"timeout_seconds": None, "allow_set_relation_comp": True, "raise_on_error": True}
    floats = {number: Rational(str(number)) for tree in (gold, answer) for number in tree.atoms(Float)}
    if verify(gold.xreplace(floats), answer.xreplace(floats), numeric_precision=60, **options):
        return True
    is_rounded = all(len(str(number).strip("-0.").replace(".", "").rstrip("0")) >= ROUNDED_DIGITS for number in floats)
    return bool(floats) and is_rounded and verify(gold, answer, **options)


def _differ(*trees: Basic | MatrixBase) -> bool:
    """Whether two expressions have different values at a point; faster than to find no way to make them equal."""
    if not all(isinstance(tree, Expr) and not tree.has(UnevaluatedExpr, E) for tree in trees) or trees[0].is_Number:
        return False
    symbols = sorted(trees[0].free_symbols | trees[1].free_symbols, key=str)
    point = {symbol: Rational(number + 7, 5) for number, symbol in enumerate(symbols)}
    one, two = (tree.subs(point).evalf(15) for tree in trees)
    return all(value.is_Number and value.is_finite for value in (one, two)) and abs(one - two) > 1e-4 * abs(one)


@lru_cache(maxsize=1000)
def _parse(text: str) -> Basic | MatrixBase | None:
    """A whole answer as one expression, never as a text to look for one: "5 or 6" is no 6. `None` if unreadable."""
    text = re.sub(r"\\sqrt *\(", "sqrt(", text)
    trees = parse(f"${text}$", _EXTRACTION, fallback_mode="no_fallback", parsing_timeout=None, raise_on_error=True)
    if not trees and r"\pm" in text:  # within a fraction it cannot
        return _parse(re.sub(r"([^,]*)\\pm([^,]*)", r"\1+\2, \1-\2", text))
    return trees[0] if trees else None


def _prepare() -> None:
    """Fail if this installation of math-verify does not work; on the way, build the tables of its parser."""
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)  # "timeout is disabled": on purpose
    for answer, is_correct in ((r"\frac{1}{\sqrt{3}}", True), (r"\pi", False)):
        if _compare(answer, r"\frac{\sqrt{3}}{3}") != Outcome(is_correct, Reason.MATH_VERIFY):
            raise RuntimeError(f"math-verify does not work: {answer} == sqrt(3)/3 is not {is_correct}.")
    for text in re.split("[;\n]", _SAMPLES):
        _parse(text.strip())


_prepare()  # where this module is imported: once, by the process that workers are forked from
