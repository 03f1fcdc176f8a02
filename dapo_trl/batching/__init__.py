"""How tokens become a gradient: which rows form a step, what they weigh, and how they are cut (DAPO Sec. 3.3)."""

from .log_probs import score_in_pieces
from .micro_batches import FILLER, Cut, Lengths, cut_balanced, cut_equal, micro_batch_tokens
from .normalization import group_weights, step_denominators
from .optimizer_steps import deal_rows
from .padding import Row, filler_row, loss_mask, neutral_logps, pad_rows, unpad


__all__ = [
    "FILLER",
    "Cut",
    "Lengths",
    "Row",
    "cut_balanced",
    "cut_equal",
    "deal_rows",
    "filler_row",
    "group_weights",
    "loss_mask",
    "micro_batch_tokens",
    "neutral_logps",
    "pad_rows",
    "score_in_pieces",
    "step_denominators",
    "unpad",
]
