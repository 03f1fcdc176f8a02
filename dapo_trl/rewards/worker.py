r"""
What runs in a worker process: one comparison by math-verify.

Imports neither torch nor TRL. Nothing here limits its own time: the process is killed from outside.
"""

import logging
import math
import re
import resource
import signal

from latex2sympy2_extended import NormalizationConfig
from math_verify import LatexExtractionConfig, parse, verify

from .canonical import canonical
from .outcome import Reason


MEMORY_LIMIT_BYTES = 1024**3
# A worker whose owner died cannot be killed by it any more; the alarm of the kernel then ends it.
ORPHAN_GRACE_SECONDS = 15

# What sympy raises where it has no way to compare two expressions, such as x != 3 with a set. [`self_test`] tells a
# broken installation apart.
_INCOMPARABLE = (TypeError, ValueError, KeyError, NotImplementedError, ArithmeticError, RecursionError, MemoryError)

_EXTRACTION = (
    LatexExtractionConfig(
        boxed_match_priority=0,
        normalization_config=NormalizationConfig(
            basic_latex=True, units=True, malformed_operators=True, nits=True, boxed="all", equations=False
        ),
    ),
)


def prepare_worker() -> None:
    """Run once per worker: bound its memory, let signals end it at once, and build math-verify's tables."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a Python handler would wait for a running big-integer power
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    hard_limit = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = MEMORY_LIMIT_BYTES if hard_limit == resource.RLIM_INFINITY else min(MEMORY_LIMIT_BYTES, hard_limit)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard_limit))
    self_test()


def self_test() -> None:
    """
    Fail if this installation of math-verify does not work; on the way, build the tables of its parser.

    Raises:
        RuntimeError: if two known comparisons go wrong.
    """
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)  # "timeout is disabled": on purpose
    for answer, is_correct in ((r"\frac{\sqrt{4}}{3}", True), (r"\pi", False)):
        if _check(answer, r"\frac{2}{3}") != (is_correct, Reason.MATH_VERIFY):
            raise RuntimeError(f"math-verify does not work: {answer} == 2/3 is not {is_correct}.")


def check(answer: str, gold: str, timeout: float) -> tuple[bool | None, str]:
    """
    Compare with math-verify.

    Args:
        answer (`str`): the final answer, without anything around it.
        gold (`str`): the reference answer.
        timeout (`float`): seconds after which this process is going to be killed.

    Returns:
        `tuple[bool | None, str]`: verdict and [`Reason`]. An answer that cannot be read, or compared, or evaluated
        within the memory limit, is wrong; a gold that cannot be read gives `None`.
    """
    signal.alarm(math.ceil(timeout) + ORPHAN_GRACE_SECONDS)
    try:
        return _check(answer, gold)
    finally:
        signal.alarm(0)


def _check(answer: str, gold: str) -> tuple[bool | None, str]:
    parsed_gold = _parse(gold)
    if not parsed_gold:
        return None, Reason.GOLD_UNREADABLE
    try:
        parsed_answer = _parse(answer)
        is_correct = verify(
            parsed_gold, parsed_answer, timeout_seconds=None, allow_set_relation_comp=True, raise_on_error=True
        )
    except _INCOMPARABLE:
        return False, Reason.MATH_VERIFY  # no fault of the verifier: it must not count towards stopping the run
    return bool(is_correct), Reason.MATH_VERIFY


def _parse(text: str) -> list:
    """
    Read a whole answer as one mathematical expression.

    Never as text in which to look for a number: "5 or 6" must not be read as 6.
    """
    text = re.sub(r"\\sqrt *\(", "sqrt(", canonical(text))
    text = re.sub(r"(?<![A-Za-z\\])pi(?![A-Za-z])", r"\\pi ", text)
    return parse(f"${text}$", _EXTRACTION, fallback_mode="no_fallback", parsing_timeout=None, raise_on_error=True)
