"""A run that is finished stays as it is, however often it is started again."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from dapo_trl import DAPOTrainer
from dapo_trl import train as train_module
from dapo_trl.run.checkpoint import FINISHED
from dapo_trl.train import main

from ..command import save_model, write_problems, write_recipe
from ..helpers import build, prompt_dataset, tiny_model, weights


def files_of(directory: str | Path) -> dict[str, tuple[bytes, int]]:
    """Content and time of change of every file."""
    paths = sorted(path for path in Path(directory).rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


class Listener(TrainerCallback):
    """Counts what it is told of a run: trackers open files and push then."""

    def __init__(self):
        self.heard: list[str] = []

    def on_train_begin(self, args, state, control, **kwargs):
        self.heard.append("train begin")

    def on_log(self, args, state, control, **kwargs):
        self.heard.append("log")

    def on_train_end(self, args, state, control, **kwargs):
        self.heard.append("train end")


RUNS = {
    "one update per rollout": ({}, {}),
    "in the middle of a rollout": ({"updates_per_rollout": 4}, {}),
    "two iterations": ({"updates_per_rollout": 2, "num_iterations": 2}, {}),
    "a lower max_steps": ({}, {"max_steps": 2}),
    "epochs": ({"max_steps": -1, "num_train_epochs": 0.2}, {}),
    "fewer epochs": ({"max_steps": -1, "num_train_epochs": 0.2}, {"num_train_epochs": 0.1}),
    "TRL's own batches": ({"dynamic_sampling": False, "balance_micro_batches": False}, {}),
    "the best checkpoint is another": (
        {"eval_strategy": "steps", "eval_steps": 2, "load_best_model_at_end": True, "save_total_limit": 1},
        {},
    ),
    "evaluation": ({"eval_on_start": True, "eval_strategy": "steps", "eval_steps": 2, "log_completions": True}, {}),
}
"""Settings of a run, and what is other when it is started again."""


@pytest.mark.parametrize("name", RUNS)
def test_nothing_is_trained_and_nothing_is_written(name, tmp_path, caplog):
    config, changed = RUNS[name]
    config = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2} | config | {"output_dir": str(tmp_path)}
    evaluation = {"eval_dataset": prompt_dataset(4)}
    first = build(DAPOTrainer, config, **evaluation)
    first.train()
    assert first.state.global_step == 4
    before, listener = files_of(tmp_path), Listener()
    again = build(DAPOTrainer, config | changed, model=tiny_model(seed=99), callbacks=[listener], **evaluation)
    result = again.train(resume_from_checkpoint=True)
    assert (result.global_step, result.metrics) == (4, {})
    assert torch.equal(weights(again.model), weights(first.model))
    assert files_of(tmp_path) == before
    assert listener.heard == []
    (message,) = [record.message for record in caplog.records if "it is finished" in record.message]
    end = 2 if name in ("a lower max_steps", "fewer epochs") else 4
    field = "num_train_epochs" if "epochs" in name else "max_steps"
    assert f"The checkpoint holds optimizer step 4, and the run ends at step {end}" in message
    assert f"Raise {field} to go on." in message


def test_it_goes_on_when_there_is_more_to_do(tmp_path):
    config = {"save_strategy": "steps", "save_steps": 2, "output_dir": str(tmp_path)}
    build(DAPOTrainer, config | {"max_steps": 2}).train()
    trainer = build(DAPOTrainer, config | {"max_steps": 2})
    trainer.train(resume_from_checkpoint=True)
    trainer.args.max_steps = 3  # the same trainer
    assert trainer.train(resume_from_checkpoint=True).global_step == 3


def test_the_best_model_is_loaded(tmp_path):
    """As at the end of the run that was finished."""
    config = {"max_steps": 4, "save_strategy": "steps", "save_steps": 1, "eval_strategy": "steps", "eval_steps": 1}
    config |= {"load_best_model_at_end": True, "metric_for_best_model": "eval_reward", "output_dir": str(tmp_path)}
    evaluation = {"eval_dataset": prompt_dataset(8)}
    first = build(DAPOTrainer, config, **evaluation)
    first.train()
    best = Path(first.state.best_model_checkpoint)
    assert best.name != "checkpoint-4", "the last one is the best: no difference can be seen"
    before = files_of(tmp_path)
    again = build(DAPOTrainer, config, model=tiny_model(seed=99), **evaluation)
    again.train(resume_from_checkpoint=True)
    assert torch.equal(weights(again.model), weights(first.model))
    assert files_of(tmp_path) == before


def test_a_half_written_checkpoint_is_passed_over(tmp_path):
    config = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "output_dir": str(tmp_path)}
    first = build(DAPOTrainer, config)
    first.train()
    (tmp_path / "checkpoint-4" / "trainer_state.json").unlink()
    again = build(DAPOTrainer, config, model=tiny_model(seed=99))
    assert again.train(resume_from_checkpoint=True).global_step == 4
    assert torch.equal(weights(again.model), weights(first.model))


# The command


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The directory of a finished run of two steps, with its model and data."""
    directory = tmp_path_factory.mktemp("finished")
    fields = {
        "model_name_or_path": save_model(directory / "model"),
        "dataset_name": write_problems(directory / "problems.jsonl"),
        "output_dir": str(directory / "out"),
        "max_steps": 2,
        "report_to": ["tensorboard"],
        "log_completions": True,
        "num_completions_to_print": 0,
    }
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(directory / "out" / "runs")
    try:
        main(["--config", write_recipe(directory / "recipe.yaml", fields)])
    finally:
        del os.environ["TENSORBOARD_LOGGING_DIR"]
    return directory


