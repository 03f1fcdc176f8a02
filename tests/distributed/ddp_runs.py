"""
Runs with DDP, on two processes. The directory holds `alone/checkpoint-3`, written by one process, and `killed/`, left
by two that were killed.
"""

import os
import time
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object

from dapo_trl import DAPOTrainer
from dapo_trl.checks.returned_rewards import RewardValueError
from dapo_trl.distributed.all_to_all import DisagreementError
from dapo_trl.monitoring.alarms import Alarm
from dapo_trl.sampling.refill import AcceptanceRate
from tests.distributed.scenarios import (
    PLAIN,
    RESUMED,
    SCENARIOS,
    interrupted,
    not_finite,
    resumed_after_kill,
    sampled,
    trained,
)
from tests.helpers import build, correct, prompt_dataset


OF_DDP = ("one micro-batch", "four micro-batches", "four micro-batches, group, unbalanced", "straddling groups")
"""Those that differ from what `invariance_runs.py` runs under DDP."""


def run_disagreeing() -> list[dict[str, Any]]:
    """The second process believes that every group is accepted: what each process ended with, and when."""
    estimate = AcceptanceRate.estimate
    if int(os.environ["RANK"]) == 1:
        AcceptanceRate.estimate = lambda self: 1.0
    try:
        return _error_of_each_process(lambda: trained(SCENARIOS["two micro-batches, group"], 2))
    finally:
        AcceptanceRate.estimate = estimate


def run_with_another_checkpoint(directory: Path) -> list[dict[str, Any]]:
    """The second process resumes from an older checkpoint."""
    step = 3 - int(os.environ["RANK"])
    return _error_of_each_process(lambda: trained(RESUMED, 2, checkpoint=f"{directory}/together/checkpoint-{step}"))


def run_with_an_alarm(directory: Path) -> list[dict[str, Any]]:
    """Only the main process sees the alarm, of two evaluated rollouts: what each process ended with."""
    config = {"updates_per_rollout": 2, "per_device_train_batch_size": 2, "max_steps": 8, "logging_steps": None}
    config |= {"eval_rollouts": 1, "per_device_eval_batch_size": 2, "num_generations_eval": 4}
    config |= {"on_alarm": "stop", "save_strategy": "steps", "save_steps": 100, "output_dir": str(directory / "alarm")}
    trainer = build(DAPOTrainer, config, eval_dataset=prompt_dataset(5))
    find = (
        (lambda records: "Enough." if len(records) == 2 else None) if int(os.environ["RANK"]) == 0 else lambda _: None
    )
    trainer.alarms.alarms = [Alarm("enough", find, "Rest.")]
    trainer.train()
    evaluations = [logs["eval_avg@4"] for logs in trainer.state.log_history if "eval_avg@4" in logs]
    return gather_object([{"steps": trainer.state.global_step, "evaluations": evaluations}])


def run_with_infinite_rewards(directory: Path) -> list[dict[str, Any]]:
    """A reward of the second process is infinite in the second rollout; it had been returned as a text."""

    def text(completion_ids, trainer_state, **kwargs):
        rewards = correct(completion_ids)
        if int(os.environ["RANK"]) == 1 and trainer_state.global_step == 1:
            rewards[0] = "1.0"
        return rewards

    config = {"per_device_train_batch_size": 2, "max_steps": 3, "save_strategy": "steps", "save_steps": 100}
    trainer = build(DAPOTrainer, config | {"output_dir": str(directory / "infinite")}, reward_funcs=text)
    return _error_of_each_process(trainer.train)


def _error_of_each_process(run) -> list[dict[str, Any]]:
    start, outcome = time.monotonic(), {"error": None}
    try:
        run()
    except (DisagreementError, RewardValueError) as error:
        outcome["error"] = str(error)
    return gather_object([outcome | {"seconds": time.monotonic() - start}])


def run_all(directory: Path) -> dict[str, Any]:
    PLAIN.start()
    results = {name: trained(SCENARIOS[name], 2) for name in OF_DDP}
    results["sampled"] = sampled(PLAIN)
    results["interrupted"] = interrupted(str(directory / "ddp"), PLAIN)
    results["killed"] = resumed_after_kill(str(directory / "killed"), PLAIN)
    saving = {"save_strategy": "steps", "save_steps": 1, "output_dir": str(directory / "together")}
    results["whole"] = trained(RESUMED | saving, 2)
    results["resumed from one"] = trained(RESUMED, 2, checkpoint=f"{directory}/alone/checkpoint-3")
    results["disagreeing"] = run_disagreeing()
    results["not finite"] = not_finite(PLAIN)
    results["alarm"] = run_with_an_alarm(directory)
    results["infinite"] = run_with_infinite_rewards(directory)
    results["other checkpoints"] = run_with_another_checkpoint(directory)
    return results
