"""Which groups to train on: dynamic sampling (DAPO Sec. 3.2, Eq. 11, Algorithm 1 lines 2-8)."""

from .groups import Outcome, group_outcomes, informative_groups
from .prompts import PromptStream
from .refill import AcceptanceRate, GroupPool, ShortageError, equal_share_multiple, round_size, shortage_message


__all__ = [
    "AcceptanceRate",
    "GroupPool",
    "Outcome",
    "PromptStream",
    "ShortageError",
    "equal_share_multiple",
    "group_outcomes",
    "informative_groups",
    "round_size",
    "shortage_message",
]
