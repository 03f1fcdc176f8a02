"""Runs are found, named, and put together by seed, whatever state they are in."""

import json

import pytest

from dapo_trl.reporting.runs import ReportError, by_rollout, labels, load_run, load_runs
from tests.reporting.made_up import rising_run, training_log, write_run


def test_directories_named_as_seeds_are_one_run(tmp_path):
    names = ["dapo-seed0", "grpo_seed=3", "dapo-seed11", "seedling", "dapo"]
    groups = load_runs([rising_run(tmp_path / name, [0.1]) for name in names])
    found = {group.name: [run.path.name for run in group.runs] for group in groups}
    assert found == {
        "dapo": ["dapo-seed0", "dapo-seed11", "dapo"],
        "grpo": ["grpo_seed=3"],
        "seedling": ["seedling"],
    }


def test_settings_that_are_unknown_are_warned_of(tmp_path, caplog):
    load_runs([rising_run(tmp_path / "known", [0.1]), write_run(tmp_path / "other", [training_log(1, reward=0.1)])])
    (record,) = caplog.records
    assert record.getMessage() == (
        f"{tmp_path / 'other'} has no readable settings.json or training_args.bin, so its settings are unknown."
    )


def test_directories_that_are_only_seeds_take_the_name_above(tmp_path):
    groups = load_runs([rising_run(tmp_path / name, [0.1]) for name in ("dapo/seed0", "dapo/seed1", "grpo/seed0")])
    assert [(group.name, len(group.runs)) for group in groups] == [("dapo", 2), ("grpo", 1)]


def test_equal_names_are_told_apart_by_what_is_above(tmp_path):
    assert labels([tmp_path / "a" / "run", tmp_path / "b" / "run"]) == ["a/run", "b/run"]
    assert labels([tmp_path / "a" / "one", tmp_path / "b" / "two"]) == ["one", "two"]


def test_logs_of_a_rollout_become_their_mean():
    logs = [
        {"step": 1, "rollout": 1, "entropy": 0.2, "reward": 1.0},
        {"step": 2, "rollout": 1, "entropy": 0.4, "reward": None},
        {"step": 3, "rollout": 2, "entropy": float("nan"), "reward": 0.5},
    ]
    first, second = by_rollout(logs, optimizer_steps=None)
    assert first == {"step": 2, "rollout": 1, "entropy": pytest.approx(0.3), "reward": 1.0}
    assert second == {"step": 3, "rollout": 2, "reward": 0.5}


def test_rollouts_of_an_old_log_follow_from_the_settings():
    logs = [{"step": step, "reward": float(step)} for step in (2, 4, 6, 8)]
    assert [record["rollout"] for record in by_rollout(logs, optimizer_steps=4)] == [1, 2]
    assert [record["reward"] for record in by_rollout(logs, optimizer_steps=4)] == [3.0, 7.0]
    assert ["rollout" in record for record in by_rollout(logs, optimizer_steps=None)] == [False] * 4


def test_without_metrics_file_the_longest_trainer_state_is_read(tmp_path):
    for checkpoint, steps in {"checkpoint-8": [4, 8], "checkpoint-12": [4, 8, 12]}.items():
        (tmp_path / checkpoint).mkdir()
        history = [{"step": step, "loss": 0.1, "reward": 0.5} for step in steps]
        (tmp_path / checkpoint / "trainer_state.json").write_text(json.dumps({"log_history": history}))
    (tmp_path / "trainer_state.json").write_text('{"log_hist')  # being written
    assert [record["step"] for record in load_run(tmp_path, "run").records] == [4, 8, 12]


def test_a_run_under_way_is_told_from_one_that_has_ended(tmp_path):
    logs = [training_log(1, reward=0.1), training_log(2, reward=0.2)]
    assert not load_run(write_run(tmp_path / "going", logs), "").is_ended
    assert load_run(write_run(tmp_path / "ended", [*logs, {"step": 4, "train_runtime": 9.0}]), "").is_ended
    assert load_run(write_run(tmp_path / "at_the_end", logs, {"max_steps": 4}), "").is_ended
    assert not load_run(write_run(tmp_path / "epochs", logs, {"max_steps": -1}), "").is_ended


def test_a_line_that_is_being_written_does_not_matter(tmp_path):
    run = rising_run(tmp_path / "run", [0.1, 0.2])
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"step": 6, "rew')
    assert [record["reward"] for record in load_run(run, "").records] == [0.1, 0.2]


def test_evaluations_are_apart_from_training(tmp_path):
    logs = [training_log(1, reward=0.1), {"step": 2, "rollout": 1, "eval_avg@4": 0.25, "eval_runtime": 1.0}]
    run = load_run(write_run(tmp_path / "run", logs), "")
    assert len(run.records) == 1 and "eval_avg@4" not in run.records[0]
    assert run.evaluations == [{"step": 2, "rollout": 1, "eval_avg@4": 0.25, "eval_runtime": 1.0}]


def test_seconds_of_no_phase_are_other(tmp_path):
    log = training_log(1, **{"time/rollout": 10.0, "time/generation": 6.0, "time/training": 3.0})
    assert load_run(write_run(tmp_path / "run", [log]), "").records[0]["time/other"] == 1.0


def test_errors_say_what_to_give(tmp_path):
    (tmp_path / "empty").mkdir()
    started = write_run(tmp_path / "started", [])
    run = rising_run(tmp_path / "run", [0.1])
    for paths, message in {
        (tmp_path / "missing",): "missing is not a directory. Give the output_dir of a run",
        (tmp_path / "empty",): "empty has neither metrics.jsonl nor a readable trainer_state.json",
        (started,): "started has no training record yet. Wait for the end of its first rollout",
        (run, tmp_path / "empty" / ".." / "run"): "run is given more than once",
    }.items():
        with pytest.raises(ReportError, match=message):
            load_runs(list(paths))
