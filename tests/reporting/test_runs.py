"""Runs are found, named, and grouped by seed, whatever state they are in."""

import pytest

from dapo_trl.reporting.runs import ReportError, load_run, load_runs
from tests.reporting.synthetic_runs import rising_run, training_log, write_run


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (
            ["dapo-seed0", "grpo_seed=3", "dapo-seed11", "seedling", "dapo"],
            {"dapo": ["dapo-seed0", "dapo-seed11", "dapo"], "grpo": ["grpo_seed=3"], "seedling": ["seedling"]},
        ),
        (
            ["dapo/seed0", "dapo/seed1", "grpo/seed0"],
            {"dapo": ["dapo/seed0", "dapo/seed1"], "grpo": ["grpo/seed0"]},
        ),
        (["a/run", "b/run"], {"a/run": ["a/run"], "b/run": ["b/run"]}),
        (["a/one", "b/two"], {"one": ["one"], "two": ["two"]}),
    ],
)
def test_directories_named_as_seeds_are_one_group(tmp_path, paths, expected):
    groups = load_runs([rising_run(tmp_path / path, [0.1]) for path in paths])
    assert {name: [run.name for run in runs] for name, runs in groups.items()} == expected


def test_logs_of_a_rollout_become_their_mean(tmp_path):
    logs = [
        {"step": 1, "rollout": 1, "loss": 0.1, "entropy": 0.2, "reward": 1.0, "note": "text"},
        {"step": 2, "rollout": 1, "loss": 0.1, "entropy": 0.4, "reward": None},
        {"step": 3, "rollout": 2, "loss": 0.1, "entropy": float("inf"), "reward": 0.5},
    ]
    first, second = load_run(write_run(tmp_path, logs), "run").training.to_dict("records")
    assert first == {"step": 2, "rollout": 1, "loss": 0.1, "entropy": pytest.approx(0.3), "reward": 1.0}
    assert second == {"step": 3, "rollout": 2, "loss": 0.1, "entropy": pytest.approx(float("nan"), nan_ok=True)} | {
        "reward": 0.5
    }


@pytest.mark.parametrize(
    ("last", "settings", "is_ended"),
    [
        ([], None, False),
        ([{"step": 4, "train_runtime": 9.0}], None, True),
        ([], {"max_steps": 4}, True),
        ([], {"max_steps": -1}, False),
    ],
)
def test_a_run_under_way_is_told_from_one_that_has_ended(tmp_path, last, settings, is_ended):
    logs = [training_log(1, reward=0.1), training_log(2, reward=0.2), *last]
    assert load_run(write_run(tmp_path, logs, settings), "").is_ended == is_ended


def test_a_line_that_is_being_written_does_not_matter(tmp_path):
    run = rising_run(tmp_path / "run", [0.1, 0.2])
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"step": 6, "rew')
    assert load_run(run, "").training["reward"].tolist() == [0.1, 0.2]


def test_evaluations_are_apart_from_training(tmp_path):
    logs = [training_log(1, reward=0.1), {"step": 2, "rollout": 1, "eval_avg@4": 0.25, "eval_runtime": 1.0}]
    run = load_run(write_run(tmp_path / "run", logs), "")
    assert len(run.training) == 1 and "eval_avg@4" not in run.training
    assert run.evaluations.to_dict("records") == [{"step": 2, "rollout": 1, "eval_avg@4": 0.25, "eval_runtime": 1.0}]


def test_errors_say_what_to_give(tmp_path):
    (tmp_path / "empty").mkdir()
    started = write_run(tmp_path / "started", [])
    damaged = write_run(tmp_path / "damaged", [training_log(1, reward=0.1)])
    (damaged / "settings.json").write_text("{")
    for paths, message in {
        (tmp_path / "missing",): "missing has no metrics.jsonl",
        (tmp_path / "empty",): "empty has no metrics.jsonl. Give the output_dir of a run that has logged",
        (started,): "started has no training record yet. Wait for the end of its first rollout",
    }.items():
        with pytest.raises(ReportError, match=message):
            load_runs(list(paths))
    with pytest.raises(ValueError, match="settings.json is damaged"):
        load_runs([damaged])
