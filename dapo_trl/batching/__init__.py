"""How tokens become a gradient: which rows form a step, what they weigh, and how they are cut (DAPO Sec. 3.3)."""

from .log_probs import score_in_chunks
from .micro_batches import PADDING_ROW, Lengths, Partition, micro_batch_tokens, partition_balanced, partition_equal
from .normalization import group_weights, step_denominators
from .optimizer_steps import assign_rows
from .padding import Row, loss_mask, neutral_logps, pad_rows, padding_row, unpad


__all__ = [
    "PADDING_ROW",
    "Cut",
    "Lengths",
    "Partition",
    "Row",
    "partition_balanced",
    "partition_equal",
    "assign_rows",
    "padding_row",
    "group_weights",
    "loss_mask",
    "micro_batch_tokens",
    "neutral_logps",
    "pad_rows",
    "score_in_chunks",
    "step_denominators",
    "unpad",
]
