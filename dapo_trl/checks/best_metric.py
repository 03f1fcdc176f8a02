"""What `metric_for_best_model` may name: a metric that is missing would end the run after the first evaluation."""

import difflib
import inspect
from collections.abc import Callable
from typing import Any

from accelerate.logging import get_logger

from ..config import DAPOConfig
from ..rewards import AccuracyReward


logger = get_logger(__name__)

FAMILIES = ("completions/", "clip_ratio/", "sampling/", "verifier/")
"""What the names of TRL's and this project's further metrics begin with."""


def check_best_metric(
    args: DAPOConfig, eval_dataset: Any, reward_funcs: list, reward_names: list[str], has_accuracy: bool
) -> None:
    """
    Refuses a metric that no evaluation will report.

    With named evaluation sets there is no common metric: one set decides which model is best.

    Args:
        args (`DAPOConfig`): `metric_for_best_model` names it.
        eval_dataset: as given to the trainer.
        reward_funcs (`list`): all rewards.
        reward_names (`list[str]`): their names.
        has_accuracy (`bool`): whether avg@k is reported.

    Raises:
        ValueError: with the names there are.
    """
    metric = args.metric_for_best_model
    if metric is None or args.eval_strategy == "no":
        return
    name = metric if metric.startswith("eval_") else f"eval_{metric}"
    prefixes = [f"eval_{key}_" for key in eval_dataset] if isinstance(eval_dataset, dict) else ["eval_"]
    known = _known_metrics(args, reward_names, has_accuracy)
    tails = [name.removeprefix(prefix) for prefix in prefixes if name.startswith(prefix)]
    if any(_is_reported(tail, known, reward_funcs) for tail in tails):
        if args.greater_is_better is False and ("avg@" in name or name.endswith("_reward")):
            logger.warning(
                f"greater_is_better=False with metric_for_best_model={metric!r}: the worst model counts as the best. "
                "Leave out greater_is_better."
            )
        return
    sets = f" of the {len(prefixes)} named sets, each with metrics of its own" if prefixes != ["eval_"] else ""
    own = [prefix + name.removeprefix("eval_") for prefix in prefixes if name.removeprefix("eval_") in known]
    every = [prefix + tail for prefix in prefixes for tail in known]
    likely = own or difflib.get_close_matches(name, every, n=1)
    advice = f"Did you mean {' or '.join(map(repr, likely))}? " if likely else ""
    raise ValueError(
        f"metric_for_best_model={metric!r} is no metric of the evaluation{sets}. {advice}Set it to one of {every}, or "
        "to another metric of the log (a reward function that logs it must have log_metric among its arguments)."
    )


def _known_metrics(args: DAPOConfig, reward_names: list[str], has_accuracy: bool) -> list[str]:
    average = [f"avg@{args.num_generations_eval}"] if has_accuracy else []
    rewards = [f"rewards/{name}/{statistic}" for name in reward_names for statistic in ("mean", "std")]
    own = ["reward", "reward_std", *rewards, "frac_reward_zero_std", "loss", "entropy", *(["kl"] if args.beta else [])]
    return [*average, *own, "num_unscorable"]


def _is_reported(tail: str, known: list[str], reward_funcs: list) -> bool:
    return tail in known or tail.startswith(FAMILIES) or any(map(_logs_metrics, reward_funcs))


def _logs_metrics(reward: Callable) -> bool:
    """Whether a function of the user's may log metrics by any name."""
    if isinstance(reward, AccuracyReward):
        return False
    try:
        return "log_metric" in inspect.signature(reward).parameters
    except (TypeError, ValueError):
        return False
