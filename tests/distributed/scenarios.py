"""Runs that are trained on one process and on several, and must be the same run."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import PartialState
from accelerate.utils import DistributedType, gather_object
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from dapo_trl import DAPOTrainer
from dapo_trl.monitoring import NonFiniteWeightsError
from dapo_trl.run.checkpoint import last_complete_checkpoint
from tests.distributed import fsdp
from tests.distributed.recording import RecordingTrainer, lopsided_for
from tests.helpers import (
    ScriptedRollouts,
    build,
    largest_difference,
    prompt_dataset,
    spare_garbage_collection,
    tiny_model,
    weights,
)
from tests.non_finite import NonFiniteLoss, SpoiltWeights


ROWS_PER_STEP = 24
SGD = {"optim": "sgd", "learning_rate": 0.3, "max_steps": 4, "updates_per_rollout": 1}
PARTIAL = {"max_rounds": 1, "max_oversampling": 1.0}
SCENARIOS = {
    "one micro-batch": {"gradient_accumulation_steps": 1, "updates_per_rollout": 4},
    "two micro-batches, group": {"token_normalization": "group"},
    "two micro-batches, unbalanced": {"balance_micro_batches": False, "updates_per_rollout": 4},
    "four micro-batches": {"gradient_accumulation_steps": 4, "soft_punish_cache": 12},
    "four micro-batches, group, unbalanced": {
        "gradient_accumulation_steps": 4,
        "updates_per_rollout": 4,
        "token_normalization": "group",
        "balance_micro_batches": False,
    },
    # 3 groups of 8 on two processes: the second one lies on both.
    "straddling groups": {"num_generations": 8},
    "partial": {**PARTIAL, "updates_per_rollout": 4},
    "partial, group": {**PARTIAL, "token_normalization": "group"},
    "AdamW": {"optim": "adamw_torch", "learning_rate": 1e-3, "adam_epsilon": 1e-4},
}
SAMPLED = {
    "optim": "adamw_torch",
    "updates_per_rollout": 2,
    "max_steps": 4,
    "max_completion_length": 6,
    "learning_rate": 2e-3,
}
"""Two rollouts of two optimizer steps."""
RESUMED = {
    "optim": "adamw_torch",
    "learning_rate": 1e-3,
    "adam_epsilon": 1e-4,
    "updates_per_rollout": 2,
    "max_steps": 6,
}
"""Three rollouts of two optimizer steps, of scripted completions."""


def trained(
    config: dict[str, Any],
    num_processes: int = 1,
    stage: int = 0,
    checkpoint: str | None = None,
    *,
    is_fsdp: bool = False,
    **arguments,
) -> dict[str, Any]:
    """
    What comes out of a run.

    Args:
        config (`dict`): fields that differ from [`SGD`].
        num_processes (`int`): R, asserted.
        stage (`int`): of DeepSpeed ZeRO; 0 is DDP, or one process.
        checkpoint (`str`, *optional*): resume from this one.
        is_fsdp (`bool`): FSDP2 instead; see [`tests.distributed.fsdp`].
        **arguments: of the trainer; `rollout_func=None` generates with the model.

    Returns:
        `dict` of final weights, logged metrics, and prompts drawn and accepted.
    """
    config = SGD | config
    accumulation = config.setdefault("gradient_accumulation_steps", 2)
    config["per_device_train_batch_size"] = ROWS_PER_STEP // accumulation // num_processes
    if stage:
        from tests.distributed import zero

        config["deepspeed"] = zero.configuration(stage)
    elif num_processes > 1:
        config["ddp_backend"] = "gloo"
    defaults = {"model": tiny_model(), "train_dataset": prompt_dataset(60), "rollout_func": ScriptedRollouts()}
    trainer = build(RecordingTrainer, config, **defaults | arguments)
    trainer.train(resume_from_checkpoint=checkpoint)
    spare_garbage_collection()
    assert_distributed(trainer, num_processes, stage, is_fsdp)
    result = {
        "weights": gathered_weights(trainer.model, stage, is_fsdp),
        "log_history": trainer.state.log_history,
        "drawn": trainer.drawn,
        "accepted": trainer.accepted,
        "drawn_by_process": gather_object([trainer.drawn]) if num_processes > 1 else [trainer.drawn],
    }
    del trainer
    _reset(stage, is_fsdp)
    return result


def _reset(stage: int, is_fsdp: bool) -> None:
    """Forgets the last run's way to spread the model, so that another can begin."""
    if stage:
        from tests.distributed import zero

        zero.reset()
    elif is_fsdp:
        fsdp.reset()


def gathered_weights(model: torch.nn.Module, stage: int, is_fsdp: bool) -> torch.Tensor:
    """All parameters in one vector, on every process."""
    if stage:
        from tests.distributed import zero

        return zero.gathered_weights(model, stage)
    return fsdp.gathered_weights(model) if is_fsdp else weights(model)


