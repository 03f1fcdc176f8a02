"""Curves and their bands."""

import math

import pytest

from dapo_trl.reporting.runs import load_runs
from dapo_trl.reporting.series import MAX_POINTS, axis_of, evaluation_series, training_series
from tests.reporting.made_up import rising_run, training_log, write_run


def test_band_reaches_from_the_smallest_to_the_largest_seed(tmp_path):
    rewards = {"a-seed0": [0.0, 0.2, 0.4], "a-seed1": [0.2, 0.6], "a-seed2": [0.4, 0.4]}
    (group,) = load_runs([rising_run(tmp_path / name, values) for name, values in rewards.items()])
    series = training_series(group, "reward", "rollout")
    assert series.x.tolist() == [1, 2, 3]
    assert series.mean.tolist() == pytest.approx([0.2, 0.4, 0.4])  # one seed alone has come to the third rollout
    assert series.low.tolist() == [0.0, 0.2, 0.4] and series.high.tolist() == [0.4, 0.6, 0.4]
    assert series.has_band


def test_one_run_has_no_band_and_a_missing_metric_no_curve(tmp_path):
    (group,) = load_runs([rising_run(tmp_path / "a", [0.0, 0.2])])
    assert not training_series(group, "reward", "rollout").has_band
    assert training_series(group, "entropy", "rollout") is None


def test_long_runs_are_joined_to_means(tmp_path):
    (group,) = load_runs([rising_run(tmp_path / "a", [0.0, 1.0] * MAX_POINTS)])
    series = training_series(group, "reward", "rollout")
    assert len(series.x) == MAX_POINTS and set(series.mean) == {0.5}
    assert series.x[:2].tolist() == [1.5, 3.5]


def test_evaluations_have_their_interval(tmp_path):
    runs = []
    for seed, (mean, low, high) in enumerate([(0.4, 0.2, 0.6), (0.6, 0.5, 0.7)]):
        evaluation = {"step": 2, "rollout": 1, "eval_avg@4": mean, "eval_avg@4_low": low, "eval_avg@4_high": high}
        runs.append(write_run(tmp_path / f"a-seed{seed}", [training_log(1, reward=0.0), evaluation]))
    (group,) = load_runs(runs)
    series = evaluation_series(group, "eval_avg@4", "rollout")
    ends = [series.mean.tolist(), series.low.tolist(), series.high.tolist()]
    assert ends == [pytest.approx([0.5]), pytest.approx([0.35]), pytest.approx([0.65])]


def test_the_band_has_a_gap_where_a_seed_has_no_interval(tmp_path):
    def evaluation(rollout: int, mean: float, **ends: float) -> dict:
        values = {f"eval_avg@4_{end}": value for end, value in ends.items()}
        return {"step": rollout, "rollout": rollout, "eval_avg@4": mean, **values}

    interval = {"low": 0.2, "high": 0.6}
    first = [evaluation(1, 0.0), evaluation(2, 0.4, **interval), evaluation(3, 0.4, **interval)]
    second = [evaluation(1, 0.4, **interval), evaluation(2, 0.4, **interval)]
    runs = [
        write_run(tmp_path / f"a-seed{seed}", [training_log(1, reward=0.0), *logs])
        for seed, logs in enumerate((first, second))
    ]
    (group,) = load_runs(runs)
    series = evaluation_series(group, "eval_avg@4", "rollout")
    assert series.has_band and series.mean.tolist() == [0.2, 0.4, 0.4]
    assert series.low.tolist() == pytest.approx([math.nan, 0.2, 0.2], nan_ok=True)
    assert series.high.tolist() == pytest.approx([math.nan, 0.6, 0.6], nan_ok=True)


def test_evaluation_of_one_problem_has_no_interval(tmp_path):
    logs = [training_log(1, reward=0.0), {"step": 2, "rollout": 1, "eval_avg@4": 0.5}]
    (group,) = load_runs([write_run(tmp_path / "a", logs)])
    assert not evaluation_series(group, "eval_avg@4", "rollout").has_band


def test_axis_is_the_step_if_rollouts_of_some_run_are_unknown(tmp_path):
    known = rising_run(tmp_path / "a", [0.0])
    unknown = write_run(tmp_path / "b", [{"step": 3, "loss": 0.1, "reward": 0.0}])
    assert axis_of(load_runs([known])) == "rollout"
    assert axis_of(load_runs([known, unknown])) == "step"
