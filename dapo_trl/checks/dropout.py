"""Dropout off: the policy that is trained is the one that generated, so that a rollout begins with ratios of 1."""

from collections.abc import Iterator
from typing import Any

import torch
from accelerate.logging import get_logger


logger = get_logger(__name__)

WHY = (
    "completions are generated without dropout, so with it the policy that is trained is not the one that generated, "
    "and importance ratios are not 1 at the start of a rollout"
)


def check_dropout(model: torch.nn.Module, is_off: bool) -> None:
    """
    Switches dropout off in the policy and its adapters, or warns of it if `is_off` (`disable_dropout`) is false.

    TRL does so for `torch.nn.Dropout` alone: attention, whole layers and most adapters keep theirs as a number.
    """
    configured = configured_dropout(model)
    listed = ", ".join(f"{name}={value:g}" for name, value in configured.items())
    if is_off:
        disable_dropout(model)
        if configured:
            logger.warning(
                f"Dropout is switched off, against {listed}: {WHY}. Set {' and '.join(configured)} to 0 to do without "
                "this warning, or disable_dropout to false to train with dropout all the same."
            )
    elif any(_probabilities(model)):
        logger.warning(
            f"disable_dropout=False, and the model has dropout{f' ({listed})' if listed else ''}: {WHY}. Set "
            "disable_dropout to true (the default)."
        )


def disable_dropout(model: torch.nn.Module) -> None:
    """Sets every dropout probability of the model's modules to 0."""
    for holder, name in _probabilities(model):
        holder[name] = 0.0


def configured_dropout(model: Any) -> dict[str, float]:
    """Dropout that the configuration of the model or of an adapter asks for: field and probability."""
    configs = [model.config.get_text_config(), *getattr(model, "peft_config", {}).values()]
    return {
        name: value
        for config in configs
        for name, value in vars(config).items()
        # Dropout of a classifier or a summary belongs to heads that a language model does not have.
        if "drop" in name and not name.startswith(("classifier", "summary")) and _is_positive(value)
    }


def _probabilities(model: torch.nn.Module) -> Iterator[tuple[dict, str]]:
    """Where the modules keep dropout probabilities above 0: a dictionary and the key in it."""
    for module in model.modules():
        for name, value in vars(module).items():
            if "drop" not in name and not (name == "p" and "Dropout" in type(module).__name__):
                continue
            if isinstance(value, dict):  # one for each adapter
                yield from ((value, key) for key in value if _is_positive(value[key]))
            elif _is_positive(value):
                yield vars(module), name


def _is_positive(value: object) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool) and value > 0
