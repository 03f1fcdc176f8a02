"""Dynamic sampling through `trainer.train()`: which groups are trained on, and what is said about the others."""

import math
from typing import Any

import pytest
import torch
from trl import GRPOTrainer

from dapo_trl import DAPOTrainer

from ..helpers import train, weights
from ..scripted_groups import (
    ALL_RIGHT,
    ALL_WRONG,
    MISSING,
    MIXED,
    Groups,
    ScriptedGroups,
    deciding,
    prompts_of,
    read_table,
)


def train_on(groups: Groups, config: dict[str, Any] | None = None, **arguments) -> DAPOTrainer:
    """Trains one rollout of two groups of four, drawn in data order."""
    fields = {"max_steps": 1, "shuffle_dataset": False, "learning_rate": 1e-2}
    arguments = {"reward_funcs": deciding, "rollout_func": ScriptedGroups(groups)} | arguments
    return train(DAPOTrainer, fields | (config or {}), train_dataset=prompts_of(groups), **arguments)


def kept_prompts(trainer: DAPOTrainer, step: int = 1) -> list[str]:
    """Prompts of the rows trained on, in the order of the completions table."""
    rows = read_table(trainer.args.output_dir, step)
    return [row["prompt"] for row in rows if row["dynamic_sampling"] == "kept"]


@pytest.mark.parametrize(
    ("dropped", "reason"),
    [
        (ALL_RIGHT, "all_correct"),
        (ALL_WRONG, "all_wrong"),
        (["1", "1", "1", "1"], "all_correct"),  # equal floats, whose standard deviation need not be zero
        (["0", "00", "0", "000"], "all_wrong"),
        (MISSING, "unscorable"),
        (["N", "N", "N", "N"], "unscorable"),
    ],
)
def test_only_informative_groups_are_trained_on(dropped, reason):
    second = ["3", "33", "3", "1"]  # differs in the filter reward, all above zero
    config = {"log_completions": True, "correct_threshold": 0.0}
    trainer = train_on([dropped, MIXED, second, dropped, dropped], config)
    assert kept_prompts(trainer) == ["p01"] * 4 + ["p02"] * 4
    table = read_table(trainer.args.output_dir, 1)
    fates = [(row["prompt"], row["dynamic_sampling"]) for row in table[8::4]]
    assert fates[0] == ("p00", reason)
    assert {fate for _, fate in fates} == {reason}

    # The same weights as if the others had never been drawn.
    alone = train_on({1: MIXED, 2: second})
    assert torch.equal(weights(trainer.model), weights(alone.model))


def test_groups_are_taken_in_draw_order_over_rounds_and_calls():
    groups = [ALL_WRONG, ALL_WRONG, MIXED, ALL_RIGHT, ALL_WRONG, MIXED, MIXED, MIXED]
    rollouts = ScriptedGroups(groups)
    trainer = train_on(groups, {"log_completions": True}, rollout_func=rollouts)
    # Round 1 asks for the two prompts missing, round 2 for six (three times
    # the rollout), in calls of two as TRL's own.
    assert rollouts.num_prompts == [2, 2, 2, 2]
    assert kept_prompts(trainer) == ["p02"] * 4 + ["p05"] * 4
    table = read_table(trainer.args.output_dir, 1)
    assert [(row["prompt"], row["dynamic_sampling"]) for row in table[8::4]] == [
        ("p00", "all_wrong"),
        ("p01", "all_wrong"),
        ("p03", "all_correct"),
        ("p04", "all_wrong"),
        ("p06", "surplus"),
        ("p07", "surplus"),
    ]


def test_completions_table_holds_rewards_and_advantages():
    trainer = train_on([ALL_WRONG, MIXED, MIXED, MIXED], {"log_completions": True})
    first, *_ = table = read_table(trainer.args.output_dir, 1)
    # Rewards 1, -1, 1, -1 have mean 0 and standard deviation sqrt(4 / 3); TRL adds 1e-4 to it.
    assert first["advantage"] == pytest.approx(1 / (math.sqrt(4 / 3) + 1e-4))
    assert [row["deciding"] for row in table[:4]] == [1.0, -1.0, 1.0, -1.0]
    assert [row["completion"] for row in table[:4]] == MIXED
    assert all(math.isnan(row["advantage"]) for row in table[8:])


def test_what_rewards_log_stays_with_its_row():
    num_calls = []

    def first_character(completions, log_extra, log_metric, **kwargs):
        num_calls.append(len(completions))
        log_extra("first", [completion[0] for completion in completions])
        log_metric("calls", float(len(num_calls)))
        return deciding(completions)

    groups = [ALL_WRONG, MIXED, ALL_RIGHT, MISSING, ALL_RIGHT, ALL_RIGHT]
    # Only one of the two informative groups is found in two rounds and several calls.
    config = {"log_completions": True, "max_rounds": 2}
    trainer = train_on(groups, config, reward_funcs=first_character)
    table = read_table(trainer.args.output_dir, 1)
    assert len(table) == sum(num_calls)
    assert [row["first"] for row in table] == [row["completion"][0] for row in table]
    (record, _) = trainer.state.log_history
    assert record["calls"] == sum(range(1, len(num_calls) + 1)) / len(num_calls)


