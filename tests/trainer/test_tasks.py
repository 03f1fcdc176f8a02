"""Problems of several tasks in one data set, each with a reward of its own that is None for the others."""

import math
from collections import Counter
from typing import Any

import pandas as pd
import pytest
import torch

from dapo_trl import DAPOConfig, DAPOTrainer
from dapo_trl.checks.returned_rewards import RewardValueError
from dapo_trl.commands.recipe_parser import RecipeParser
from dapo_trl.reporting.samples import disagreements
from dapo_trl.sampling.groups import filter_values

from ..helpers import train, weights
from ..scripted_groups import ALL_RIGHT, ALL_WRONG, MIXED, ScriptedGroups, deciding, prompts_of, read_table


NAN = math.nan
BOTH = {"dynamic_sampling_metric": ["math_task", "code_task"]}


def is_math(prompt: str) -> bool:
    """Prompts of even numbers are of one task, odd ones of the other."""
    return int(prompt[1:]) % 2 == 0


def math_task(prompts, completions, **kwargs) -> list[float | None]:
    values = deciding(completions)
    return [value if is_math(prompt) else None for prompt, value in zip(prompts, values, strict=True)]


def code_task(prompts, completions, **kwargs) -> list[float | None]:
    values = deciding(completions)
    return [None if is_math(prompt) else value for prompt, value in zip(prompts, values, strict=True)]


TASKS = [math_task, code_task]


def train_on(groups, config: dict[str, Any] | None = None, **arguments) -> DAPOTrainer:
    fields = {"max_steps": 1, "shuffle_dataset": False, "learning_rate": 1e-2, "log_completions": True}
    arguments = {"reward_funcs": TASKS, "rollout_func": ScriptedGroups(groups)} | arguments
    return train(DAPOTrainer, fields | (config or {}), train_dataset=prompts_of(groups), **arguments)


def fates(trainer: DAPOTrainer) -> dict[str, str]:
    return {row["prompt"]: row["dynamic_sampling"] for row in read_table(trainer.args.output_dir, 1)}


def warnings_with(caplog, text: str) -> list[str]:
    return [record.message for record in caplog.records if text in record.message]


# The filter value of a row


def test_the_first_listed_reward_that_scores_a_row_decides():
    rewards = torch.tensor([[1.0, NAN, 5.0], [NAN, -1.0, 5.0], [0.5, 0.25, 5.0], [NAN, NAN, 5.0]])
    assert filter_values(rewards, [0, 1]).tolist()[:3] == [1.0, -1.0, 0.5]
    assert filter_values(rewards, [1, 0]).tolist()[:3] == [1.0, -1.0, 0.25]
    assert filter_values(rewards, [0, 1])[3].isnan()
    assert filter_values(rewards, [2]).tolist() == [5.0] * 4


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], None),
        (["--dynamic_sampling_metric", "math_task"], ["math_task"]),
        (["--dynamic_sampling_metric", "math_task", "code_task"], ["math_task", "code_task"]),
    ],
)
def test_on_the_command_line(words, expected):
    (config,) = RecipeParser((DAPOConfig,)).parse_args_and_config(["--use_cpu", "--bf16", "false", *words])
    assert config.dynamic_sampling_metric == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("math_task", "math_task"), ("[math_task, code_task]", ["math_task", "code_task"]), ("null", None)],
)
def test_in_a_recipe(text, expected, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"use_cpu: true\nbf16: false\ndynamic_sampling_metric: {text}\n")
    (config,) = RecipeParser((DAPOConfig,)).parse_args_and_config(["--config", str(recipe)])
    assert config.dynamic_sampling_metric == expected


# In a run


def test_groups_of_both_tasks_are_trained_on(caplog):
    # p00, p02 are of one task, p01, p03 of the other.
    trainer = train_on([ALL_WRONG, MIXED, MIXED, ALL_RIGHT], BOTH)
    assert fates(trainer) == {"p00": "all_wrong", "p01": "kept", "p02": "kept", "p03": "all_correct"}
    (record, _) = trainer.state.log_history
    assert record["dynamic_sampling/frac_unscorable"] == 0.0
    assert record["frac_correct"] == 0.5  # 4 * 0 + 2 + 2 + 4 of 16
    assert record["rewards/math_task/mean"] == -0.5  # -1 * 4 and 0
    assert record["rewards/code_task/mean"] == 0.5
    assert not warnings_with(caplog, "filter rewards") and not warnings_with(caplog, "unscorable")

    # The same as one function that scores everything.
    alone = train_on([ALL_WRONG, MIXED, MIXED, ALL_RIGHT], reward_funcs=deciding)
    assert torch.equal(weights(trainer.model), weights(alone.model))


def test_a_rollout_of_one_task_leaves_no_nan_in_the_log():
    trainer = train_on({1: MIXED, 3: MIXED}, BOTH)
    values = [value for log in trainer.state.log_history for value in log.values() if isinstance(value, float)]
    assert values and not any(map(math.isnan, values))


