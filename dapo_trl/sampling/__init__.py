"""Which groups to train on: dynamic sampling (DAPO Sec. 3.2, Eq. 11, Algorithm 1 lines 2-8)."""

from .collection import (
    STATUS_COLUMN,
    CollectedBatch,
    Collection,
    GeneratedRow,
    collected_batch,
    columns_to_rows,
    generated_rows,
    merge_completion_metrics,
    padding_completion,
)
from .groups import Outcome, deciding_values, group_outcomes, informative_groups, is_graded, outcome_shares
from .prompts import PromptStream, prompts_fingerprint
from .refill import AcceptanceRate, GroupPool, Hints, ShortageError, check_filled, equal_share_multiple, round_size
from .sampler import DynamicSampler


__all__ = [
    "STATUS_COLUMN",
    "AcceptanceRate",
    "CollectedBatch",
    "Collection",
    "DynamicSampler",
    "GeneratedRow",
    "GroupPool",
    "Hints",
    "Outcome",
    "PromptStream",
    "ShortageError",
    "check_filled",
    "collected_batch",
    "columns_to_rows",
    "deciding_values",
    "equal_share_multiple",
    "generated_rows",
    "group_outcomes",
    "informative_groups",
    "is_graded",
    "merge_completion_metrics",
    "outcome_shares",
    "padding_completion",
    "prompts_fingerprint",
    "round_size",
]
