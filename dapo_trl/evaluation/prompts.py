"""How the problems are asked: as in the model's training, unless the settings say otherwise."""

import logging
from dataclasses import dataclass
from typing import Any

from ..data.prompt_form import PromptForm, template_of, with_template
from ..data.templates import resolve_template
from ..run.checkpoint import CHAT_TEMPLATE_KWARGS, PROMPT_FORM
from .config import EvaluateConfig


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PromptSettings:
    """How the problems are asked."""

    form: PromptForm | None
    prompt_template: str | None
    chat_template_kwargs: dict[str, Any] | None
    origin: str  # `given`, `model`, `like` (the training of another model) or `default`


def find_prompt_settings(
    config: EvaluateConfig, metadata: dict[str, Any] | None, has_chat_template: bool
) -> PromptSettings:
    """What is given, else what the training had by the `metadata` beside the model, else the default."""
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
    assert not isinstance(kwargs, str)  # read with the settings
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