def use_plain_cpu() -> None:
    """For several processes Accelerate says `cpu:0`, which torch.load does not know: no optimizer could be loaded."""
    set_device = PartialState.set_device

    def set_plain_device(self):
        set_device(self)
        self.device = torch.device("cpu")

    PartialState.set_device = set_plain_device


def assert_distributed(trainer: RecordingTrainer, num_processes: int, stage: int, is_fsdp: bool) -> None:
    """The run was what it should be: nothing falls back to fewer processes or another way to spread the model."""
    assert trainer.accelerator.num_processes == num_processes
    if stage:
        from tests.distributed import zero

        assert trainer.accelerator.distributed_type == DistributedType.DEEPSPEED
        assert type(trainer.model_wrapped).__name__ == "DeepSpeedEngine"
        assert trainer.model_wrapped.zero_optimization_stage() == stage
        zero.assert_partitioned(trainer.model, stage)
    elif is_fsdp:
        assert trainer.accelerator.is_fsdp2
        assert isinstance(trainer.model_wrapped, FSDPModule)
        fsdp.assert_partitioned(trainer.model)
    else:
        assert isinstance(trainer.model_wrapped, DistributedDataParallel) == (num_processes > 1)


def sampled(stage: int = 0, checkpoint: str | None = None, *, is_fsdp: bool = False, **config) -> dict[str, Any]:
    """The model itself generates, on two processes; rewards make the second one's groups nearly worthless."""
    reward = lopsided_for(int(os.environ["RANK"]))
    arguments = {"rollout_func": None, "reward_funcs": reward, "is_fsdp": is_fsdp}
    return trained(SAMPLED | config, 2, stage, checkpoint, **arguments)


def interrupted(output_dir: str, stage: int = 0, *, is_fsdp: bool = False) -> dict[str, Any]:
    """A sampled run with checkpoints, and one that goes on from the middle of its second rollout."""
    whole = sampled(stage, is_fsdp=is_fsdp, output_dir=output_dir, save_strategy="steps", save_steps=1)
    resumed = sampled(stage, is_fsdp=is_fsdp, checkpoint=f"{output_dir}/checkpoint-3")
    return {"whole": whole, "resumed": resumed}


def resumed_after_kill(output_dir: str, stage: int = 0) -> dict[str, Any]:
    """Goes on where [`tests.distributed.killed_worker`] was killed."""
    checkpoint = last_complete_checkpoint(output_dir)
    return sampled(stage, checkpoint=checkpoint) | {"checkpoint": Path(checkpoint).name}


def not_finite(stage: int = 0, *, is_fsdp: bool = False) -> list[dict[str, Any]]:
    """What each of two processes ends with if a loss, or a weight, is NaN on the second one."""
    config = SGD | {"per_device_train_batch_size": 6}
    if stage:
        from tests.distributed import zero

        config["deepspeed"] = zero.configuration(stage)
    else:
        config["ddp_backend"] = "gloo"
    cls = type("NonFiniteLoss", (NonFiniteLoss,), {"at_step": 3, "on_process": 1})
    trainer = build(cls, config, train_dataset=prompt_dataset(60))
    trainer.train()
    result = {
        "steps": trainer.state.global_step,
        "raised": trainer.alarms.raised,
        "is_finite": gathered_weights(trainer.model, stage, is_fsdp).isfinite().all().item(),
    }
    del trainer
    _reset(stage, is_fsdp)
    if stage:
        config["deepspeed"] = zero.configuration(stage)
    trainer = build(DAPOTrainer, config, train_dataset=prompt_dataset(60), callbacks=[SpoiltWeights(2, on_process=1)])
    try:
        trainer.train()
    except NonFiniteWeightsError as error:
        result["error"] = str(error)
    results = gather_object([result])
    del trainer
    _reset(stage, is_fsdp)
    return results


def assert_not_finite(results: list[dict[str, Any]], is_left_out: bool) -> None:
    """All processes leave the third of four steps out, or end before it; and end after the second with bad weights."""
    for result in results:
        assert result["steps"] == (4 if is_left_out else 2)
        assert result["raised"] == ["non_finite_loss"]
        assert result["is_finite"]
        assert "after optimizer step 2: " in result["error"] and "embed_tokens" in result["error"]
    assert len(results) == 2


def assert_same_run(actual: dict[str, Any], expected: dict[str, Any]) -> None:
    """Same prompts drawn and accepted, same weights, same metrics."""
    assert actual["drawn"] == expected["drawn"]
    assert actual["accepted"] == expected["accepted"]
    assert largest_difference(actual["weights"], expected["weights"]) < 1e-6
    for ours, theirs in zip(actual["log_history"], expected["log_history"], strict=True):
        assert ours.keys() == theirs.keys()
        for metric, value in theirs.items():
            if not metric.startswith(("step_time", "time/", "tokens_per_second/", "train_", "padding/")):
                assert ours[metric] == pytest.approx(value, rel=1e-4, abs=1e-5), metric
