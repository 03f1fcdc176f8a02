"""What the verifier says about one answer."""

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """How a verdict was reached, or why there is none."""

    NO_ANSWER = "no_answer"  # the completion states no final answer: wrong
    RULE = "rule"  # decided by the string and number rules
    UNFINISHED = "unfinished"  # still has to be computed, or is no number where the gold is one: wrong
    MATH_VERIFY = "math_verify"  # decided by math-verify
    TIMEOUT = "timeout"  # math-verify was stopped: counts as wrong
    ERROR = "error"  # the verifier failed: no verdict
    GOLD_UNREADABLE = "gold_unreadable"  # nothing to compare with: no verdict


@dataclass(frozen=True)
class Outcome:
    """Verdict on one answer."""

    is_correct: bool | None  # None without a verdict: the gold cannot be read, or the verifier failed
    reason: Reason
    answer: str | None = None  # the final answer found in the completion
    detail: str = ""  # the error message of a verifier that failed
