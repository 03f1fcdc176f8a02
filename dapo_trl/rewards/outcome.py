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
    """
    Verdict on one answer.

    Attributes:
        is_correct (`bool` or `None`):
            `None` if there is no verdict: the gold cannot be read, or the verifier failed.
        reason ([`Reason`]):
            How the verdict was reached.
        answer (`str` or `None`):
            The final answer found in the completion, `None` if there is none.
        detail (`str`):
            The error message of a verifier that failed, else empty.
    """

    is_correct: bool | None
    reason: Reason
    answer: str | None = None
    detail: str = ""
