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
