"""What a trainer is given, checked before anything expensive happens."""

import copy
from collections.abc import Sized
from numbers import Real
from typing import Any

import torch
from accelerate.logging import get_logger
from accelerate.utils import is_peft_model
from datasets import IterableDataset
from transformers import PreTrainedModel
from trl.trainer.utils import get_config_model_id

from ..config import DAPOConfig
from ..rewards.overlong import SoftOverlongPunishment
from .returned_rewards import LARGEST


logger = get_logger(__name__)

LEAST_ADAPTER_RATE = 5e-6
"""Learning rate below which adapters hardly learn: they need about ten times that of all weights."""

LARGEST_FULL_RATE = 2e-5
"""Learning rate above which training all weights of a language model with a reward usually destroys it."""

LARGE_MODEL = 10**8
"""Parameters from which the usual rates hold."""

USUAL_WEIGHT = 0.02
"""Size of a weight in a layer some thousand wide."""


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


def check_dataset_size(args: DAPOConfig, train_dataset: Any) -> None:
    """
    A rollout needs its prompts to be different ones.

    Raises:
        ValueError: if the data set is smaller than one rollout.
    """
    if isinstance(train_dataset, Sized) and len(train_dataset) < args.prompts_per_rollout:
        raise ValueError(
            f"train_dataset has {len(train_dataset)} prompts, but one rollout needs {args.prompts_per_rollout} "
            f"different ones (generation_batch_size={args.generation_batch_size} completions / num_generations="
            f"{args.num_generations}). Use more prompts, or lower updates_per_rollout, per_device_train_batch_size or "
            "gradient_accumulation_steps."
        )


def check_reward_weights(args: DAPOConfig, num_rewards: int) -> None:
    """
    One weight for each of the user's reward functions; the overlong punishment has a weight of its own.

    Raises:
        ValueError: if the numbers differ, or a weight is no number to multiply with, or all are zero.
    """
    if not isinstance(args.reward_weights, list | tuple | None):
        raise ValueError(
            f"reward_weights={args.reward_weights!r} is not a list. Give one weight per function in reward_funcs."
        )
    weights = [*(args.reward_weights or []), args.overlong_weight]
    if not all(isinstance(weight, Real) and abs(weight) <= LARGEST for weight in weights):
        raise ValueError(
            f"reward_weights={args.reward_weights} and overlong_weight={args.overlong_weight} must be finite numbers "
            f"of at most {LARGEST:g} in size: rewards are multiplied with them. Set them to the shares that the "
            "rewards are to have, such as 1.0."
        )
    used = weights if args.soft_punish_cache is not None else weights[:-1]
    if args.reward_weights and not any(used):
        raise ValueError(
            f"reward_weights={args.reward_weights} are all zero: every reward would be zero, and nothing would be "
            "trained. Give the reward that is to be trained on a weight above 0."
        )
    if args.reward_weights is not None and len(args.reward_weights) != num_rewards:
        raise ValueError(
            f"reward_weights={args.reward_weights} has {len(args.reward_weights)} weights for {num_rewards} reward "
            "functions. Give one weight per function in reward_funcs; the soft overlong punishment is weighed by "
            "overlong_weight."
        )


def add_overlong_punishment(args: DAPOConfig, reward_funcs: list, processing_classes: list | None) -> None:
    """
    Adds the soft overlong punishment (DAPO Eq. 13) to the task rewards, with its weight.

    Args:
        args (`DAPOConfig`): `reward_weights` is extended.
        reward_funcs (`list`): extended.
        processing_classes (`list`, *optional*): those of reward models; extended.
    """
    args.reward_weights = [*(args.reward_weights or [1.0] * len(reward_funcs)), args.overlong_weight]
    reward_funcs.append(SoftOverlongPunishment(args.max_completion_length, args.soft_punish_cache))
    if processing_classes is not None:
        processing_classes.append(None)


