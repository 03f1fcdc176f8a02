"""Which groups to train on: dynamic sampling (DAPO Sec. 3.2, Eq. 11, Algorithm 1 lines 2-8)."""

from .groups import Outcome, deciding_values, group_outcomes, informative_groups, is_graded, outcome_shares
from .prompts import PromptStream, prompts_fingerprint
from .refill import AcceptanceRate, GroupPool, Hints, ShortageError, check_filled, equal_share_multiple, round_size


__all__ = [
    "AcceptanceRate",
    "GroupPool",
    "Hints",
    "Outcome",
    "PromptStream",
    "ShortageError",
    "check_filled",
    "deciding_values",
    "equal_share_multiple",
    "group_outcomes",
    "informative_groups",
    "is_graded",
    "outcome_shares",
    "prompts_fingerprint",
    "round_size",
]
