"""Scenarios on however many processes there are, whose outcome must not depend on them."""

from pathlib import Path
from typing import Any

import pandas as pd
from accelerate.utils import gather_object
from torch.nn.parallel import DistributedDataParallel

from dapo_trl import DAPOTrainer
from tests.helpers import ScriptedRollouts, correct, exact_model, train, weights


SGD = {"optim": "sgd", "learning_rate": 1.0, "max_steps": 6, "updates_per_rollout": 3}
PARTIAL = {"max_rounds": 1, "max_oversampling": 1.0}
SCENARIOS = {
    "dynamic sampling": {"log_completions": True},
    "unbalanced": {"balance_micro_batches": False},
    "group": {"token_normalization": "group", "soft_punish_cache": 12},
    "partial": {**PARTIAL, "log_completions": True},
    "partial group, unbalanced": {**PARTIAL, "token_normalization": "group", "balance_micro_batches": False},
    # 3 groups of 3 do not spread evenly over 2 processes: TRL is handed padding rows.
    "partial with padding rows": {**PARTIAL, "num_generations": 3, "log_completions": True},
    "partial dr_grpo": {**PARTIAL, "loss_type": "dr_grpo"},
    # TRL shuffles the rows of each process by themselves: with one update per rollout, it does not matter.
    "balanced only": {"dynamic_sampling": False, "updates_per_rollout": 1},
}
SEEDS = {"partial with padding rows": 1}
ROWS_PER_MICRO_STEP = 4  # on all processes together


def run_scenarios(num_processes: int) -> dict[str, dict[str, Any]]:
    """What came out of each scenario: weights, logged metrics, completions tables."""
    return {
        name: _run({**SGD, **config}, ScriptedRollouts(seed=SEEDS.get(name, 0)), num_processes)
        for name, config in SCENARIOS.items()
    }


def _run(config: dict[str, Any], rollouts: ScriptedRollouts, num_processes: int) -> dict[str, Any]:
    config = {**config, "per_device_train_batch_size": ROWS_PER_MICRO_STEP // num_processes}
    if num_processes > 1:
        config["ddp_backend"] = "gloo"
    trainer = train(
        DAPOTrainer,
        config,
        model=exact_model(),
        rollout_func=rollouts,
        # Logs a column per row and a metric, as reward functions may.
        reward_funcs=[correct_and_logged],
    )
    assert trainer.accelerator.num_processes == num_processes
    assert isinstance(trainer.model_wrapped, DistributedDataParallel) == (num_processes > 1)
    # DDP would hide it if the processes had generated different numbers of times.
    calls = gather_object([rollouts.num_rows])
    assert all(rows == calls[0] for rows in calls), calls
    tables = sorted(Path(trainer.args.output_dir, "completions").glob("*.parquet"))
    return {
        "weights": weights(trainer.accelerator.unwrap_model(trainer.model)),
        "log_history": trainer.state.log_history,
        "num_rows": [rows * num_processes for rows in rollouts.num_rows],
        "tables": [pd.read_parquet(path).to_dict("list") for path in tables],
    }


def correct_and_logged(completion_ids, number, log_extra, log_metric, **kwargs):
    log_extra("number", number)
    log_metric("mean_number", sum(number) / len(number))
    return correct(completion_ids)


def run_all(directory: Path) -> dict[str, dict[str, Any]]:
    return run_scenarios(num_processes=2)