def test_a_constant_reward_is_told_for_its_task_alone(caplog):
    def brevity(completions, **kwargs):
        return [-len(completion) / 100 for completion in completions]

    groups = {0: ALL_WRONG, 1: MIXED, 2: ALL_WRONG, 3: MIXED}
    train_on(groups, BOTH, reward_funcs=[*TASKS, brevity])
    (warning,) = warnings_with(caplog, "no group to train on")
    assert "'math_task' is -1.0 for all completions of this rollout that it scores" in warning


def test_a_missing_name_is_told_in_the_first_rollout(caplog):
    config = {"dynamic_sampling_metric": "math_task", "max_steps": 2, "soft_punish_cache": 4}
    trainer = train_on([MIXED] * 12, config)
    assert Counter(fates(trainer).values())["unscorable"] > 0
    (warning,) = warnings_with(caplog, "The filter rewards")
    assert "The filter rewards ['math_task'] return None for " in warning
    assert "['code_task'] score them" in warning
    assert "(dynamic_sampling_metric: [math_task, code_task])" in warning
    (alarm,) = warnings_with(caplog, "groups are unscorable")
    assert "Rollout 1: " in alarm and "name them in dynamic_sampling_metric too" in alarm


def test_it_is_told_without_dynamic_sampling_too(caplog):
    groups = [ALL_RIGHT, MIXED, MIXED, MIXED]  # math_task is constant, the sum of the rewards is not
    train_on(groups, {"dynamic_sampling_metric": "math_task", "dynamic_sampling": False})
    assert len(warnings_with(caplog, "['code_task'] score them")) == 1
    assert not warnings_with(caplog, "no group to train on")


def test_what_no_function_scores_is_the_alarms_affair(caplog):
    train_on([MIXED] * 4, {"dynamic_sampling_metric": "math_task"}, reward_funcs=[math_task])
    assert not warnings_with(caplog, "The filter rewards")
    assert len(warnings_with(caplog, "groups are unscorable")) == 1


def test_two_that_score_the_same_row_are_told_once(caplog):
    def brevity(completions, **kwargs):
        return [-len(completion) / 100 for completion in completions]

    config = {"dynamic_sampling_metric": ["deciding", "brevity"], "max_steps": 2}
    trainer = train_on([ALL_WRONG, MIXED, ALL_RIGHT, MIXED, MIXED, MIXED], config, reward_funcs=[brevity, deciding])
    (warning,) = warnings_with(caplog, "score the same completion")
    assert "(100% of this rollout): 'deciding' decides there" in warning and "before ['brevity']" in warning
    assert fates(trainer)["p00"] == "all_wrong"  # although brevity differs


def test_evaluation_knows_all_tasks():
    config = {"eval_strategy": "steps", "eval_steps": 1, "num_generations_eval": 4}
    arguments = {"eval_dataset": prompts_of({4: ["R", "R", "W", "R"], 5: ["W", "W", "R", "W"]})}
    groups = {0: MIXED, 1: MIXED, 2: MIXED, 3: MIXED, 4: ["R", "R", "W", "R"], 5: ["W", "W", "R", "W"]}
    both = train_on(groups, config | BOTH, **arguments)
    (record,) = [log for log in both.state.log_history if "eval_reward" in log]
    assert (record["eval_avg@4"], record["eval_num_unscorable"]) == (0.5, 0.0)  # 3/4 and 1/4
    one = train_on(groups, config | {"dynamic_sampling_metric": "code_task"}, **arguments)
    (record,) = [log for log in one.state.log_history if "eval_reward" in log]
    assert (record["eval_avg@4"], record["eval_num_unscorable"]) == (0.25, 1.0)


def test_the_best_of_nothing_is_an_error():
    config = {"eval_strategy": "steps", "eval_steps": 1, "num_generations_eval": 4}
    config |= {"save_strategy": "steps", "save_steps": 1, "load_best_model_at_end": True}
    config |= {"dynamic_sampling_metric": "code_task"}
    message = r"metric_for_best_model='eval_avg@4' is unknown: the filter rewards \['code_task'\] return None"
    with pytest.raises(RewardValueError, match=message):
        train_on([MIXED] * 8, config, eval_dataset=prompts_of({4: MIXED, 6: MIXED}))


def test_the_report_reads_the_reward_of_each_row():
    table = pd.DataFrame(
        {
            "prompt": ["a", "b"],
            "completion": ["1", "2"],
            "math_task": [1.0, NAN],
            "code_task": [NAN, -1.0],
            "answer": ["7", "8"],
            "gold": ["7", "8"],  # the second one reads like the gold and counts as wrong
        }
    )
    assert disagreements(table, BOTH)["prompt"].tolist() == ["b"]
    assert disagreements(table, {"dynamic_sampling_metric": "math_task"}).empty
