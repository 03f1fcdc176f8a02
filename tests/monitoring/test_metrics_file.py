"""`metrics.jsonl`: what is in it, and what happens to it when a run is resumed, repeated or cannot write."""

import json
import math
from pathlib import Path

import pytest
from transformers import TrainerControl, TrainerState

from dapo_trl import DAPOTrainer
from dapo_trl.monitoring import read_metrics
from dapo_trl.monitoring.logs import MetricsFileCallback
from tests.helpers import build, prompt_dataset, train


TWO_UPDATES = {"updates_per_rollout": 2, "logging_steps": None}


class Arguments:
    """What the callback reads of the training arguments."""

    def __init__(self, output_dir):
        self.output_dir = str(output_dir)


def log(callback: MetricsFileCallback, output_dir: Path, step: int, **logs) -> None:
    state = TrainerState(global_step=step, is_world_process_zero=True)
    callback.on_log(Arguments(output_dir), state, TrainerControl(), logs=logs)


def begin(callback: MetricsFileCallback, output_dir: Path, step: int) -> None:
    state = TrainerState(global_step=step, is_world_process_zero=True)
    callback.on_train_begin(Arguments(output_dir), state, TrainerControl())


def steps(path: Path) -> list[int]:
    return [record["step"] for record in read_metrics(path)]


def test_a_run_leaves_its_metrics():
    config = {**TWO_UPDATES, "max_steps": 4, "eval_rollouts": 2, "per_device_eval_batch_size": 4}
    trainer = train(DAPOTrainer, config, eval_dataset=prompt_dataset(3))
    first, second, evaluation, summary = read_metrics(trainer.args.output_dir)
    assert (first["step"], first["rollout"], first["epoch"]) == (2, 1, 0.1)
    assert (second["step"], second["rollout"]) == (4, 2)
    assert first["time"] <= second["time"]
    for record, logged in zip((first, second, evaluation, summary), trainer.state.log_history, strict=True):
        assert record.items() >= logged.items()
    assert {"reward", "entropy", "mean_probability", "time/generation"} <= first.keys()
    assert "eval_avg@4" in evaluation and "train_runtime" in summary


def test_other_processes_write_nothing(tmp_path):
    state = TrainerState(global_step=1, is_world_process_zero=False)
    MetricsFileCallback(1).on_log(Arguments(tmp_path), state, TrainerControl(), logs={"loss": 1.0})
    assert list(tmp_path.iterdir()) == []


def test_what_json_does_not_know(tmp_path):
    log(MetricsFileCallback(2), tmp_path, 3, nan=math.nan, infinity=math.inf, path=Path("x"), nothing=None)
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    record = json.loads(line, parse_constant=pytest.fail)
    del record["time"]
    assert record == {"step": 3, "rollout": 2, "nan": None, "infinity": None, "path": "x", "nothing": None}


def test_a_half_written_line_is_left_out(tmp_path):
    callback = MetricsFileCallback(1)
    for step in (1, 2):
        log(callback, tmp_path, step, loss=0.5)
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    assert steps(path) == [1]
    log(callback, tmp_path, 3, loss=0.5)
    assert steps(tmp_path) == [1, 3]


def test_steps_that_are_done_again_are_taken_out(tmp_path):
    callback = MetricsFileCallback(1)
    for step in (1, 2, 3, 4):
        log(callback, tmp_path, step, run="first")
    begin(MetricsFileCallback(1), tmp_path, step=2)
    log(MetricsFileCallback(1), tmp_path, 3, run="second")
    assert [(record["step"], record["run"]) for record in read_metrics(tmp_path)] == [
        (1, "first"),
        (2, "first"),
        (3, "second"),
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_resumed_run_has_each_step_once():
    config = {**TWO_UPDATES, "max_steps": 6, "save_strategy": "steps", "save_steps": 2}
    whole = train(DAPOTrainer, config)
    assert steps(whole.args.output_dir) == [2, 4, 6, 6]  # the last one is the summary
    resumed = build(DAPOTrainer, config | {"output_dir": whole.args.output_dir})
    resumed.train(resume_from_checkpoint=f"{whole.args.output_dir}/checkpoint-4")
    assert steps(whole.args.output_dir) == [2, 4, 6, 6]


def test_a_fresh_start_keeps_the_file_of_the_run_before(tmp_path):
    for run in range(3):
        callback = MetricsFileCallback(1)
        begin(callback, tmp_path, step=0)
        log(callback, tmp_path, step=10 + run)
    assert {path.name: steps(path) for path in tmp_path.iterdir()} == {
        "metrics.1.jsonl": [10],
        "metrics.2.jsonl": [11],
        "metrics.jsonl": [12],
    }


def test_a_file_that_cannot_be_written_stops_nothing(tmp_path, caplog):
    (tmp_path / "metrics.jsonl").mkdir()
    callback = MetricsFileCallback(1)
    begin(callback, tmp_path, step=5)
    for step in (6, 7):
        log(callback, tmp_path, step, loss=0.5)
    (message,) = [record.getMessage() for record in caplog.records]
    assert "Metrics cannot be written to" in message and "check permissions of output_dir" in message


def test_reading_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="metrics.jsonl"):
        read_metrics(tmp_path)