def test_extra_fields_of_a_rollout_reach_the_rewards_of_their_row():
    class WithFields(ScriptedGroups):
        def __call__(self, prompts, trainer):
            output = super().__call__(prompts, trainer)
            return output | {"num_tokens": [len(ids) for ids in output["completion_ids"]], "source": "script"}

    def checks(completions, completion_ids, num_tokens, source, **kwargs):
        assert num_tokens == [len(ids) for ids in completion_ids]
        assert source == ["script"] * len(completions)
        return deciding(completions)

    groups = [ALL_WRONG, MIXED, MIXED, MIXED]
    trainer = train_on(groups, reward_funcs=checks, rollout_func=WithFields(groups))
    assert trainer.state.global_step == 1


def test_evaluation_has_a_place_in_the_table():
    groups = [MIXED, ALL_WRONG, MIXED, MIXED]
    config = {"log_completions": True, "eval_strategy": "steps", "eval_steps": 1, "max_steps": 2}
    trainer = train_on(groups, config, eval_dataset=prompts_of({1: ALL_WRONG, 2: MIXED}))
    evaluated = [record for record in trainer.state.log_history if "eval_reward" in record]
    # Every group is evaluated, informative or not: -1 and 0.
    assert [record["eval_reward"] for record in evaluated] == [-0.5, -0.5]
    fates = {row["dynamic_sampling"] for row in read_table(trainer.args.output_dir, 1)}
    assert "evaluation" in fates


def test_the_filter_reward_decides_although_the_shaped_reward_varies():
    # Completions of 8 and more tokens are punished: the wrong ones differ in their total reward, but teach nothing.
    shaped = {"soft_punish_cache": 12, "log_completions": True}
    varying = ["W", "W" * 8, "W" * 12, "W" * 15]
    trainer = train_on([varying, MIXED, MIXED, varying, varying], shaped)
    assert kept_prompts(trainer) == ["p01"] * 4 + ["p02"] * 4
    table = read_table(trainer.args.output_dir, 1)
    # (16 - 12 - 9) / 12 for 8 characters and <eos>, and so on.
    assert [row["soft_overlong_punishment"] for row in table[8:12]] == pytest.approx([0.0, -5 / 12, -9 / 12, -1.0])
    assert torch.equal(weights(trainer.model), weights(train_on({1: MIXED, 2: MIXED}, shaped).model))


def brevity(completions: list[str], **kwargs) -> list[float]:
    return [-len(completion) / 10 for completion in completions]


def opposite(completions: list[str], **kwargs) -> list[float]:
    return [-value for value in deciding(completions)]


def test_the_named_reward_decides_among_several():
    functions = {"reward_funcs": [brevity, deciding]}
    named = {"dynamic_sampling_metric": "deciding", "log_completions": True}
    trainer = train_on([ALL_WRONG, MIXED, ALL_RIGHT, MIXED, MIXED], named, **functions)
    assert kept_prompts(trainer) == ["p01"] * 4 + ["p03"] * 4


def test_a_constant_total_reward_does_not_hide_an_informative_group():
    functions = {"reward_funcs": [opposite, deciding]}
    named = {"dynamic_sampling_metric": "deciding", "log_completions": True}
    trainer = train_on([ALL_WRONG, MIXED, MIXED], named, **functions)
    assert kept_prompts(trainer) == ["p01"] * 4 + ["p02"] * 4
    (record, _) = trainer.state.log_history
    assert record["frac_reward_zero_std"] == 1.0


def test_switched_off_every_group_is_trained_on_as_by_grpo():
    groups = [ALL_WRONG, MIXED]
    off = {"dynamic_sampling": False, "balance_micro_batches": False}
    trainer = train_on(groups, off)
    plain = train(
        GRPOTrainer,
        {"max_steps": 1, "shuffle_dataset": False, "learning_rate": 1e-2, "epsilon_high": 0.28},
        train_dataset=prompts_of(groups),
        reward_funcs=deciding,
        rollout_func=ScriptedGroups(groups),
    )
    assert torch.equal(weights(trainer.model), weights(plain.model))


# Metrics


