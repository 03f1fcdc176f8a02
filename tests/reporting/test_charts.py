"""Curves, their bands, and the charts they are drawn in."""

import math

import matplotlib
import pytest
from matplotlib.figure import Figure

from dapo_trl.reporting.charts import COLORS, SMOOTHED_FROM, STYLE, charts, curve, draw, to_png
from dapo_trl.reporting.panels import ACCEPTANCE, REWARD, SECTIONS, evaluation_panels
from dapo_trl.reporting.runs import load_runs
from tests.reporting.synthetic_runs import rising_run, training_log, write_run


(PHASES,) = [panel for panel in SECTIONS["Time"] if panel.title == "Phases"]


def timed_run(path):
    log = {"dynamic_sampling/acceptance_rate": 0.5, "time/generation": 2.0, "time/training": 1.0, "time/rollout": 4.0}
    return write_run(path, [training_log(rollout, **log) for rollout in (1, 2, 3)])


def evaluation(rollout: int, mean: float, **ends: float) -> dict:
    values = {f"eval_avg@4_{end}": value for end, value in ends.items()}
    return {"step": 2 * rollout, "rollout": rollout, "eval_avg@4": mean, **values}


def seeds_of(tmp_path, *evaluations):
    paths = [
        write_run(tmp_path / f"a-seed{seed}", [training_log(1, reward=0.0), *logs])
        for seed, logs in enumerate(evaluations)
    ]
    (runs,) = load_runs(paths).values()
    return runs


def columns(values) -> list[list[float]]:
    return [values[name].tolist() for name in ("mean", "low", "high")]


def test_band_reaches_from_the_smallest_to_the_largest_seed(tmp_path):
    rewards = {"a-seed0": [0.0, 0.2, 0.4], "a-seed1": [0.2, 0.6], "a-seed2": [0.4, 0.4]}
    (runs,) = load_runs([rising_run(tmp_path / name, values) for name, values in rewards.items()]).values()
    values = curve(runs, "reward")
    assert values.index.tolist() == [1, 2, 3]
    # One seed alone has come to the third rollout.
    assert columns(values) == [pytest.approx([0.2, 0.4, 0.4]), [0.0, 0.2, 0.4], [0.4, 0.6, 0.4]]
    assert curve(runs, "entropy").empty


def test_long_runs_are_smoothed(tmp_path):
    run = rising_run(tmp_path / "a", [0.0, 1.0] * (SMOOTHED_FROM // 2))  # over a hundredth, which is four rollouts
    (runs,) = load_runs([run]).values()
    smoothed = curve(runs, "reward")["mean"].tolist()
    assert smoothed[:3] == pytest.approx([0, 1 / 2, 1 / 3]) and set(smoothed[3:]) == {1 / 2}


def test_evaluations_have_the_mean_of_their_intervals(tmp_path):
    runs = seeds_of(tmp_path, [evaluation(1, 0.4, low=0.2, high=0.6)], [evaluation(1, 0.6, low=0.5, high=0.7)])
    assert columns(curve(runs, "eval_avg@4")) == [
        pytest.approx([0.5]),
        pytest.approx([0.35]),
        pytest.approx([0.65]),
    ]


def test_the_band_has_a_gap_where_a_seed_has_no_interval(tmp_path):
    ends = {"low": 0.2, "high": 0.6}
    first = [evaluation(1, 0.0), evaluation(2, 0.4, **ends), evaluation(3, 0.4, **ends)]
    second = [evaluation(1, 0.4, **ends), evaluation(2, 0.4, **ends)]
    values = curve(seeds_of(tmp_path, first, second), "eval_avg@4")
    assert columns(values) == [
        [0.2, 0.4, 0.4],
        pytest.approx([math.nan, 0.2, 0.2], nan_ok=True),
        pytest.approx([math.nan, 0.6, 0.6], nan_ok=True),
    ]


def test_evaluation_of_one_problem_has_no_interval(tmp_path):
    values = curve(seeds_of(tmp_path, [evaluation(1, 0.5)]), "eval_avg@4")
    assert values["mean"].tolist() == [0.5] and values["low"].isna().all()


def test_every_evaluation_data_set_has_a_chart(tmp_path):
    logs = [training_log(1, reward=0.0), evaluation(1, 0.5, low=0.1) | {"eval_aime_2024_avg@32": 0.25}]
    groups = load_runs([write_run(tmp_path / "a", logs)])
    panels = evaluation_panels(groups)
    assert [panel.title for panel in panels] == ["Evaluation: aime 2024 avg@32", "Evaluation: avg@4"]
    assert [len(charts(panel, groups)) for panel in panels] == [1, 1]


def test_one_metric_is_one_chart_and_several_are_one_for_each_group(tmp_path):
    groups = load_runs([rising_run(tmp_path / "a", [0.1]), timed_run(tmp_path / "b"), timed_run(tmp_path / "c")])
    (chart,) = charts(ACCEPTANCE, groups)
    assert [(name, len(values)) for name, values in chart.curves.items()] == [("a", 0), ("b", 3), ("c", 3)]
    each = charts(PHASES, groups)
    assert [chart.title for chart in each] == ["Phases: b", "Phases: c"]
    assert [name for name, values in each[0].curves.items() if len(values)] == ["generation", "training", "rollout"]


def test_without_data_there_is_no_chart(tmp_path):
    groups = load_runs([rising_run(tmp_path / "a", [0.1])])
    drawn = [chart.title for panels in SECTIONS.values() for panel in panels for chart in charts(panel, groups)]
    assert drawn == ["Reward"]


def test_what_is_drawn(tmp_path):
    rewards = {"a": [0.1, 0.3], "_b$^$-seed0": [0.2, 0.4], "_b$^$-seed1": [0.4, 0.4]}
    (chart,) = charts(REWARD, load_runs([rising_run(tmp_path / name, values) for name, values in rewards.items()]))
    with matplotlib.rc_context(STYLE):
        axes = Figure().subplots()
        draw(axes, chart)
    assert [line.get_color() for line in axes.lines] == list(COLORS[:2])
    assert axes.lines[1].get_ydata().tolist() == pytest.approx([0.3, 0.4])
    band = axes.collections[1].get_paths()[0].vertices
    assert {tuple(point) for point in band} == {(1.0, 0.2), (1.0, 0.4), (2.0, 0.4)}
    assert axes.get_legend_handles_labels()[1] == ["a", "b$^$"]
    assert to_png(chart).startswith(b"\x89PNG")
