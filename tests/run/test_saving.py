"""What TRL offers for checkpoints works as in TRL, with the trainer's own state among the files."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from dapo_trl import DAPOTrainer
from dapo_trl.run.checkpoint import last_complete_checkpoint, load_own_state, save_state, state_path
from tests.helpers import build, correct, prompt_dataset, train


SAVING = {"updates_per_rollout": 2, "max_steps": 5, "save_strategy": "steps", "save_steps": 1}
BEST = {
    "eval_strategy": "steps",
    "eval_steps": 1,
    "metric_for_best_model": "eval_reward",
    "greater_is_better": True,
    "per_device_eval_batch_size": 4,
}
REWARDS_OF_EVALUATION = [0.1, 0.9, 0.3, 0.2, 0.1]
"""Step 2 is the best."""


def checkpoints_of(output_dir: str) -> list[str]:
    return sorted(path.name for path in Path(output_dir).glob("checkpoint-*"))


def weights_of(checkpoint: Path) -> dict[str, torch.Tensor]:
    return load_file(checkpoint / "model.safetensors")


class Scores:
    """The filter reward; evaluations get [`REWARDS_OF_EVALUATION`] in turn."""

    __name__ = "scores"

    def __call__(self, completion_ids: list[list[int]], trainer_state: Any, **kwargs) -> list[float]:
        if self.trainer.model.training:
            return correct(completion_ids)
        return [REWARDS_OF_EVALUATION[trainer_state.global_step - 1]] * len(completion_ids)


def train_with_best(callbacks: list[TrainerCallback] | None = None, **config) -> DAPOTrainer:
    scores = Scores()
    trainer = build(
        DAPOTrainer,
        SAVING | BEST | config,
        reward_funcs=scores,
        eval_dataset=prompt_dataset(4),
        callbacks=callbacks,
    )
    scores.trainer = trainer
    for callback in callbacks or []:
        callback.trainer = trainer
    with trainer.preemption.listen():
        trainer.train()
    assert trainer.state.best_global_step == 2
    return trainer


def test_save_total_limit():
    trainer = train(DAPOTrainer, SAVING | {"save_total_limit": 2})
    assert checkpoints_of(trainer.args.output_dir) == ["checkpoint-4", "checkpoint-5"]
    for name in ("checkpoint-4", "checkpoint-5"):
        assert state_path(str(Path(trainer.args.output_dir, name)), process=0).exists()


def test_load_best_model_at_end():
    trainer = train_with_best(load_best_model_at_end=True, save_total_limit=1)
    output_dir = Path(trainer.args.output_dir)
    # The best one, and the last one to go on from, which Trainer deletes at the end.
    assert checkpoints_of(output_dir) == ["checkpoint-2", "checkpoint-5"]
    best = weights_of(output_dir / "checkpoint-2")
    for name, parameter in trainer.model.named_parameters():
        assert torch.equal(parameter, best[name])


class EndAfter(TrainerCallback):
    """Tells the run to end, as SIGTERM does, at an optimizer step."""

    def __init__(self, step: int):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        self.trainer.preemption.is_requested |= state.global_step == self.step


@pytest.mark.parametrize("loads_best", [False, True])
def test_preempted_with_a_better_checkpoint_before(loads_best):
    """The checkpoint of a preempted run is not deleted for being worse than the best."""
    trainer = train_with_best([EndAfter(4)], load_best_model_at_end=loads_best, save_total_limit=1)
    assert trainer.preemption.is_agreed
    assert checkpoints_of(trainer.args.output_dir) == ["checkpoint-2", "checkpoint-4"]
    assert last_complete_checkpoint(trainer.args.output_dir).endswith("checkpoint-4")


def test_a_request_in_the_last_step_ends_the_evaluation_after_it():
    trainer = train_with_best([EndAfter(5)])
    assert trainer.state.global_step == 5
    assert trainer.preemption.is_agreed
    assert not any("eval_reward" in line for line in trainer.state.log_history if line["step"] == 5)
    assert last_complete_checkpoint(trainer.args.output_dir).endswith("checkpoint-5")


def test_save_only_model(caplog):
    trainer = train(DAPOTrainer, SAVING | {"save_only_model": True})
    checkpoint = Path(trainer.args.output_dir) / "checkpoint-3"
    names = {path.name for path in checkpoint.iterdir()}
    assert {"model.safetensors", "trainer_state.json"} <= names
    assert not {"optimizer.pt", "rng_state.pth", "dapo_state_0.pt"} & names
    resumed = build(DAPOTrainer, SAVING | {"save_strategy": "no"})
    resumed.train(resume_from_checkpoint=str(checkpoint))
    assert resumed.state.global_step == 5
    assert "holds no state of DAPOTrainer" in caplog.text


# A checkpoint that is written again


def test_a_checkpoint_that_is_written_again_is_half_written_until_its_end(monkeypatch):
    trainer = train(DAPOTrainer, SAVING | {"max_steps": 2})
    output_dir = trainer.args.output_dir

    def breaks_off(*args):
        raise OSError("No space left on device")

    monkeypatch.setattr(DAPOTrainer, "_save_optimizer_and_scheduler", breaks_off)
    with pytest.raises(OSError, match="No space left"):
        train(DAPOTrainer, SAVING | {"output_dir": output_dir, "max_steps": 2, "save_steps": 2})
    assert last_complete_checkpoint(output_dir).endswith("checkpoint-1")


def test_state_files_of_more_processes_are_not_read(tmp_path):
    """An earlier run with two processes left its files in a directory that was then written by one."""
    save_state({"num_processes": 1, "run": "new"}, str(tmp_path), process=0)
    save_state({"num_processes": 2, "run": "old"}, str(tmp_path), process=1)
    assert [load_own_state(str(tmp_path), process)["run"] for process in (0, 1, 2)] == ["new", "new", "new"]


def test_each_process_reads_its_own_state_file(tmp_path):
    for process in (0, 1):
        save_state({"num_processes": 2, "writer": process}, str(tmp_path), process)
    # A third one, if there are more now, goes on from the first one's.
    assert [load_own_state(str(tmp_path), process)["writer"] for process in (0, 1, 2)] == [0, 1, 0]
    state_path(str(tmp_path), process=0).unlink()
    assert load_own_state(str(tmp_path), process=0) is None
    assert load_own_state(str(tmp_path), process=1)["writer"] == 1