def test_metrics_describe_all_generated_rows():
    groups = [
        ["R", "WW"],  # kept: 2 and 3 tokens with <eos>
        ["W" * 7, "W" * 9],  # all wrong: 8 and 10 tokens, punished by 1/4 and 3/4
        ["RRR", "RRR"],  # all correct: 4 tokens each
        ["R", "NW"],  # unscorable: 2 and 3 tokens
        ["WWW", "R" + "W" * 10 + "~"],  # kept: 4 tokens, and 11 without <eos>, punished by 1
        *[["R", "R"]] * 5,  # never drawn
    ]
    rollouts = ScriptedGroups(groups)
    trainer = train_on(
        groups,
        {
            "num_generations": 2,
            "per_device_train_batch_size": 2,
            "max_completion_length": 11,
            "soft_punish_cache": 4,  # grows from 7 tokens on
        },
        rollout_func=rollouts,
    )
    # Round 1: 2 prompts, one of them informative. Acceptance (1 + 1) / (2 + 1); one group missing: 3 prompts.
    assert rollouts.num_prompts == [2, 2, 1]
    (record, _) = trainer.state.log_history
    expected = {
        "rewards/deciding/mean": 1 / 9,  # five right, four wrong, one missing
        "rewards/deciding/std": math.sqrt((9 - 1 / 9) / 8),
        "rewards/soft_overlong_punishment/mean": -0.2,  # -(0.25 + 0.75 + 1) / 10
        # Sum of squares 0.0625 + 0.5625 + 1 less 10 * 0.04
        "rewards/soft_overlong_punishment/std": math.sqrt(1.225 / 9),
        # 1 - 1 | -1.25 - 1.75 | 1 + 1 | 1 + 0 | -1 + 0: the missing value counts nothing beside the punishment
        "reward": -0.1,
        # Sum of squares 1 + 1 + 1.5625 + 3.0625 + 1 + 1 + 1 + 0 + 1 + 0 less 10 * 0.01
        "reward_std": math.sqrt(10.525 / 9),
        "frac_reward_zero_std": 1 / 5,
        "completions/mean_length": 5.1,  # 2 3 8 10 4 4 2 3 4 11
        "completions/min_length": 2,
        "completions/max_length": 11,
        "completions/clipped_ratio": 0.1,
        "completions/mean_terminated_length": 40 / 9,
        "completions/min_terminated_length": 2,
        "completions/max_terminated_length": 10,
        "overlong/frac_penalized": 0.3,
        "dynamic_sampling/rounds": 2,
        "dynamic_sampling/acceptance_rate": 0.4,
        "dynamic_sampling/frac_all_correct": 0.2,
        "dynamic_sampling/frac_all_wrong": 0.2,
        "dynamic_sampling/frac_unscorable": 0.2,
        "dynamic_sampling/num_surplus_groups": 0,
        "dynamic_sampling/generated_per_trained": 2.5,
        "dynamic_sampling/trained_reward": -0.25,  # (1 - 1 - 1 + 0) / 4
        "dynamic_sampling/epoch": 0.5,
        # Trained rows of 5, 6, 7, 14 tokens with their prompts of 3: 14 | 3 * 7
        "padding/efficiency": 32 / 35,
        "padding/max_micro_batch_tokens": 21,
        "num_tokens": 81,  # 51 of completions and 10 * 3 of prompts
    }
    assert {name: record[name] for name in expected} == pytest.approx(expected)
    assert {name.split("/")[0] for name in record} >= {"entropy", "clip_ratio"}


def test_metrics_cover_all_rollouts_since_the_last_log():
    groups = [MIXED, MIXED, ALL_WRONG, MIXED, MIXED, MIXED]
    trainer = train_on(groups, {"max_steps": 2, "logging_steps": 2})
    (record, _) = trainer.state.log_history
    # The first rollout draws 2 groups. The second draws 2, one of them all wrong, then 3, of which 2 are left over:
    # acceptance (0.7 * 2 + 1 + 1) / (0.7 * 2 + 2 + 1) = 0.77, and 2 prompts would yield 1.55 - 0.59 < 1 group.
    assert record["dynamic_sampling/rounds"] == 1.5
    assert record["dynamic_sampling/num_surplus_groups"] == 1.0
    assert record["dynamic_sampling/generated_per_trained"] == (1 + 2.5) / 2
    assert record["dynamic_sampling/acceptance_rate"] == pytest.approx((1 + 4 / 5) / 2)
    assert record["dynamic_sampling/epoch"] == 7 / 6


def test_overlong_fraction_without_dynamic_sampling():
    groups = [["R", "W" * 7, "R" * 9, "W"], MIXED]
    trainer = train_on(groups, {"dynamic_sampling": False, "max_completion_length": 11, "soft_punish_cache": 4})
    assert trainer.state.log_history[0]["overlong/frac_penalized"] == 2 / 8


# The alarm


def alarms(caplog) -> list[str]:
    return [record.message for record in caplog.records if "filter reward" in record.message]


def test_a_constant_filter_reward_raises_the_alarm(caplog):
    groups = [["W", "WW", "W" * 9, "W"]] * 4
    train_on(groups, {"soft_punish_cache": 12, "max_rounds": 1})
    (alarm,) = alarms(caplog)
    assert "The filter reward 'deciding' is -1.0 for all completions of this rollout" in alarm
    assert "dynamic_sampling_metric" in alarm


@pytest.mark.parametrize(
    ("groups", "fields"),
    [
        ([ALL_WRONG] * 4, {"max_rounds": 1}),  # the total reward is constant, too
        ([["W" * 9, "W", "W", "W"], MIXED, MIXED], {"soft_punish_cache": 12}),
    ],
)
def test_no_alarm_without_need(caplog, groups, fields):
    train_on(groups, fields)
    assert not alarms(caplog)
