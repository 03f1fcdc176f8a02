"""Graded rewards: what counts as correct is said by `correct_threshold`, or not at all."""

from typing import Any

import pandas as pd
import pytest

from dapo_trl import DAPOConfig, DAPOTrainer
from dapo_trl.checks.returned_rewards import RewardValueError
from dapo_trl.reporting.samples import disagreements

from ..helpers import BASE_CONFIG, train
from ..scripted_groups import ScriptedGroups, deciding, prompts_of, read_table


LOW = ["2", "2", "2", "2"]
HIGH = ["7", "77", "777", "7"]
SPREAD = ["7", "9", "2", "8"]
"""Three of four are above 0.5."""
ABOVE = ["7", "99", "8", "8"]
"""All are, and some are better than others."""

CORRECTNESS = (
    "frac_correct",
    "completions/mean_correct_length",
    "dynamic_sampling/frac_all_correct",
    "dynamic_sampling/frac_all_wrong",
)
EVALUATED = {"eval_strategy": "steps", "eval_steps": 1, "num_generations_eval": 4}


def train_on(groups, config: dict[str, Any] | None = None, **arguments) -> DAPOTrainer:
    fields = {"max_steps": 1, "shuffle_dataset": False, "log_completions": True}
    arguments = {"reward_funcs": deciding, "rollout_func": ScriptedGroups(groups)} | arguments
    return train(DAPOTrainer, fields | (config or {}), train_dataset=prompts_of(groups), **arguments)


def fates(trainer: DAPOTrainer) -> dict[str, str]:
    return {row["prompt"]: row["dynamic_sampling"] for row in read_table(trainer.args.output_dir, 1)}


def warnings_of(caplog) -> list[str]:
    return [record.message for record in caplog.records if "is graded" in record.message]


def test_a_threshold_says_what_is_correct(caplog):
    trainer = train_on([LOW, SPREAD, HIGH, ABOVE], {"correct_threshold": 0.5})
    # What differs is trained on, on whichever side of the threshold.
    assert fates(trainer) == {"p00": "all_wrong", "p01": "kept", "p02": "all_correct", "p03": "kept"}
    (record, _) = trainer.state.log_history
    assert record["frac_correct"] == 11 / 16
    # 7 9 8 | 7 77 777 7 | 7 99 8 8, and <eos>
    assert record["completions/mean_correct_length"] == pytest.approx((6 + 2 + 3 + 4 + 2 + 2 + 3 + 2 + 2) / 11)
    assert record["dynamic_sampling/frac_all_correct"] == record["dynamic_sampling/frac_all_wrong"] == 0.25
    assert not warnings_of(caplog)


@pytest.mark.parametrize("off", [{}, {"dynamic_sampling": False}])
def test_without_a_threshold_no_accuracy_is_shown(off, caplog, capsys):
    groups = [LOW, SPREAD, HIGH, ABOVE]
    trainer = train_on(groups, {"max_steps": 2, **EVALUATED, **off}, eval_dataset=prompts_of({3: ABOVE}))
    logs = [name for log in trainer.state.log_history for name in log]
    assert not set(CORRECTNESS) & set(logs) and not any("avg@" in name for name in logs)
    assert "dynamic_sampling/frac_all_equal" in logs and "dynamic_sampling/acceptance_rate" in logs
    assert "accuracy" not in capsys.readouterr().out
    (warning,) = warnings_of(caplog)
    assert "The filter reward 'deciding' is graded (0.2, 0.7, " in warning and "Set correct_threshold" in warning
    if not off:
        assert fates(trainer)["p00"] == "all_equal"


def test_two_values_need_no_threshold(caplog):
    trainer = train_on([["0", "0", "0", "0"], ["0", "7", "0", "7"], ["0", "7", "7", "7"]])
    (record, _) = trainer.state.log_history
    assert record["frac_correct"] == pytest.approx(5 / 12)
    assert not warnings_of(caplog)


def test_tasks_of_different_values_are_not_graded(caplog):
    def of_zero(prompts, completions, **kwargs):
        return [
            None if prompt == "p01" else max(0.0, value)
            for prompt, value in zip(prompts, deciding(completions), strict=True)
        ]

    def of_minus_one(prompts, completions, **kwargs):
        return [
            value if prompt == "p01" else None for prompt, value in zip(prompts, deciding(completions), strict=True)
        ]

    config = {"dynamic_sampling_metric": ["of_zero", "of_minus_one"]}
    trainer = train_on([["R", "W", "R", "W"]] * 2, config, reward_funcs=[of_zero, of_minus_one])
    assert trainer.state.log_history[0]["frac_correct"] == 0.5
    assert not warnings_of(caplog)


def test_evaluation_counts_by_the_threshold():
    config = {"correct_threshold": 0.75, **EVALUATED}
    trainer = train_on([SPREAD, ABOVE], config, eval_dataset=prompts_of({0: SPREAD, 1: ABOVE}))
    (record,) = [log for log in trainer.state.log_history if "eval_reward" in log]
    assert record["eval_avg@4"] == (2 / 4 + 3 / 4) / 2


def test_the_best_by_an_unknown_accuracy_is_refused_in_the_first_rollout():
    best = {"save_strategy": "steps", "save_steps": 1, "load_best_model_at_end": True}
    message = "metric_for_best_model='eval_avg@4' cannot be computed. .* is graded .* Set correct_threshold"
    with pytest.raises(RewardValueError, match=message):
        train_on([SPREAD, ABOVE], {**EVALUATED, **best}, eval_dataset=prompts_of({0: SPREAD}))
    config = {**EVALUATED, **best, "correct_threshold": 0.5}
    trainer = train_on([SPREAD, ABOVE], config, eval_dataset=prompts_of({0: SPREAD}))
    assert trainer.state.best_metric == 0.75


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_threshold_is_a_number(value):
    with pytest.raises(ValueError, match=f"correct_threshold={value} is not a finite number"):
        DAPOConfig(**BASE_CONFIG | {"correct_threshold": value, "warmup_rollouts": 0})


def test_the_report_reads_the_threshold():
    table = pd.DataFrame({"prompt": ["a"], "completion": ["1"], "judge": [0.4], "answer": ["7"], "gold": ["7"]})
    for threshold, disagrees in ((None, False), (0.3, False), (0.5, True)):
        assert len(disagreements(table, {"correct_threshold": threshold})) == disagrees
