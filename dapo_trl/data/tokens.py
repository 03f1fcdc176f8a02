"""Prompts as the tokens that the model sees, and statistics of their lengths."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from .prompts import Messages


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def prompt_ids(
    prompts: Sequence[str | Messages],
    tokenizer: "PreTrainedTokenizerBase",
    chat_template_kwargs: dict[str, Any] | None = None,
) -> list[list[int]]:
    """Token ids of prompts of one kind, as TRL makes them: texts as they are, messages through the chat template."""
    if not prompts:
        return []
    if isinstance(prompts[0], str):
        return tokenizer(text=list(prompts))["input_ids"]
    if tokenizer.chat_template is None:
        raise ValueError(
            f"tokenizer={tokenizer.name_or_path!r} has no chat template, and the prompts are lists of messages. Use "
            "the tokenizer of a chat model, or prompts as text (conversational=False)."
        )
    encoded: Any = tokenizer.apply_chat_template(
        cast(list[Messages], prompts),
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        **(chat_template_kwargs or {}),
    )
    return encoded["input_ids"]


def length_statistics(lengths: Sequence[int]) -> dict[str, int]:
    """Minimum, median, 95th percentile and maximum, each a length that occurs (nearest rank)."""
    if not lengths:
        return {}
    ranks = np.percentile(lengths, [0, 50, 95, 100], method="inverted_cdf")
    return dict(zip(("min", "median", "95%", "max"), ranks.astype(int).tolist(), strict=True))
