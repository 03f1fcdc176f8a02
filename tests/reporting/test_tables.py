"""Tables of key figures, settings and evaluations."""

import json

import pytest

from dapo_trl.evaluation.summary import SummaryError
from dapo_trl.reporting.runs import load_runs
from dapo_trl.reporting.tables import evaluation_tables, find_summaries, key_figures, settings_table
from tests.reporting.synthetic_runs import rising_run, summary, training_log, write_run


# Key figures


def long_run(path, final: float, num_rollouts: int = 20):
    logs = [
        training_log(i, **{"reward": 0.0, "dynamic_sampling/acceptance_rate": i / 20, "time/rollout": 30.0})
        for i in range(1, num_rollouts - 1)
    ]
    logs += [training_log(i, reward=final, **{"time/rollout": 30.0}) for i in (num_rollouts - 1, num_rollouts)]
    evaluations = [{"step": 2 * i, "rollout": i, "eval_avg@4": i * final / 10, "eval_reward": 1.0} for i in (5, 10)]
    return write_run(path, [*logs, *evaluations])


def test_key_figures_of_one_run(tmp_path):
    (runs,) = load_runs([long_run(tmp_path / "a", final=0.5)]).values()
    assert key_figures(runs) == {
        "Rollouts": "20",
        "Final reward": "0.500",  # the last two of twenty rollouts
        "Acceptance": "0.475",
        "Time": "0:10:00",
        "Evaluation: avg@4": "0.500",
    }


def test_key_figures_of_seeds_are_mean_and_range(tmp_path):
    (runs,) = load_runs([long_run(tmp_path / "a-seed0", 0.5), long_run(tmp_path / "a-seed1", 0.75, 10)]).values()
    assert key_figures(runs) == {
        "Rollouts": "15 (10 to 20)",
        "Final reward": "0.625 (0.500 to 0.750)",
        "Acceptance": "0.350 (0.225 to 0.475)",
        "Time": "0:07:30 (0:05:00 to 0:10:00)",
        "Evaluation: avg@4": "0.625 (0.500 to 0.750)",
    }


# Settings


def settings_of(tmp_path, settings: dict[str, dict | None]) -> dict[str, dict[str, str]]:
    runs = [write_run(tmp_path / name, [training_log(1, reward=0.1)], values) for name, values in settings.items()]
    return settings_table(load_runs(runs)).to_dict("index")


def test_settings_that_differ(tmp_path):
    dapo = {"epsilon_high": 0.28, "beta": 0.0, "output_dir": "a", "hub_token": "x", "reward_weights": [1.0]}
    grpo = {"epsilon_high": 0.2, "beta": 0.0, "seed": 0, "output_dir": "b", "hub_token": "y"}
    settings = {"dapo-seed0": dapo | {"seed": 0}, "dapo-seed1": dapo | {"seed": 1}, "grpo": grpo, "other": None}
    assert settings_of(tmp_path, settings) == {
        "epsilon_high": {"dapo": "0.28", "grpo": "0.2", "other": "unknown"},
        "reward_weights": {"dapo": "[1.0]", "grpo": "null", "other": "unknown"},
    }


def test_settings_of_one_run_that_are_not_the_default(tmp_path):
    run = write_run(tmp_path / "a", [training_log(1, reward=0.1)])
    settings = {"beta": 0.04, "epsilon": 0.2, "dataset_name": "sums", "dataset_config": None, "output_dir": "a"}
    defaults = {"beta": 0.0, "epsilon": 0.2, "dataset_name": None}
    (run / "settings.json").write_text(json.dumps({"settings": settings, "defaults": defaults}))
    assert settings_table(load_runs([run])).to_dict("index") == {"beta": {"a": "0.04"}, "dataset_name": {"a": "sums"}}


def test_seeds_that_differ_in_more_than_their_seed(tmp_path):
    settings = {f"a-seed{seed}": {"seed": seed, "beta": 0.1 * seed, "use_vllm": True} for seed in (0, 1)}
    assert settings_of(tmp_path, settings)["beta"] == {"a": "0.0 or 0.1"}


# Evaluations


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_given_evaluations_come_first_and_those_of_runs_are_found(tmp_path):
    run = rising_run(tmp_path / "dapo", [0.1])
    write(run / "evaluation" / "summary-sums.json", summary("x", [[1, 1], [1, 1]]))
    write(run / "checkpoint-16" / "evaluation" / "summary-sums.json", summary("x", [[1, 0], [0, 1]]))
    write(run / "checkpoint-8" / "evaluation" / "summary-sums.json", summary("x", [[1, 0], [0, 0]]))
    given = write(tmp_path / "before.json", summary("/models/before", [[0, 0], [0, 1]]))
    (table,) = evaluation_tables(find_summaries(load_runs([run]), [given]))
    assert table.title == "sums"
    assert table.subtitle == "2 problems, k = 2, temperature 1, top_p 0.7, answer rule auto-1"
    assert table.rows.index.tolist() == ["before", "dapo checkpoint-8", "dapo checkpoint-16", "dapo"]
    assert table.rows.columns.tolist() == ["avg@2", "pass@2", "avg@k - first", "truncated", "tokens"]
    quarter, half, all_right = "25.0 (12.5 to 100.0)", "50.0 (25.0 to 100.0)", "100.0 (50.0 to 100.0)"
    assert table.rows["avg@2"].tolist() == [quarter, quarter, half, all_right]
    # Gains of the two problems: 1/2 and -1/2, then 1/2 and 0, then 1 and 1/2.
    assert [text.split(" ")[0] for text in table.rows["avg@k - first"]] == ["", "+0.0", "+25.0", "+75.0"]
    assert table.rows["avg@k - first"].iloc[2] == "+25.0 (+0.0 to +50.0)"
    assert table.rows[["truncated", "tokens"]].iloc[0].tolist() == ["12.5%", "1,234"]


def test_other_problems_are_another_table():
    both = [("a", summary("a", [[1, 0]])), ("b", summary("b", [[1, 0]], data="AIME"))]
    assert [(table.title, len(table.rows.columns)) for table in evaluation_tables(both)] == [("sums", 4), ("AIME", 4)]


def test_other_prompts_cannot_be_compared(caplog):
    other = summary("b", [[1, 1]])
    other["data"]["prompts_hash"] = "other"
    (table,) = evaluation_tables([("a", summary("a", [[1, 0]])), ("b", other)])
    assert table.rows["avg@k - first"].tolist() == ["", ""]
    assert "No difference of b: The first was asked with" in caplog.text


def test_a_damaged_summary_is_an_error_only_if_given(tmp_path, caplog):
    run = rising_run(tmp_path / "dapo", [0.1])
    broken = write(run / "evaluation" / "summary-sums.json", "{")
    assert find_summaries(load_runs([run]), []) == []
    assert "cannot be read as a summary" in caplog.text
    with pytest.raises(SummaryError, match="cannot be read as a summary"):
        find_summaries(load_runs([run]), [broken])
