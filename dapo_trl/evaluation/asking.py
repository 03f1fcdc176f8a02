"""How the problems are asked: as in the model's training, unless the user says otherwise."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..data.prompt_form import PromptForm, template_of, with_template
from ..data.templates import resolve_template
from ..run.checkpoint import CHAT_TEMPLATE_KWARGS, PROMPT_FORM
from ..run.settings_file import read_settings
from .config import EvaluateConfig


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Asking:
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


def find_asking(config: EvaluateConfig, metadata: dict[str, Any] | None, has_chat_template: bool) -> Asking:
    """
    What is given, else what the training had, else the default. A given value that differs is warned of.

    Args:
        config ([`EvaluateConfig`]): the settings.
        metadata (`dict`, *optional*): what the trainer wrote beside the model; see [`~dapo_trl.run.checkpoint`].
        has_chat_template (`bool`): whether the model can be asked by messages.

    Raises:
        ValueError: if the model was trained on messages, and there is no chat template.
    """
    trained = _trained_asking(config.like or config.model, metadata, has_chat_template)
    form, template, origin = trained.get(PROMPT_FORM), config.prompt_template, "like" if config.like else "model"
    if form is None:
        origin = "given" if template else "default"
        if metadata is not None and template is None:
            logger.warning(
                "How %r was asked in its training is not known: its data did not tell problems from the words around "
                "them, or an older version trained it. Bare problems get the `dapo` template. Give --prompt_template "
                "if it was another one.",
                config.like or config.model,
            )
    elif isinstance(form, list) and not has_chat_template:
        raise ValueError(
            f"{config.like or config.model!r} was trained on messages, but the tokenizer has no chat template. Give "
            "the one of the training with --tokenizer."
        )
    elif template is not None:
        origin = "given"
        if resolve_template(template) != template_of(form):
            _warn("prompt_template", template, template_of(form))
        form, template = with_template(form, template), None
    kwargs = config.chat_template_kwargs
    trained_kwargs = trained.get(CHAT_TEMPLATE_KWARGS)
    if kwargs is None:
        kwargs = trained_kwargs
    elif trained_kwargs is not None and kwargs != trained_kwargs:
        _warn("chat_template_kwargs", kwargs, trained_kwargs)
    asking = Asking(form, template, kwargs or None, origin)
    logger.info("Prompts: %s.", _describe(asking))
    return asking


def _trained_asking(model: str, metadata: dict[str, Any] | None, has_chat_template: bool) -> dict[str, Any]:
    """From beside the weights; of a run of an older version, from the settings in its directory."""
    if metadata is not None and PROMPT_FORM in metadata:
        return metadata
    directory = Path(model)
    is_checkpoint = directory.name.startswith(PREFIX_CHECKPOINT_DIR)
    settings = read_settings(directory.parent if is_checkpoint else directory)
    if metadata is None or settings is None:
        return {}
    values, _ = settings
    kwargs, template = values.get("chat_template_kwargs"), values.get("prompt_template")
    found = {CHAT_TEMPLATE_KWARGS: json.loads(kwargs) if isinstance(kwargs, str) else kwargs}
    if template is not None:
        text = resolve_template(template)
        found[PROMPT_FORM] = [{"role": "user", "content": text}] if has_chat_template else text
    return found


def _warn(name: str, given: Any, trained: Any) -> None:
    logger.warning(
        "%s=%r is not what the model was trained with, %r: the result is also one of how well it takes to other "
        "prompts. Leave --%s out to ask as in the training.",
        name,
        given,
        trained,
        name,
    )


def _describe(asking: Asking) -> str:
    kwargs = f", chat_template_kwargs {asking.chat_template_kwargs}" if asking.chat_template_kwargs else ""
    ways = {
        "given": f"with template {asking.prompt_template or asking.form and template_of(asking.form)!r}, as given",
        "model": f"{asking.form!r}, with which the model was trained",
        "like": f"{asking.form!r}, as in the training of the model to be like",
        "default": "as the data has them; bare problems get the `dapo` template",
    }
    return ways[asking.origin] + kwargs
