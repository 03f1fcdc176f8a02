"""The figures at the top."""

from dapo_trl.reporting.highlights import format_seconds, highlights
from dapo_trl.reporting.runs import load_runs
from tests.reporting.made_up import training_log, write_run


def found(paths) -> dict[str, tuple[str, str]]:
    (group,) = load_runs(paths)
    return {highlight.label: (highlight.value, highlight.detail) for highlight in highlights(group)}


def run(path, final: float, num_rollouts: int = 20):
    logs = [
        training_log(i, **{"reward": 0.0, "dynamic_sampling/acceptance_rate": i / 20, "time/rollout": 30.0})
        for i in range(1, num_rollouts - 1)
    ]
    logs += [training_log(i, reward=final, **{"time/rollout": 30.0}) for i in (num_rollouts - 1, num_rollouts)]
    evaluation = {"step": 40, "rollout": 20, "eval_avg@4": final, "eval_avg@4_low": 0.25, "eval_avg@4_high": 1.0}
    first = {**evaluation, "step": 20, "rollout": 10, "eval_avg@4": 0.0}
    return write_run(path, [*logs, first, evaluation])


def test_one_run(tmp_path):
    assert found([run(tmp_path / "a", final=0.5)]) == {
        "Final reward": ("0.500", ""),  # the last two of twenty rollouts
        "Final accuracy": ("–", ""),
        "Evaluation avg@4": ("50.0%", "95%: 25.0% to 100.0%"),  # the last one
        "Acceptance": ("47.5%", ""),
        "Generated per trained": ("–", ""),
        "Rollouts": ("20", ""),
        "Time": ("10 min 0 s", ""),
    }


def test_seeds_have_mean_and_range(tmp_path):
    figures = found([run(tmp_path / "a-seed0", 0.5), run(tmp_path / "a-seed1", 0.75, num_rollouts=10)])
    assert figures["Final reward"] == ("0.625", "0.500 to 0.750")
    assert figures["Rollouts"] == ("15", "10 to 20")
    assert figures["Time"] == ("7 min 30 s", "5 min 0 s to 10 min 0 s")


def test_no_interval_over_seeds_if_one_has_none(tmp_path):
    without = {"step": 40, "rollout": 20, "eval_avg@4": 0.0}
    runs = [run(tmp_path / "a-seed0", 0.5), write_run(tmp_path / "a-seed1", [training_log(20, reward=0.0), without])]
    assert found(runs)["Evaluation avg@4"] == ("25.0%", "")


def test_seconds_are_readable():
    texts = [format_seconds(seconds) for seconds in (0.4, 59.6, 3725, 200000)]
    assert texts == ["0 s", "1 min 0 s", "1 h 2 min", "2 d 7 h"]
