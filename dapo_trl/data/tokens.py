"""Lengths of prompts in tokens."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from .counts import Counts
from .prompts import Messages
from .records import Record


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def num_prompt_tokens(prompt: str | Messages, tokenizer: "PreTrainedTokenizerBase") -> int:
    """
    Tokens of a prompt as the model sees it: messages through the tokenizer's chat template, with generation prompt.

    Raises:
        ValueError: for messages, if the tokenizer has no chat template.
    """
    if isinstance(prompt, str):
        return len(tokenizer(prompt)["input_ids"])
    if tokenizer.chat_template is None:
        raise ValueError(
            f"tokenizer={tokenizer.name_or_path!r} has no chat template, and the prompts are lists of messages. Use "
            "the tokenizer of a chat model, or prompts as text (conversational=False)."
        )
    encoded = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=True, return_dict=True)
    return len(encoded["input_ids"])


def within_token_limit(
    records: Iterable[Record], tokenizer: "PreTrainedTokenizerBase", max_tokens: int, counts: Counts
) -> Iterator[Record]:
    """The records whose prompts have at most `max_tokens` tokens; the others are counted."""
    for record in records:
        if num_prompt_tokens(record.prompt, tokenizer) <= max_tokens:
            yield record
        else:
            counts.num_too_long += 1


def length_statistics(lengths: list[int]) -> dict[str, int]:
    """
    Minimum, median, 95th percentile and maximum, each a length that occurs (nearest rank).

    >>> length_statistics([5, 1, 3])
    {'min': 1, 'median': 3, '95%': 5, 'max': 5}
    """
    if not lengths:
        return {}
    ordered = sorted(lengths)
    # Nearest rank: the smallest length that at least this share of the lengths does not exceed.
    return {
        name: ordered[max(0, -(-percent * len(ordered) // 100) - 1)]
        for name, percent in (("min", 0), ("median", 50), ("95%", 95), ("max", 100))
    }


def load_tokenizer(name: str | None) -> "PreTrainedTokenizerBase | None":
    """The tokenizer of a Hub id or path, None for None."""
    from transformers import AutoTokenizer

    return None if name is None else AutoTokenizer.from_pretrained(name)
