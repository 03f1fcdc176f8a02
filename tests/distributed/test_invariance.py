"""Two processes train the same weights as one, and report the same."""

import pytest

from tests.distributed.invariance_runs import SCENARIOS, run_scenarios
from tests.distributed.launcher import results_of
from tests.helpers import exact_model, largest_difference, weights


@pytest.fixture(scope="module")
def alone():
    return run_scenarios(num_processes=1)


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    return results_of("invariance_runs", tmp_path_factory.mktemp("distributed"))


@pytest.mark.parametrize("name", SCENARIOS)
def test_same_weights(name, alone, together):
    assert largest_difference(alone[name]["weights"], weights(exact_model())) > 0.05
    assert largest_difference(alone[name]["weights"], together[name]["weights"]) < 1e-6


@pytest.mark.parametrize("name", SCENARIOS)
def test_same_metrics(name, alone, together):
    for expected, actual in zip(alone[name]["log_history"], together[name]["log_history"], strict=True):
        assert expected.keys() == actual.keys()
        for metric, value in expected.items():
            # Time and padding depend on the number of processes.
            if not metric.startswith(("step_time", "time/", "tokens_per_second/", "train_", "padding/")):
                assert actual[metric] == pytest.approx(value, rel=1e-5, abs=1e-6, nan_ok=True), metric


@pytest.mark.parametrize("name", SCENARIOS)
def test_tokens_of_all_processes_count(name, alone, together):
    def num_tokens(record: dict[str, float]) -> float:
        return record["tokens_per_second/rollout"] * record["time/rollout"]

    for expected, actual in zip(alone[name]["log_history"], together[name]["log_history"], strict=True):
        if "time/rollout" in expected:
            assert num_tokens(actual) == pytest.approx(num_tokens(expected), rel=0.02)  # the log is rounded


@pytest.mark.parametrize("name", [name for name, config in SCENARIOS.items() if config.get("log_completions")])
def test_same_completions_table(name, alone, together):
    assert len(alone[name]["tables"]) == 6
    assert {"kept", "all_wrong"} <= {status for table in alone[name]["tables"] for status in table["dynamic_sampling"]}
    for expected, actual in zip(alone[name]["tables"], together[name]["tables"], strict=True):
        # Kept and dropped rows have the extra column that their reward function logged.
        assert [prompt.split("=")[0] for prompt in expected["prompt"]] == [f"p{n}" for n in expected["number"]]
        assert expected.keys() == actual.keys()
        for column, values in expected.items():
            is_float = column in ("advantage", "correct_and_logged")
            assert actual[column] == (pytest.approx(values, nan_ok=True) if is_float else values), column


@pytest.mark.parametrize("name", SCENARIOS)
def test_same_generation_calls(name, alone, together):
    assert alone[name]["num_rows"] == together[name]["num_rows"]


def test_a_scenario_needs_padding_rows(alone):
    statuses = alone["partial with padding rows"]["tables"][0]["dynamic_sampling"]
    assert statuses.count("kept") == 9
