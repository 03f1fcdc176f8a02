"""Rewards and callbacks: what would fail only when it is first called, after a rollout."""

import functools
import inspect
import os
import re
from collections.abc import Callable
from typing import Any

from accelerate.logging import get_logger
from torch import nn
from transformers import TrainerCallback
from trl.trainer.utils import get_callable_name

from ..config import DAPOConfig
from ..rewards.registry import reward_names
from .data import columns_of


logger = get_logger(__name__)

ALWAYS_GIVEN = ("prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric")
"""Arguments by which TRL calls every reward function, beside the columns of the data set."""

NOT_GIVEN = ("prompt", "completion")
"""Columns that TRL does not hand on."""


def check_rewards(
    reward_funcs: list, args: DAPOConfig, datasets: dict[str, Any], is_generated_elsewhere: bool
) -> None:
    """
    Refuses what cannot be called as a reward function, from its signature.

    Args:
        reward_funcs (`list`): the user's.
        args (`DAPOConfig`): whether columns are removed.
        datasets (`dict[str, Any]`): all data sets, by the words that name them.
        is_generated_elsewhere (`bool`): a `rollout_func` or an environment may add arguments.

    Raises:
        TypeError: for what is no reward function, or takes other arguments.
        ValueError: for names that TRL would look for on the Hub, and for columns that are missing or in the way.
    """
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
            "name of one. Pass one of them, or a list of them as reward_funcs."
        )
    elif inspect.isasyncgenfunction(_unwrapped(reward)):
        raise TypeError(
            f"{place}, {get_callable_name(reward)}, is an async generator. Return a list of rewards instead."
        )


def _check_name(place: str, name: str) -> None:
    """A string is a reward model for TRL, but a function for the training command."""
    is_dotted = re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", name) is not None
    if (name in reward_names() or is_dotted) and not os.path.exists(name):
        raise ValueError(
            f"{place}={name!r} would be loaded as a reward model of that name. Pass the function itself: "
            f"dapo_trl.rewards.load_reward({name!r})."
        )


def _check_reward_model(place: str, model: nn.Module) -> None:
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
    function = get_callable_name(reward)
    for column in ALWAYS_GIVEN:
        if column in available - {"completion_ids"}:  # this one is not handed on
            raise ValueError(
                f"{name} has a column {column!r}, which is also the name of an argument that every reward function "
                "gets. Rename or remove the column."
            )
    missing = [column for column in getattr(reward, "required_columns", ()) if column not in available]
    if missing:
        raise ValueError(
            f"The reward {function!r} needs the column {missing[0]!r}, but {name} has the columns "
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
    given = dict.fromkeys([*ALWAYS_GIVEN, *columns])
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


def _unwrapped(function: Callable) -> Callable:
    while isinstance(function, functools.partial):
        function = function.func
    return function if inspect.isroutine(function) else type(function).__call__


def check_callbacks(callbacks: Any) -> None:
    """
    Refuses callbacks that lack the methods that are called.

    Raises:
        TypeError: naming the first that is none.
    """
    if callbacks is None:
        return
    if not isinstance(callbacks, list):
        raise TypeError(f"callbacks is a {type(callbacks).__name__}, but it must be a list of callbacks: [...].")
    events = [name for name in dir(TrainerCallback) if name.startswith("on_")]
    for i, callback in enumerate(callbacks):
        missing = [event for event in events if not hasattr(callback, event)]
        if missing:
            raise TypeError(
                f"callbacks[{i}] is {callback!r:.60}, which has no {missing[0]}. Make it a subclass of "
                "transformers.TrainerCallback."
            )
