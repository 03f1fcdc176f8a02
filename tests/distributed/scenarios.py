"""Runs that are trained on one process and on several, and must be the same run."""

import os
from pathlib import Path
from typing import Any

import pytest
from accelerate.utils import gather_object

from dapo_trl import DAPOTrainer
from dapo_trl.monitoring.finite import NonFiniteWeightsError
from dapo_trl.run.checkpoint import last_complete_checkpoint
from tests.distributed.recording import RecordingTrainer, lopsided_for
from tests.distributed.spread import DDP
from tests.helpers import (
    ScriptedRollouts,
    build,
    largest_difference,
    prompt_dataset,
    spare_garbage_collection,
    tiny_model,
)
from tests.non_finite import NonFiniteLoss, SpoiltWeights


PLAIN = DDP()
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
    spread: DDP = PLAIN,
    checkpoint: str | None = None,
    **arguments,
) -> dict[str, Any]:
    """
    What comes out of a run.

    Args:
        config (`dict`): fields that differ from [`SGD`].
        num_processes (`int`): R, asserted.
        spread (`DDP`): how the model is spread over processes, asserted, too.
        checkpoint (`str`, *optional*): resume from this one.
        **arguments: of the trainer; `rollout_func=None` generates with the model.

    Returns:
        `dict` of final weights, logged metrics, and prompts drawn and accepted.
    """
    config = SGD | config | spread.fields(num_processes)
    accumulation = config.setdefault("gradient_accumulation_steps", 2)
    config["per_device_train_batch_size"] = ROWS_PER_STEP // accumulation // num_processes
    defaults = {"model": tiny_model(), "train_dataset": prompt_dataset(60), "rollout_func": ScriptedRollouts()}
    trainer = build(RecordingTrainer, config, **defaults | arguments)
    trainer.train(resume_from_checkpoint=checkpoint)
    spare_garbage_collection()
    assert trainer.accelerator.num_processes == num_processes
    spread.assert_used(trainer)
    result = {
        "weights": spread.weights(trainer.model),
        "log_history": trainer.state.log_history,
        "drawn": trainer.drawn,
        "accepted": trainer.accepted,
        "drawn_by_process": gather_object([trainer.drawn]) if num_processes > 1 else [trainer.drawn],
    }
    del trainer
    spread.reset()
    return result


def sampled(spread: DDP, checkpoint: str | None = None, **config) -> dict[str, Any]:
    """The model itself generates, on two processes; rewards make the second one's groups nearly worthless."""
    reward = lopsided_for(int(os.environ["RANK"]))
    return trained(SAMPLED | config, 2, spread, checkpoint, rollout_func=None, reward_funcs=reward)


def interrupted(output_dir: str, spread: DDP) -> dict[str, Any]:
    """A sampled run with checkpoints, and one that goes on from the middle of its second rollout."""
    whole = sampled(spread, output_dir=output_dir, save_strategy="steps", save_steps=1)
    return {"whole": whole, "resumed": sampled(spread, f"{output_dir}/checkpoint-3")}


def resumed_after_kill(output_dir: str, spread: DDP) -> dict[str, Any]:
    """Goes on where [`tests.distributed.killed_worker`] was killed."""
    checkpoint = last_complete_checkpoint(output_dir)
    return sampled(spread, checkpoint) | {"checkpoint": Path(checkpoint).name}


def not_finite(spread: DDP) -> list[dict[str, Any]]:
    """What each of two processes ends with if a loss, or a weight, is NaN on the second one."""
    config = SGD | {"per_device_train_batch_size": 6}
    cls = type("NonFiniteLoss", (NonFiniteLoss,), {"at_step": 3, "on_process": 1})
    trainer = build(cls, config | spread.fields(2), train_dataset=prompt_dataset(60))
    trainer.train()
    result = {
        "steps": trainer.state.global_step,
        "raised": trainer.alarms.raised,
        "is_finite": spread.weights(trainer.model).isfinite().all().item(),
    }
    del trainer
    spread.reset()
    spoilt = [SpoiltWeights(2, on_process=1)]
    trainer = build(DAPOTrainer, config | spread.fields(2), train_dataset=prompt_dataset(60), callbacks=spoilt)
    try:
        trainer.train()
    except NonFiniteWeightsError as error:
        result["error"] = str(error)
    results = gather_object([result])
    del trainer
    spread.reset()
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