def deciding_rewards(args: DAPOConfig, all_names: list[str], num_task_rewards: int) -> list[int]:
    """
    Indices of the reward functions that say whether a completion is right, and so which groups are informative.

    Args:
        args (`DAPOConfig`): `dynamic_sampling_metric` names them, or is None.
        all_names (`list[str]`): names of all reward functions, the user's first.
        num_task_rewards (`int`): how many are the user's.

    Returns:
        `list[int]`: empty without dynamic sampling if nothing tells: accuracy is not reported then.

    Raises:
        ValueError: if names are missing with several functions, unknown, given twice, or not unique.
    """
    metric, names = args.dynamic_sampling_metric, all_names[:num_task_rewards]
    if not args.dynamic_sampling and metric is None and (len(names) != 1 or len(set(all_names)) < len(all_names)):
        if args.load_best_model_at_end and "avg@" in args.metric_for_best_model:
            raise ValueError(
                f"metric_for_best_model={args.metric_for_best_model!r} needs to know which reward says that a "
                f"completion is right, but there are {len(names)} reward functions: {names}. Set "
                "dynamic_sampling_metric to one of them, or metric_for_best_model to 'eval_reward'."
            )
        return []
    if len(set(all_names)) < len(all_names):
        raise ValueError(
            f"The reward functions have the names {all_names}, one of them more than once: their metrics could not be "
            "told apart. Give every function a name of its own."
        )
    if metric is None and len(names) == 1:
        return [0]
    if metric is None:
        raise ValueError(
            f"dynamic_sampling_metric is not set, but there are {len(names)} reward functions: {names}. Set it to the "
            "one that says whether a completion is right: groups are filtered on correctness, not on a sum of "
            "rewards. If each scores the completions of its own task and returns None for the others, list them all."
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


def warn_if_updates_vanish(model: torch.nn.Module, learning_rate: float) -> None:
    """
    Warns if most updates are lost in rounding: AdamW moves a weight by about the learning rate, and a number stays as
    it is if it is to change by less than half its precision.

    Adapters are passed over: the half of them that begins at zero moves by any step.

    Args:
        model (`torch.nn.Module`): a model whose optimizer has no float32 weights of its own.
        learning_rate (`float`): the highest of the schedule.
    """
    trained = {parameter.dtype for parameter in model.parameters() if parameter.requires_grad}
    if is_peft_model(model) or not trained & {torch.bfloat16, torch.float16}:
        return
    dtype = max(trained, key=lambda dtype: torch.finfo(dtype).eps)
    least = USUAL_WEIGHT * torch.finfo(dtype).eps / 2
    if learning_rate < least:
        name = str(dtype).removeprefix("torch.")
        logger.warning(
            f"The weights are trained in {name} without a float32 copy, and learning_rate={learning_rate:g} is so "
            f"small that most updates are lost in rounding: a weight of {USUAL_WEIGHT} does not change by less than "
            f"{least:.0e}. Load the model with dtype 'float32' (with bf16=true it computes in bfloat16 all the same), "
            "start with DeepSpeed, which keeps float32 weights, or train adapters (use_peft)."
        )


def warn_of_rate(model: torch.nn.Module, args: DAPOConfig) -> None:
    """
    Warns of a learning rate for all weights where adapters are trained, and the other way round.

    Args:
        model (`torch.nn.Module`): the model that is trained.
        args (`DAPOConfig`): `learning_rate`, and `optim`: the usual rates are those of Adam.
    """
    if "adam" not in str(getattr(args.optim, "value", args.optim)):
        return
    num_parameters = sum(getattr(parameter, "ds_numel", parameter.numel()) for parameter in model.parameters())
    rate = args.learning_rate
    if is_peft_model(model) and 0 < rate < LEAST_ADAPTER_RATE:
        logger.warning(
            f"learning_rate={rate:g} suits the training of all weights; adapters (use_peft) hardly move with less "
            f"than {LEAST_ADAPTER_RATE:g}. Set learning_rate to about ten times what all weights would get: 1e-5, say."
        )
    elif not is_peft_model(model) and rate > LARGEST_FULL_RATE and num_parameters >= LARGE_MODEL:
        logger.warning(
            f"learning_rate={rate:g} suits adapters (use_peft); all weights are trained here, which usually falls "
            f"apart above {LARGEST_FULL_RATE:g}. Set learning_rate to 1e-6 (the paper's value), or train adapters."
        )


def as_list(value: Any) -> list:
    """A copy of the list, or a list of the one value."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]