@pytest.fixture
def run(finished, tmp_path, monkeypatch):
    """The command on a copy of the finished run's files, with these flags."""
    output_dir = shutil.copytree(finished / "out", tmp_path / "out", copy_function=shutil.copy2)
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(output_dir / "runs"))

    def start(**flags) -> None:
        flags = {"output_dir": output_dir, "resume_from_checkpoint": True} | flags
        main(["--config", str(finished / "recipe.yaml"), *(f"--{name}={value}" for name, value in flags.items())])

    start.output_dir = output_dir
    return start


def test_the_command_leaves_every_file_as_it_was(run, monkeypatch, capsys):
    before = files_of(run.output_dir)
    kinds = ("recipe.yaml", "settings.json", "metrics.jsonl", "README.md", "model.safetensors", FINISHED)
    assert set(kinds) < before.keys()
    assert any("tfevents" in name for name in before) and any(name.startswith("completions") for name in before)
    # No model is loaded, and no server needed.
    monkeypatch.setattr(train_module, "build_trainer", None)
    run()
    run(resume_from_checkpoint=run.output_dir / "checkpoint-2")
    run(max_steps=1)
    assert files_of(run.output_dir) == before
    said = f"The run in {run.output_dir} is finished and its model saved: nothing is done. Raise max_steps"
    assert capsys.readouterr().out.count(said) == 3


def test_without_checkpoints_it_is_finished_all_the_same(run):
    for checkpoint in run.output_dir.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    before = files_of(run.output_dir)
    run()
    assert files_of(run.output_dir) == before


@pytest.mark.parametrize("damage", ["missing", "half-written", "killed before"])
def test_a_final_model_that_is_not_whole_is_saved_again(damage, run, finished, capsys):
    """From the last checkpoint; no step is trained."""
    final, marker = run.output_dir / "model.safetensors", run.output_dir / FINISHED
    if damage == "missing":
        final.unlink()
    elif damage == "half-written":
        final.write_bytes(final.read_bytes()[:1000])
    else:
        marker.unlink()  # by the run that was killed
        final.unlink()
    whole = load_file(finished / "out" / "model.safetensors")
    metrics = (run.output_dir / "metrics.jsonl").read_bytes()
    run()
    assert f"Model saved to {run.output_dir}." in capsys.readouterr().out
    saved = load_file(final)
    assert all(torch.equal(saved[name], whole[name]) for name in whole)
    assert (run.output_dir / "metrics.jsonl").read_bytes() == metrics
    before = files_of(run.output_dir)
    run()
    assert files_of(run.output_dir) == before


def test_what_is_not_finished_goes_on(run):
    run(max_steps=3)
    assert (run.output_dir / "checkpoint-3").is_dir()
    before = files_of(run.output_dir)
    run(max_steps=3)
    assert files_of(run.output_dir) == before


def test_an_earlier_checkpoint_goes_on(run):
    before = files_of(run.output_dir)
    run(resume_from_checkpoint=run.output_dir / "checkpoint-1")
    after = files_of(run.output_dir)
    for name in ("model.safetensors", "checkpoint-2/model.safetensors", FINISHED):
        assert after[name][0] == before[name][0]  # the same result
        assert after[name][1] > before[name][1]


def test_a_run_that_is_killed_while_it_trains_on_is_not_finished(run, monkeypatch):
    def killed(self, *args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(DAPOTrainer, "save_model", killed)
    with pytest.raises(KeyboardInterrupt):
        run(max_steps=3)
    assert not (run.output_dir / FINISHED).exists()
    monkeypatch.undo()
    run(max_steps=3)
    assert (run.output_dir / FINISHED).exists()
