"""Rewards: what would fail only when one is first called, after a rollout, or train on another one than meant."""

import difflib
import functools
import inspect
import os
import re
from collections.abc import Callable
from numbers import Real
from typing import Any

from accelerate.logging import get_logger
from torch import nn
from trl.trainer.utils import get_callable_name

from ..config import DAPOConfig
from .data import columns_of
from .returned_rewards import LARGEST


logger = get_logger(__name__)

ALWAYS_GIVEN = ("prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric")
"""Arguments by which TRL calls every reward function, beside the columns of the data set."""

NOT_GIVEN = ("prompt", "completion")
"""Columns that TRL does not hand on."""

METRIC_FAMILIES = ("completions/", "clip_ratio/", "sampling/", "verifier/")
"""What the names of TRL's and this project's further metrics begin with."""


# What can be called


def check_rewards(
    reward_funcs: list, args: DAPOConfig, datasets: dict[str, Any], is_generated_elsewhere: bool
) -> None:
    """Refuses what cannot be called as a reward function, from its signature."""
    for i, reward in enumerate(reward_funcs):
        _check_kind(f"reward_funcs[{i}]", reward)
    functions = [reward for reward in reward_funcs if callable(reward) and not isinstance(reward, nn.Module)]
    columns = {name: columns_of(dataset) for name, dataset in datasets.items()} if functions else {}
    if args.remove_unused_columns:
        columns = {name: available & {"prompt", "image", "images"} for name, available in columns.items()}
    everywhere = set().union(*columns.values())
    for reward in functions:
        for name, available in columns.items():
            _check_columns(reward, name, available)
            _check_signature(reward, name, available, everywhere if is_generated_elsewhere else None)


def _check_kind(place: str, reward: Any) -> None:
    if isinstance(reward, str):
        _check_name(place, reward)
    elif isinstance(reward, nn.Module):
        _check_reward_model(place, reward)
    elif inspect.isclass(reward):
        raise TypeError(f"{place} is the class {reward.__name__}. Pass an instance of it: {reward.__name__}(...).")
    elif not callable(reward):
        raise TypeError(
            f"{place} is {reward!r:.60} ({type(reward).__name__}), but a reward is a function, a reward model, or the "
            "name of one. Pass one of them, or a list."
        )
    elif inspect.isasyncgenfunction(_unwrapped(reward)):
        raise TypeError(
            f"{place}, {get_callable_name(reward)}, is an async generator. Return a list of rewards instead."
        )


def _unwrapped(function: Callable) -> Callable:
    while isinstance(function, functools.partial):
        function = function.func
    return function if inspect.isroutine(function) else type(function).__call__


def _check_name(place: str, name: str) -> None:
    """A string is a reward model for TRL, but a function for the training command."""
    from ..rewards.registry import REWARDS  # a trainer does not need our rewards

    is_dotted = re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", name) is not None
    if (name in REWARDS or is_dotted) and not os.path.exists(name):
        raise ValueError(
            f"{place}={name!r} would be loaded as a reward model of that name. Pass the function itself: "
            f"dapo_trl.rewards.load_reward({name!r})."
        )


def _check_reward_model(place: str, model: Any) -> None:
    config = getattr(model, "config", None)
    if config is None:
        raise TypeError(
            f"{place} is a {type(model).__name__}, a module that is no model of Transformers. Pass a sequence "
            "classification model, or a function that calls the module."
        )
    if getattr(model, "can_generate", bool)():
        raise TypeError(
            f"{place} is a {type(model).__name__}, but a reward model gives one number to a text. Load it with "
            "AutoModelForSequenceClassification.from_pretrained(..., num_labels=1)."
        )
    if getattr(config, "num_labels", 1) != 1:
        logger.warning(
            f"{place} is a {type(model).__name__} with num_labels={config.num_labels}: the reward is the logit of its "
            "first label alone. Load it with num_labels=1, or pass a function that makes a reward of its logits."
        )


def _check_columns(reward: Callable, name: str, available: set[str]) -> None:
    for column in ALWAYS_GIVEN:
        if column in available - {"completion_ids"}:  # this one is not handed on
            raise ValueError(
                f"{name} has a column {column!r}, which is also the name of an argument that every reward function "
                "gets. Rename or remove the column."
            )
    missing = [column for column in getattr(reward, "required_columns", ()) if column not in available]
    if missing:
        raise ValueError(
            f"The reward {get_callable_name(reward)!r} needs the column {missing[0]!r}, but {name} has the columns "
            f"{sorted(available)}. Rename the one that holds it (dataset.rename_column), or read the data with "
            "dapo_trl.data.load_prompts, which finds it."
        )


def _check_signature(reward: Callable, name: str, available: set[str], elsewhere: set[str] | None) -> None:
    """`elsewhere`: None, or the columns of all data sets, if what is in none of them may come with the completions."""
    try:
        # What is called: a decorator may take arguments that the function inside of it does not, and the reverse.
        signature = inspect.signature(reward, follow_wrapped=False)
    except (TypeError, ValueError):
        return  # of a function in C, which tells nothing
    columns = sorted(available - {*NOT_GIVEN, *ALWAYS_GIVEN})
    given: dict[str, Any] = dict.fromkeys([*ALWAYS_GIVEN, *columns])
    if elsewhere is not None:
        required = {name for name, parameter in signature.parameters.items() if _is_required(parameter)}
        given |= dict.fromkeys(required - elsewhere)
    try:
        signature.bind(**given)
    except TypeError as error:
        raise TypeError(
            f"The reward function {get_callable_name(reward)}{signature} cannot be called: {error}. It is called with "
            f"the keyword arguments {list(ALWAYS_GIVEN)} and the other columns of {name}, {columns}. Add **kwargs to "
            "its arguments for those it does not use, and name the others as the columns are named."
        ) from None


