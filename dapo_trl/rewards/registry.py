"""Reward functions by name, or by the dotted path of the user's own."""

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from typing import Any


REWARDS = {"accuracy": "dapo_trl.rewards.AccuracyReward", "think_format_reward": "trl.rewards.think_format_reward"}


def load_reward(name: str, **options) -> Callable:
    r"""
    A reward function by name or dotted path.

    Args:
        name (`str`):
            `"accuracy"`, `"think_format_reward"`, or `"package.module.attribute"`, importable from the working
            directory too. A class, or a function whose name starts with `get_` (as TRL calls its factories), is called
            with `options` and its result is the reward function; any other function is the reward function itself.

    Raises:
        ValueError: if there is no such name, module or attribute, or if options are given to a plain function.

    >>> load_reward("accuracy", answer_rule="boxed")
    >>> load_reward("trl.rewards.get_repetition_penalty_reward", ngram_size=4)
    >>> load_reward("my_rewards.mentions_units")
    """
    target = _import(REWARDS.get(name, name))
    if inspect.isclass(target) or getattr(target, "__name__", "").startswith("get_"):
        target = target(**options)
    elif options:
        raise ValueError(
            f"The reward {name!r} is a plain function and takes no options: leave out {', '.join(sorted(options))}."
        )
    if not callable(target):
        raise ValueError(f"The reward {name!r} is a {type(target).__name__}, not a function.")
    return target


def _import(path: str) -> Any:
    module_name, _, attribute = path.rpartition(".")
    if not module_name:
        raise ValueError(
            f"There is no reward {path!r}. Known names: {', '.join(sorted(REWARDS))}; or give the dotted path of your "
            "own function, as in `my_module.my_reward`."
        )
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())  # last: it must not shadow an installed package
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module is there, but something that it imports is not
        raise ValueError(f"The reward {path!r} cannot be loaded: there is no module {error.name!r}.") from error
    if not hasattr(module, attribute):
        public = ", ".join(attr for attr in dir(module) if not attr.startswith("_"))
        raise ValueError(f"The module {module_name!r} has no {attribute!r}; it has: {public}.")
    return getattr(module, attribute)
