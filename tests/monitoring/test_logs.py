"""Logs joined to records, `metrics.jsonl`, and what a run shows in the terminal."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
from transformers import PrinterCallback, ProgressCallback, TrainerCallback, TrainerControl, TrainerState
from transformers.trainer_callback import CallbackHandler

from dapo_trl import DAPOTrainer
from dapo_trl.monitoring import read_metrics
from dapo_trl.monitoring.logs import (
    MetricsFileCallback,
    ProgressBarCallback,
    RolloutLineCallback,
    RolloutRecords,
    show_rollouts,
)
from tests.helpers import build, prompt_dataset, train


TWO_UPDATES = {"updates_per_rollout": 2, "logging_steps": None}

# Records


def test_one_log_per_rollout_is_its_record():
    records = RolloutRecords(optimizer_steps=4)
    record = records.add(4, {"loss": 1.0, "reward": 0.5, "note": "text", "missing": None})
    assert record == {"loss": 1.0, "reward": 0.5, "step": 4, "rollout": 1}


def test_several_logs_per_rollout_are_averaged():
    records = RolloutRecords(optimizer_steps=2)
    assert records.add(1, {"loss": 1.0, "reward": 0.5, "entropy": 2.0}) is None
    assert records.add(1, {"eval_loss": 9.0}) is None
    record = records.add(2, {"loss": 3.0, "entropy": 1.0})
    assert record == {"loss": 2.0, "reward": 0.5, "entropy": 1.5, "step": 2, "rollout": 1}
    assert records.add(3, {"loss": 5.0}) is None
    assert records.add(4, {"loss": 7.0})["loss"] == 6.0


def test_a_log_may_stand_for_several_rollouts():
    records = RolloutRecords(optimizer_steps=2)
    assert records.add(6, {"loss": 1.0})["rollout"] == 3
    assert records.add(9, {"loss": 1.0})["rollout"] == 4


def test_a_resumed_run_goes_on_in_the_middle_of_a_rollout():
    records = RolloutRecords(optimizer_steps=2)
    history = [{"loss": 1.0, "step": 2}, {"eval_loss": 1.0, "step": 2}, {"loss": 2.0, "reward": 0.5, "step": 3}]
    assert [record["rollout"] for record in records.add_history(history)] == [1]
    assert records.add(4, {"loss": 4.0}) == {"loss": 3.0, "reward": 0.5, "step": 4, "rollout": 2}


# The file


def log(callback: MetricsFileCallback, output_dir: Path, step: int, **logs) -> None:
    state = TrainerState(global_step=step, is_world_process_zero=True)
    callback.on_log(SimpleNamespace(output_dir=output_dir), state, TrainerControl(), logs=logs)


def begin(callback: MetricsFileCallback, output_dir: Path, step: int) -> None:
    state = TrainerState(global_step=step, is_world_process_zero=True)
    callback.on_train_begin(SimpleNamespace(output_dir=output_dir), state, TrainerControl())


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
    MetricsFileCallback(1).on_log(SimpleNamespace(output_dir=tmp_path), state, TrainerControl(), logs={"loss": 1.0})
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
    runs = [(record["step"], record["run"]) for record in read_metrics(tmp_path)]
    assert runs == [(1, "first"), (2, "first"), (3, "second")]
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


# The terminal


LOGS = {
    "loss": 0.25,
    "reward": -0.5,
    "frac_correct": 0.25,
    "dynamic_sampling/acceptance_rate": 0.625,
    "completions/mean_length": 123.456,
    "entropy": 0.5,
    "time/rollout": 12.34,
}
LINE = "rollout  3/12  reward -0.500  accuracy 0.250  accepted 0.62  length  123.5  entropy 0.500  12.3 s"


@pytest.mark.parametrize(
    ("logs", "expected"),
    [
        (LOGS, LINE),
        ({"loss": 0.25, "reward": 1.0}, "rollout  3/12  reward  1.000"),
        (
            {
                "eval_avg@4": 0.5,
                "eval_avg@4_low": 0.25,
                "eval_avg@4_high": 0.75,
                "eval_reward": 0.0,
                "eval_runtime": 2.0,
            },
            "evaluation after step 6  avg@4 0.500 [0.250, 0.750]  seconds 2.0",
        ),
        (
            {"eval_gsm8k_avg@1": 0.5, "eval_gsm8k_loss": 1.0, "eval_completions/mean_length": 20.0},
            "evaluation after step 6  gsm8k_avg@1 0.500  length 20.0",
        ),
        ({"eval_reward": 0.123456, "eval_rows": 6, "epoch": 0.1}, "eval_reward 0.1235  eval_rows 6"),
        ({"train_runtime": 12.0, "train_loss": 0.1, "reward": 0.5}, "6 optimizer steps in 12.0 s"),
        ({"mine": 0.5, "note": "text"}, "mine 0.5  note text"),
    ],
    ids=["rollout", "few metrics", "evaluation", "named evaluation", "no accuracy", "summary", "other"],
)
def test_lines(logs, expected):
    assert RolloutLineCallback(optimizer_steps=2).line(logs, step=6, max_steps=24) == expected


def test_one_line_per_rollout_however_often_it_logs():
    lines = RolloutLineCallback(optimizer_steps=2)
    written = [lines.line({"loss": 0.0, "reward": step / 4}, step, max_steps=5) for step in (1, 2, 3, 4, 5)]
    assert written == [None, "rollout 1/3  reward  0.375", None, "rollout 2/3  reward  0.875", None]


EVALUATION = {"eval_rollouts": 2, "per_device_eval_batch_size": 4}


@pytest.mark.parametrize("has_bar", [True, False])
def test_lines_of_a_run(has_bar, capsys):
    train(
        DAPOTrainer,
        {**TWO_UPDATES, **EVALUATION, "max_steps": 4, "disable_tqdm": not has_bar},
        eval_dataset=prompt_dataset(2),
    )
    captured = capsys.readouterr()
    lines = [line for line in captured.out.splitlines() if line and not line.startswith("[")]  # DeepSpeed's begin so
    begins = [" ".join(line.split()[:2]) for line in lines]
    assert begins == ["rollout 1/2", "rollout 2/2", "evaluation after", "4 optimizer"]
    assert ("4/4" in captured.err) == has_bar


def test_lines_of_a_resumed_run(capsys):
    config = {**TWO_UPDATES, "max_steps": 6, "save_strategy": "steps", "save_steps": 3}
    whole = train(DAPOTrainer, config)
    capsys.readouterr()
    resumed = build(DAPOTrainer, config)
    resumed.train(resume_from_checkpoint=f"{whole.args.output_dir}/checkpoint-3")
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines() if "rollout" in line] == ["2/3", "3/3"]


class Own(ProgressCallback):
    """A user's."""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (ProgressCallback, [ProgressBarCallback, RolloutLineCallback]),
        (PrinterCallback, [RolloutLineCallback]),
        (Own, [Own]),
        (TrainerCallback, [TrainerCallback]),
    ],
)
def test_what_is_replaced(before, after):
    handler = CallbackHandler([before()], None, None, None, None)
    show_rollouts(handler, optimizer_steps=1)
    assert [type(callback) for callback in handler.callbacks] == after