def _is_required(parameter: inspect.Parameter) -> bool:
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return parameter.kind in by_name and parameter.default is inspect.Parameter.empty


# Which reward counts, and for how much


def check_reward_weights(args: DAPOConfig, num_rewards: int) -> None:
    """One weight for each of the user's reward functions; the overlong punishment has a weight of its own."""
    given, overlong_weight = args.reward_weights, args.overlong_weight
    if not isinstance(given, list | tuple | None):
        raise ValueError(f"reward_weights={given!r} is not a list. Give one weight per function in reward_funcs.")
    weights = [*(given or []), overlong_weight]
    if not all(isinstance(weight, Real) and abs(weight) <= LARGEST for weight in weights):
        raise ValueError(
            f"reward_weights={given} and overlong_weight={overlong_weight} must be finite numbers of at most "
            f"{LARGEST:g} in size. Set them to the shares that the rewards are to have, such as 1.0."
        )
    if given and not any(given) and (args.soft_punish_cache is None or not overlong_weight):
        raise ValueError(
            f"reward_weights={given} are all zero: nothing would be trained. Give a reward a weight above 0."
        )
    if given is not None and len(given) != num_rewards:
        raise ValueError(
            f"reward_weights={given} has {len(given)} weights for {num_rewards} reward functions. Give one weight per "
            "function in reward_funcs; the soft overlong punishment is weighed by overlong_weight."
        )


def add_overlong_punishment(args: DAPOConfig, reward_funcs: list, processing_classes: list | None) -> None:
    """Adds the soft overlong punishment (DAPO Eq. 13) to the task rewards, their weights and processing classes."""
    from ..rewards import SoftOverlongPunishment

    assert args.max_completion_length is not None and args.soft_punish_cache is not None  # checked by DAPOConfig
    args.reward_weights = [*(args.reward_weights or [1.0] * len(reward_funcs)), args.overlong_weight]
    reward_funcs.append(SoftOverlongPunishment(args.max_completion_length, args.soft_punish_cache))
    if processing_classes is not None:
        processing_classes.append(None)


def as_list(value: Any) -> list:
    """A copy of the list, or a list of the one value."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def filter_columns(args: DAPOConfig, all_names: list[str], num_task_rewards: int) -> list[int]:
    """
    Indices of the filter rewards: they say whether a completion is right, and so which groups are informative.

    `dynamic_sampling_metric` names them among the first `num_task_rewards` of `all_names`, which are the user's.
    """
    metric, names, best = args.dynamic_sampling_metric, all_names[:num_task_rewards], args.metric_for_best_model
    is_unique = len(set(all_names)) == len(all_names)
    if not args.dynamic_sampling and metric is None and (len(names) != 1 or not is_unique):
        if args.load_best_model_at_end and "avg@" in (best or ""):
            raise ValueError(
                f"metric_for_best_model={best!r} needs to know which reward says that a completion is right, but "
                f"there are {len(names)} reward functions: {names}. Set dynamic_sampling_metric to one of them, or "
                "metric_for_best_model to 'eval_reward'."
            )
        return []
    if not is_unique:
        raise ValueError(
            f"The reward functions have the names {all_names}, one of them more than once. Give every function a name "
            "of its own."
        )
    if metric is None and len(names) == 1:
        return [0]
    if metric is None:
        raise ValueError(
            f"dynamic_sampling_metric is not set, but there are {len(names)} reward functions: {names}. Set it to the "
            "one that says whether a completion is right; if each scores a task of its own and returns None for the "
            "others, list them all."
        )
    chosen = as_list(metric)
    if not chosen or any(name not in names for name in chosen):
        raise ValueError(
            f"dynamic_sampling_metric={metric!r} must be the name of a reward function, or a list of such names, but "
            f"there are {names}. Set it to one of them, or to those that score tasks of their own."
        )
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"dynamic_sampling_metric={metric!r} holds a name twice. Give each name once.")
    return [names.index(name) for name in chosen]


# Which metric chooses the best model


def check_best_metric(
    args: DAPOConfig, eval_dataset: Any, reward_funcs: list, reward_names: list[str], has_accuracy: bool
) -> None:
    """
    Refuses a `metric_for_best_model` that no evaluation will report: it would end the run after the first one.

    With named evaluation sets there is no common metric: one set decides which model is best. `has_accuracy` says
    whether avg@k is reported.
    """
    metric = args.metric_for_best_model
    if metric is None or args.eval_strategy == "no":
        return
    name = f"eval_{metric.removeprefix('eval_')}"
    prefixes = [f"eval_{key}_" for key in eval_dataset] if isinstance(eval_dataset, dict) else ["eval_"]
    known = [
        *([f"avg@{args.num_generations_eval}"] if has_accuracy else []),
        *("reward", "reward_std"),
        *(f"rewards/{reward}/{statistic}" for reward in reward_names for statistic in ("mean", "std")),
        *("frac_reward_zero_std", "loss", "entropy", *(["kl"] if args.beta else []), "num_unscorable"),
    ]
    tails = [name.removeprefix(prefix) for prefix in prefixes if name.startswith(prefix)]
    is_free = any(map(_logs_metrics, reward_funcs))
    if any(is_free or tail in known or tail.startswith(METRIC_FAMILIES) for tail in tails):
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


def _logs_metrics(reward: Callable) -> bool:
    """Whether a function of the user's may log metrics by any name."""
    from ..rewards import AccuracyReward

    try:
        return not isinstance(reward, AccuracyReward) and "log_metric" in inspect.signature(reward).parameters
    except (TypeError, ValueError):
        return False
