"""Values of single fields: what is no number, out of range or unknown would fail or train wrongly, after a rollout."""

import math
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from ..config import DAPOConfig


@dataclass(frozen=True)
class Range:
    """
    What a field may be.

    Args:
        least, most (`float`): the bounds.
        whole (`bool`): a whole number.
        optional (`bool`): or None.
        above (`bool`): greater than `least`.
    """

    least: float = -math.inf
    most: float = math.inf
    whole: bool = False
    optional: bool = False
    above: bool = False

    def problem(self, value: Any) -> str | None:
        """What is wrong with a value, and what to set instead; None if nothing is."""
        if value is None and self.optional:
            return None
        kind = "a whole number" if self.whole else "a number"
        null = ", or to null" if self.optional else ""
        if isinstance(value, bool) or not isinstance(value, Integral if self.whole else Real) or math.isnan(value):
            return f"is not {kind}. Set {{name}} to one{null}."
        if self.above and value <= self.least:
            return f"is not above {self.least}. Set {{name}} to more than {self.least}{null}."
        if value < self.least:
            return f"is below {self.least}. Set {{name}} to {self.least} or more{null}."
        if value > self.most:
            return f"is above {self.most}. Set {{name}} to {self.most} or less{null}."
        return None


RANGES = {
    "epsilon": Range(0),
    "epsilon_high": Range(0, optional=True),
    "num_generations": Range(2, whole=True),
    "updates_per_rollout": Range(1, whole=True),
    "warmup_rollouts": Range(0, whole=True),
    "max_rounds": Range(1, whole=True),
    "max_oversampling": Range(1),
    "gradient_accumulation_steps": Range(1, whole=True),
    "per_device_train_batch_size": Range(1, whole=True),
    "per_device_eval_batch_size": Range(1, whole=True),
    "soft_punish_cache": Range(whole=True, optional=True),
    "vllm_request_timeout": Range(1),
    "vllm_max_retries": Range(0, whole=True),
    "eval_rollouts": Range(1, whole=True, optional=True),
    "num_generations_eval": Range(1, whole=True, optional=True),
    "num_iterations": Range(1, whole=True),
    "max_completion_length": Range(1, whole=True, optional=True),
    "max_steps": Range(-1, whole=True),
    "num_train_epochs": Range(0),
    "seed": Range(0, whole=True),
    "temperature": Range(),
    "top_p": Range(0, 1, above=True),
    "min_p": Range(0, 1, optional=True),
    "repetition_penalty": Range(0, above=True),
    "beta": Range(0),
    "max_grad_norm": Range(0),
    "top_entropy_quantile": Range(0, 1),
    "ref_model_sync_steps": Range(1, whole=True),
    "ref_model_mixup_alpha": Range(0, 1),
}
"""Fields of numbers. What Trainer reads from texts, such as `learning_rate`, and checks itself is left to it."""

CHOICES: dict[str, tuple[Any, ...]] = {
    "on_shortage": ("train_partial", "raise"),
    "token_normalization": ("step", "group"),
    "on_alarm": ("warn", "stop"),
    "loss_type": ("grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo"),
    "scale_rewards": ("group", "batch", "none", True, False),
    "multi_objective_aggregation": ("sum_then_normalize", "normalize_then_sum"),
    "importance_sampling_level": ("token", "sequence"),
    "vllm_importance_sampling_mode": ("token_truncate", "token_mask", "sequence_truncate", "sequence_mask"),
}
"""Fields with a few values. TRL finds an unknown one when it first computes with it, after a rollout."""


def check_values(config: "DAPOConfig") -> None:
    """
    Checks every field on its own.

    Args:
        config (`DAPOConfig`): the configuration, at the beginning of its `__post_init__`.

    Raises:
        ValueError: with field, value, and what to set instead.
    """
    for name, allowed in RANGES.items():
        value = getattr(config, name)
        problem = allowed.problem(value)
        if problem:
            raise ValueError(f"{name}={value!r} {problem.format(name=name)}")
    for name, choices in CHOICES.items():
        if getattr(config, name) not in choices:
            raise ValueError(f"{name}={getattr(config, name)!r} is unknown. Set {name} to one of {list(choices)}.")
    for name in ("generation_kwargs", "chat_template_kwargs"):
        value = getattr(config, name)
        is_json = isinstance(value, str) and value.startswith("{")  # as on the command line
        if value is not None and not isinstance(value, dict) and not is_json:
            raise ValueError(f"{name}={value!r} is not a dictionary. Set {name} to one, or to null.")
    for field in fields(config):
        value = getattr(config, field.name)
        # By the default: a parser of the command line writes into the types.
        if isinstance(field.default, bool) and isinstance(value, str):
            raise ValueError(
                f"{field.name}={value!r} is a text, and every text but an empty one counts as true. Set {field.name} "
                "to True or False."
            )
