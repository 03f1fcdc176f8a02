"""What a trainer is given beside model, data and rewards."""

import copy
from typing import Any

from datasets import IterableDataset
from transformers import PreTrainedModel, TrainerCallback
from trl.trainer.utils import get_config_model_id

from ..config import DAPOConfig


def own_args(args: DAPOConfig | None, model: str | PreTrainedModel) -> DAPOConfig:
    """
    A copy of the arguments, or default ones, whose output directory is named after the model.

    Raises:
        TypeError: if they are of another class.
    """
    if args is None:
        model_name = model if isinstance(model, str) else get_config_model_id(model.config)
        return DAPOConfig(f"{model_name.split('/')[-1]}-DAPO")
    if not isinstance(args, DAPOConfig):
        raise TypeError(f"args is a {type(args).__name__}, but DAPOTrainer needs a DAPOConfig. Build one instead.")
    return copy.copy(args)


def as_list(value: Any) -> list:
    """A copy of the list, or a list of the one value."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def check_supported(args: DAPOConfig, train_dataset: Any, tools: list | None, environment_factory: Any) -> None:
    """
    Refuses what dynamic sampling and balanced micro-batches cannot be combined with.

    Raises:
        ValueError: for tools, environments, images or an iterable data set.
    """
    if not args.owns_batches:
        return
    columns = getattr(train_dataset, "column_names", None) or []
    unsupported = {
        "tools": bool(tools),
        "environment_factory": environment_factory is not None,
        "a train_dataset with images": "image" in columns or "images" in columns,
        "an iterable train_dataset": isinstance(train_dataset, IterableDataset),
    }
    for name, is_given in unsupported.items():
        if is_given:
            raise ValueError(
                f"{name} cannot be combined with dynamic_sampling={args.dynamic_sampling} or "
                f"balance_micro_batches={args.balance_micro_batches}. Set both to false to train as GRPOTrainer does"
                + (", or load the data set without streaming." if "iterable" in name else ".")
            )


def check_callbacks(callbacks: Any) -> None:
    """
    Refuses callbacks that lack the methods that are called.

    Raises:
        TypeError: naming the first that is not one.
    """
    if not isinstance(callbacks, list | None):
        raise TypeError(f"callbacks is a {type(callbacks).__name__}, but it must be a list of callbacks: [...].")
    events = [name for name in dir(TrainerCallback) if name.startswith("on_")]
    for i, callback in enumerate(callbacks or []):
        missing = [event for event in events if not hasattr(callback, event)]
        if missing:
            raise TypeError(
                f"callbacks[{i}] is {callback!r:.60}, which has no {missing[0]}. Make it a subclass of "
                "transformers.TrainerCallback."
            )
