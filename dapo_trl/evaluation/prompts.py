"""How the problems are asked: the form of the prompts, as in the model's training, and their tokens."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from ..data.prompt_form import PromptForm, template_of, with_template
from ..data.prompts import Messages
from ..data.templates import resolve_template
from ..run.checkpoint import CHAT_TEMPLATE_KWARGS, PROMPT_FORM
from .config import EvaluateConfig


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PromptSettings:
    """
    How the problems are asked.

    Attributes:
        form (`str` or `list[dict]`, *optional*): the prompt with `{problem}` in it; None: as the data has its prompts,
            with `prompt_template` or else the `dapo` template around bare problems.
        prompt_template (`str`, *optional*): as given, where the model's form is unknown.
        chat_template_kwargs (`dict`, *optional*): arguments of the chat template.
        origin (`str`): where the form is from: `given`, `model`, `like` (the training of another one) or `default`.
    """

    form: PromptForm | None
    prompt_template: str | None
    chat_template_kwargs: dict[str, Any] | None
    origin: str


def find_prompt_settings(
    config: EvaluateConfig, metadata: dict[str, Any] | None, has_chat_template: bool
) -> PromptSettings:
    """
    What is given, else what the training had, else the default. A given value that differs is warned of.

    Args:
        config ([`EvaluateConfig`]): the settings.
        metadata (`dict`, *optional*): what the trainer wrote beside the model; see [`~dapo_trl.run.checkpoint`].
        has_chat_template (`bool`): whether the model can be asked by messages.

    Raises:
        ValueError: if the model was trained on messages, and there is no chat template.
    """
    model, trained = config.like or config.model, metadata or {}
    form, template, origin = trained.get(PROMPT_FORM), config.prompt_template, "like" if config.like else "model"
    if isinstance(form, list) and not has_chat_template:
        raise ValueError(
            f"{model!r} was trained on messages, but the tokenizer has no chat template. Give the one of the training "
            "with --tokenizer."
        )
    if template is not None:
        origin = "given"
        if form is not None:
            _warn_if_other("prompt_template", template, resolve_template(template), template_of(form))
            form, template = with_template(form, template), None
    elif form is None:
        origin = "default"
        if metadata is not None:
            logger.warning(
                "How %r was asked in its training is not known: its data did not tell problems from the words around "
                "them. Bare problems get the `dapo` template. Give --prompt_template if it was another one.",
                model,
            )
    kwargs, trained_kwargs = config.chat_template_kwargs, trained.get(CHAT_TEMPLATE_KWARGS)
    if kwargs is None:
        kwargs = trained_kwargs
    elif trained_kwargs is not None:
        _warn_if_other("chat_template_kwargs", kwargs, kwargs, trained_kwargs)
    logger.info(
        "Prompts (%s): %s%s.",
        origin,
        repr(form or template) if form or template else "as the data has them; bare problems get the `dapo` template",
        f", chat_template_kwargs {kwargs}" if kwargs else "",
    )
    return PromptSettings(form, template, kwargs or None, origin)


def _warn_if_other(name: str, given: Any, value: Any, trained: Any) -> None:
    if value != trained:
        logger.warning(
            "%s=%r is not what the model was trained with, %r: the result is also one of how well it takes to other "
            "prompts. Leave --%s out to ask as in the training.",
            *(name, given, trained, name),
        )


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


def check_length(longest_prompt: int, max_completion_length: int, limit: int, limit_name: str, remedy: str) -> None:
    """
    Do prompt and completion fit?

    Args:
        longest_prompt, max_completion_length (`int`): tokens of the longest prompt and completion.
        limit (`int`): tokens that there may be.
        limit_name (`str`): what the limit is called, such as `"the model's context"`.
        remedy (`str`): how the limit is raised, such as `"take a model with a longer context"`.

    Raises:
        ValueError: if they do not, or if the prompt alone leaves no room for a completion.
    """
    room = limit - longest_prompt
    if room < 1:
        raise ValueError(
            f"The longest prompt alone has {longest_prompt} tokens and does not fit into {limit_name} of {limit} with "
            f"a completion of any length. Leave that problem out of the data, or {remedy}."
        )
    if max_completion_length > room:
        raise ValueError(
            f"max_completion_length={max_completion_length} and the longest prompt, {longest_prompt} tokens, exceed "
            f"{limit_name} of {limit}. Give --max_completion_length {room} or less, or {remedy}."
        )
