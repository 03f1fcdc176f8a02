"""Everything that is checked of a trainer's arguments: before the model is loaded, and once it is."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from datasets import IterableDataset
from transformers import PreTrainedModel, TrainerCallback
from trl.trainer.utils import get_config_model_id

from ..config import DAPOConfig
from .data import check_dataset_size, check_datasets, check_prompts
from .model import (
    check_dropout,
    check_model,
    check_optimizers,
    check_policy,
    check_reference,
    warn_if_updates_vanish,
    warn_of_other_reference,
    warn_of_rate,
)
from .rewards import (
    add_overlong_punishment,
    as_list,
    check_best_metric,
    check_reward_weights,
    check_rewards,
    filter_columns,
)


@dataclass
class CheckedArguments:
    """
    Arguments of a trainer as it goes on with them: TRL changes some in place, and the caller's stay as they are.

    Attributes:
        args ([`DAPOConfig`]): a copy.
        reward_funcs (`list`): with the soft overlong punishment at the end, if there is one.
        reward_processing_classes (`list`, *optional*): one for each of these.
        num_task_rewards (`int`): how many of them are the user's.
        datasets (`dict`): those that are looked at once the tokenizer is there.
        makes_optimizer (`bool`): the caller has given none.
        is_generated_elsewhere (`bool`): by a `rollout_func` or environments.
    """

    args: DAPOConfig
    reward_funcs: list
    reward_processing_classes: list | None
    num_task_rewards: int
    datasets: Any
    makes_optimizer: bool
    is_generated_elsewhere: bool

    def replacements(self) -> dict[str, Any]:
        """What is handed to TRL in place of the caller's arguments."""
        names = ("args", "reward_funcs", "reward_processing_classes")
        return {name: getattr(self, name) for name in names}

    @property
    def overlong_column(self) -> int | None:
        """Column of the soft overlong punishment among the rewards."""
        return self.num_task_rewards if self.args.soft_punish_cache is not None else None


def check_before_loading(arguments: dict[str, Any]) -> CheckedArguments:
    """Refuses what cannot be trained, before anything is loaded."""
    model, train_dataset = arguments["model"], arguments["train_dataset"]
    args = arguments["args"]
    check_model(model, arguments["processing_class"], getattr(args, "trust_remote_code", False))
    args, reward_funcs = own_args(args, model), as_list(arguments["reward_funcs"])
    check_reference(model, arguments["peft_config"], args.beta)
    if args.use_vllm:
        from ..generation.vllm.preflight import check_weight_transfer  # others do not load vLLM's part

        check_weight_transfer(args)
    is_generated_elsewhere = arguments["rollout_func"] is not None or arguments["environment_factory"] is not None
    check_supported(args, train_dataset, arguments["tools"], arguments["environment_factory"])
    datasets = check_datasets(args, train_dataset, arguments["eval_dataset"])
    check_rewards(reward_funcs, args, datasets, is_generated_elsewhere)
    check_callbacks(arguments["callbacks"])
    check_optimizers(arguments["optimizers"])
    check_dataset_size(args, train_dataset)
    check_reward_weights(args, len(reward_funcs))
    num_task_rewards = len(reward_funcs)
    processing_classes = as_list(arguments["reward_processing_classes"]) or None
    if args.soft_punish_cache is not None:
        add_overlong_punishment(args, reward_funcs, processing_classes)
    makes_optimizer = arguments["optimizers"][0] is None
    return CheckedArguments(
        args, reward_funcs, processing_classes, num_task_rewards, datasets, makes_optimizer, is_generated_elsewhere
    )


def check_loaded(trainer: Any, given: CheckedArguments, model: Any, eval_dataset: Any) -> list[int]:
    """Refuses, or warns of, what only shows with the model and the tokenizer at hand; dropout is turned off."""
    args = given.args
    if args.balance_micro_batches and trainer.aux_loss_enabled:
        raise ValueError(
            f"router_aux_loss_coef={trainer.router_aux_loss_coef} cannot be combined with balance_micro_batches: the "
            "load-balancing loss is computed per micro-batch. Set router_aux_loss_coef to 0, or "
            "balance_micro_batches to false."
        )
    check_dropout(trainer.model, is_off=args.disable_dropout)
    is_sharded = trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled
    if given.makes_optimizer:  # another one has its own rate
        if not (trainer.is_deepspeed_enabled or (trainer.is_fsdp_enabled and (args.bf16 or args.fp16))):
            warn_if_updates_vanish(trainer.model, args.learning_rate)  # those have float32 weights of their own
        warn_of_rate(trainer.model, args)
    check_policy(trainer.model, trainer._tokenizer, trainer.optimizer, args)
    if isinstance(model, torch.nn.Module) and trainer.ref_model is not None and not is_sharded:
        warn_of_other_reference(trainer.model, trainer.accelerator.unwrap_model(trainer.ref_model), args.beta)
    check_prompts(given.datasets, trainer.processing_class, trainer.model, args, given.is_generated_elsewhere)
    columns = filter_columns(args, trainer.reward_func_names, given.num_task_rewards)
    check_best_metric(args, eval_dataset, given.reward_funcs, trainer.reward_func_names, bool(columns))
    return columns


def own_args(args: DAPOConfig | None, model: str | PreTrainedModel) -> DAPOConfig:
    """A copy of the arguments, or default ones, whose output directory is named after the model."""
    if args is None:
        model_name = model if isinstance(model, str) else get_config_model_id(model.config)
        return DAPOConfig(f"{model_name.split('/')[-1]}-DAPO")
    if not isinstance(args, DAPOConfig):
        raise TypeError(f"args is a {type(args).__name__}, but DAPOTrainer needs a DAPOConfig. Build one instead.")
    return copy.copy(args)


def check_supported(args: DAPOConfig, train_dataset: Any, tools: list | None, environment_factory: Any) -> None:
    """Refuses what dynamic sampling and balanced micro-batches cannot be combined with."""
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
    """Refuses callbacks that lack the methods that are called."""
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
