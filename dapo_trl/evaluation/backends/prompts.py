"""Prompts as the tokens that the model sees, the same as in training."""

from collections.abc import Iterable
from typing import Any

from transformers import PreTrainedTokenizerBase

from ...data.prompts import Messages


class PromptEncoder:
    """
    Makes tokens of prompts, each only once.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]): the model's.
        chat_template_kwargs (`dict`, *optional*): arguments of its chat template.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, chat_template_kwargs: dict[str, Any] | None = None):
        self.tokenizer = tokenizer
        self.chat_template_kwargs = chat_template_kwargs or {}
        self._ids: dict[str, list[int]] = {}

    def __call__(self, problem_id: str, prompt: str | Messages) -> list[int]:
        """Tokens of a problem's prompt: messages through the chat template, with generation prompt."""
        if problem_id not in self._ids:
            self._ids[problem_id] = self._encode(prompt)
        return self._ids[problem_id]

    def text(self, problem_id: str, prompt: str | Messages) -> str:
        """What a problem's tokens say, special tokens included."""
        return self.tokenizer.decode(self(problem_id, prompt))

    def longest(self, problems: Iterable[tuple[str, str | Messages]]) -> int:
        """Tokens of the longest prompt."""
        return max(len(self(problem_id, prompt)) for problem_id, prompt in problems)

    def _encode(self, prompt: str | Messages) -> list[int]:
        if isinstance(prompt, str):
            return self.tokenizer(prompt)["input_ids"]
        encoded = self.tokenizer.apply_chat_template(
            prompt, add_generation_prompt=True, tokenize=True, return_dict=True, **self.chat_template_kwargs
        )
        return encoded["input_ids"]


def check_length(
    longest_prompt: int, max_completion_length: int, limit: int, limit_name: str, other_remedy: str
) -> None:
    """
    Do prompt and completion fit?

    Args:
        longest_prompt (`int`): tokens of the longest prompt.
        max_completion_length (`int`): tokens of the longest completion.
        limit (`int`): tokens that there may be.
        limit_name (`str`): what the limit is called, such as `"the model's context"`.
        other_remedy (`str`): how the limit is raised, such as `"take a model with a longer context"`.

    Raises:
        ValueError: if they do not, or if the prompt alone leaves no room for a completion.
    """
    room = limit - longest_prompt
    if room < 1:
        raise ValueError(
            f"The longest prompt alone has {longest_prompt} tokens and does not fit into {limit_name} of {limit} with "
            f"a completion of any length. Leave that problem out of the data, or {other_remedy}."
        )
    if max_completion_length > room:
        raise ValueError(
            f"max_completion_length={max_completion_length} and the longest prompt, {longest_prompt} tokens, exceed "
            f"{limit_name} of {limit}. Give --max_completion_length {room} or less, or {other_remedy}."
        )
