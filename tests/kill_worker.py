"""
Runs that are killed at a given point, and go on from their last complete checkpoint until they reach their end.

Imports once, then forks a process for each attempt: a killed one leaves nothing behind but its files.

```shell
python -m tests.kill_worker jobs.json outcomes.json
```
"""

import gc
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerState
from transformers import trainer as transformers_trainer
from trl import GRPOTrainer

import dapo_trl.batching.rollout
import tests.conftest  # noqa: F401  sets the environment before Hugging Face libraries are imported
from dapo_trl import DAPOTrainer
from dapo_trl.run.checkpoint import last_complete_checkpoint
from dapo_trl.sampling.sampler import DynamicSampler
from tests.distributed.launcher import watch
from tests.helpers import ScriptedRollouts, build, correct, tiny_model, weights


CONFIG = {
    "updates_per_rollout": 2,
    "num_iterations": 2,
    "max_steps": 7,
    "save_strategy": "steps",
    "save_steps": 1,
    "save_total_limit": 2,
    "learning_rate": 2e-3,
    "max_completion_length": 8,
}
"""Two rollouts of four optimizer steps, each of two micro-batches; every step is saved."""
SECONDS_PER_ATTEMPT = 60


class Countdown:
    """
    Sends this process a signal at the n-th time that a point is reached.

    Args:
        count (`int`): n.
        signum (`int`): SIGKILL ends the process there and then.
    """

    def __init__(self, count: int, signum: int = signal.SIGKILL):
        self.count = count
        self.signum = signum

    def __call__(self) -> None:
        self.count -= 1
        if self.count == 0:
            os.kill(os.getpid(), self.signum)

    def is_next(self) -> bool:
        """Whether the signal is sent when the point is reached the next time."""
        return self.count == 1


def before(owner: Any, name: str, reach: Callable[[], None]) -> None:
    """The point is reached at the beginning of a function."""
    function = getattr(owner, name)

    def reaches(*args, **kwargs):
        reach()
        return function(*args, **kwargs)

    setattr(owner, name, reaches)


def half_written(owner: Any, name: str, file_of: Callable[..., Path | None], reach: Countdown) -> None:
    """The point is reached when a function has written one half of its file."""
    function = getattr(owner, name)

    def reaches(*args, **kwargs):
        result, path = function(*args, **kwargs), file_of(*args, **kwargs)
        if path is not None:
            if reach.is_next():
                os.truncate(path, path.stat().st_size // 2)
            reach()
        return result

    setattr(owner, name, reaches)


def before_state_is_in_place(reach: Callable[[], None]) -> None:
    """The point is reached when our state is written, but not yet under its name."""
    replace = os.replace

    def reaches(source, target):
        if Path(target).name.startswith("dapo_state_"):
            reach()
        replace(source, target)

    os.replace = reaches


def optimizer_file(state, path, *args, **kwargs) -> Path | None:
    return Path(path) if str(path).endswith("optimizer.pt") else None


def before_random_calls(reach: Callable[[], None]) -> None:
    """The point is reached whenever a Python function is called."""

    def on_event(frame, event, arg):
        if event == "call":
            reach()

    sys.setprofile(on_event)


POINTS = {
    "generation": lambda reach: before(GRPOTrainer, "_generate", reach),
    "scoring": lambda reach: before(GRPOTrainer, "_calculate_rewards", reach),
    "between rounds": lambda reach: before(DynamicSampler, "_draw", reach),
    "moving rows": lambda reach: before(dapo_trl.batching.rollout.Rollout, "distribute", reach),
    "loss": lambda reach: before(GRPOTrainer, "_compute_loss", reach),
    "optimizer step": lambda reach: before(torch.optim.AdamW, "step", reach),
    "begin of saving": lambda reach: before(GRPOTrainer, "_save_checkpoint", reach),
    "saving the model": lambda reach: half_written(
        GRPOTrainer, "_save", lambda self, directory, *rest: Path(directory) / "model.safetensors", reach
    ),
    "saving the optimizer": lambda reach: half_written(torch, "save", optimizer_file, reach),
    "saving our state": before_state_is_in_place,
    "saving the trainer's state": lambda reach: half_written(
        TrainerState, "save_to_json", lambda self, path: Path(path), reach
    ),
    "deleting old checkpoints": lambda reach: before(transformers_trainer, "rotate_checkpoints", reach),
    "any call": before_random_calls,
}


def train_once(output_dir: str, is_scripted: bool, point: str | None, count: int, signum: int) -> None:
    """One attempt; when it reaches its end, its weights are written."""
    trainer = build(
        DAPOTrainer,
        CONFIG | {"output_dir": output_dir},
        model=tiny_model(),
        rollout_func=ScriptedRollouts() if is_scripted else None,
        reward_funcs=correct,
    )
    checkpoint = last_complete_checkpoint(output_dir)
    if point is not None:
        POINTS[point](Countdown(count, signum))
    with trainer.preemption.listen():
        trainer.train(resume_from_checkpoint=checkpoint)
    sys.setprofile(None)
    if trainer.preemption.is_agreed:
        os._exit(128 + signal.SIGTERM)
    torch.save(weights(trainer.model), Path(output_dir) / "weights.pt")


def attempt(**arguments) -> int:
    """Runs [`train_once`] in a process of its own; returns how it ended (see [`subprocess.Popen.returncode`])."""
    child = os.fork()
    if child == 0:
        try:
            watch(SECONDS_PER_ATTEMPT)
            train_once(**arguments)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    """One run, interrupted at each of the job's points in turn."""
    exit_codes, checkpoints = [], []
    for point, count in [*job["points"], (None, 0)]:
        exit_codes.append(
            attempt(
                output_dir=job["output_dir"],
                is_scripted=job["is_scripted"],
                point=point,
                count=count,
                signum=job["signum"],
            )
        )
        checkpoint = last_complete_checkpoint(job["output_dir"])
        checkpoints.append(checkpoint and Path(checkpoint).name)
    return {"exit_codes": exit_codes, "checkpoints": checkpoints}


def main(jobs: str, outcomes: str) -> None:
    gc.collect()
    gc.freeze()  # every training collects garbage, and would spend half of its time on the libraries' objects
    results = [run_job(job) for job in json.loads(Path(jobs).read_text())]
    Path(outcomes).write_text(json.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
