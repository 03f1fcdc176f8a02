"""When a run warns, of what, how often, and how it stops."""

import logging

import pytest
import torch
from accelerate import Accelerator
from transformers import TrainerControl, TrainerState

from dapo_trl import DAPOTrainer
from dapo_trl.monitoring import alarms
from dapo_trl.monitoring.alarms import AlarmCallback, AlarmError, default_alarms
from tests.helpers import build, train, weights


def run(callback: AlarmCallback, records: list[dict[str, float]], first: int = 1) -> None:
    """One log per rollout of a single optimizer step."""
    for step, logs in enumerate(records, start=first):
        state = TrainerState(global_step=step, is_world_process_zero=True)
        callback.on_log(None, state, TrainerControl(), logs={"loss": 0.0, **logs})


def raised_by(records: list[dict[str, float]]) -> list[str]:
    """Names of the alarms that were raised last."""
    callback = AlarmCallback(default_alarms(2, learning_rate=1e-6, usual_difference=0.06), 1)
    run(callback, records)
    return callback.raised


def warnings_in(caplog) -> list[str]:
    """What was warned of, without the rank that accelerate puts first."""
    return [
        record.getMessage().removeprefix("[RANK 0] ") for record in caplog.records if record.levelno == logging.WARNING
    ]


def entropies(*values: float) -> list[dict[str, float]]:
    return [{"entropy": value} for value in values]


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        (entropies(0.5, 0.5, 0.5, 0.5, 0.5, 0.08, 0.08, 0.08), ["entropy_collapse"]),  # below a fifth of 0.5
        (entropies(0.5, 0.5, 0.5, 0.5, 0.5, 0.11, 0.11, 0.11), []),
        (entropies(4.0, 4.0, 4.0, 4.0, 4.0, 0.5, 0.5, 0.5), []),  # much less than at random, but not small
        (entropies(0.05, 0.05, 0.05, 0.05, 0.05, 0.015, 0.015, 0.015), ["entropy_collapse"]),
        (entropies(0.05, 0.05, 0.05, 0.05, 0.05, 0.03, 0.03, 0.03), []),  # small from the beginning
        (entropies(0.5, 0.5, 0.5, 0.5, 0.5, 0.01, 0.01), []),  # too early to tell
        (entropies(0.5, 0.5, 0.5, 0.5, 0.5, 1.6, 1.6, 1.6), ["entropy_explosion"]),
        (entropies(0.5, 0.5, 0.5, 0.5, 0.5, 1.4, 1.4, 1.4), []),
        (entropies(0.1, 0.1, 0.1, 0.1, 0.1, 0.9, 0.9, 0.9), []),  # nine times, but of little
        ([{"dynamic_sampling/acceptance_rate": 0.09}], ["low_acceptance"]),
        ([{"dynamic_sampling/acceptance_rate": 0.1}], []),
        ([{"dynamic_sampling/acceptance_rate": rate} for rate in (0.2, 0.15, 0.05)], []),  # mean 0.13
        ([{"dynamic_sampling/frac_unscorable": 0.11}], ["many_unscorable"]),
        ([{"dynamic_sampling/frac_unscorable": 0.1}], []),
        ([{"completions/clipped_ratio": 0.31}], ["many_truncated"]),
        ([{"completions/clipped_ratio": 0.3}], []),
        ([{"frac_reward_zero_std": 1.0}] * 3, ["constant_rewards"]),
        ([{"frac_reward_zero_std": 1.0}] * 2, []),
        ([{"frac_reward_zero_std": 1.0}, {"frac_reward_zero_std": 0.9}, {"frac_reward_zero_std": 1.0}], []),
        ([{"verifier/frac_error": 0.004, "verifier/frac_timeout": 0.008}], ["verifier_failures"]),
        ([{"verifier/frac_error": 0.004, "verifier/frac_timeout": 0.005}], []),
        ([{"sampling/sampling_logp_difference/mean": 0.061}], ["sampler_mismatch"]),
        ([{"sampling/sampling_logp_difference/mean": 0.06}], []),
        ([{"sampling/sampling_logp_difference/mean": value} for value in (0.01, 0.01, 0.08)], ["sampler_mismatch"]),
        ([{"completions/frac_copied": 0.02, "completions/frac_distinct": 0.98}], ["copied_completions"]),
        ([{"completions/frac_copied": 0.01, "completions/frac_distinct": 0.5}], []),  # short answers, mostly
        ([{"clip_ratio/region_mean": 0.0, "learning_rate": 1e-6}] * 20, ["never_clipped"]),
        ([{"cispo_clip_ratio": 0.0, "learning_rate": 1e-6}] * 20, ["never_clipped"]),
        ([{"clip_ratio/region_mean": 0.0, "learning_rate": 1e-6}] * 19, []),
        ([{"clip_ratio/region_mean": 0.0, "learning_rate": 4e-7}] * 20, []),  # warm-up
        ([{"clip_ratio/region_mean": 1e-5, "learning_rate": 1e-6}] * 20, []),
        ([{"learning_rate": 1e-6}] * 20, []),  # a loss that does not clip
        (
            [{"completions/clipped_ratio": 0.9, "dynamic_sampling/acceptance_rate": 0.01}],
            ["low_acceptance", "many_truncated"],
        ),
    ],
)
def test_conditions(records, expected):
    assert raised_by(records) == expected


def test_with_one_optimizer_step_nothing_is_ever_clipped():
    assert "never_clipped" not in {alarm.name for alarm in default_alarms(1, learning_rate=1e-6)}


@pytest.mark.parametrize(
    ("records", "reason", "remedy"),
    [
        (entropies(*[0.5] * 5, *[0.01] * 3), "collapsed to 0.010 nats per token, from 0.500", "raise epsilon_high"),
        (entropies(*[0.5] * 5, *[2.0] * 3), "exploded to 2.000 nats per token, from 0.500", "lower learning_rate"),
        (
            [
                {
                    "dynamic_sampling/acceptance_rate": 0.05,
                    "dynamic_sampling/frac_all_correct": 0.15,
                    "dynamic_sampling/frac_all_wrong": 0.8,
                }
            ],
            "Only 5.0% of the generated groups carry a gradient: 15% are all right, 80% all wrong",
            "choose prompts",
        ),
        (
            [{"dynamic_sampling/frac_unscorable": 0.5}],
            "50% of the generated groups are unscorable: the filter reward of some completion is None",
            "name them in dynamic_sampling_metric too",
        ),
        ([{"completions/clipped_ratio": 0.4}], "40% of the completions are cut off", "raise max_completion_length"),
        ([{"frac_reward_zero_std": 1.0}] * 3, "last 3 rollouts all completions", "check the reward functions"),
        (
            [{"verifier/frac_error": 0.02, "verifier/frac_timeout": 0.1}],
            "failed on 2.0% of the answers and ran into its time-out on 10.0%",
            "raise the timeout of AccuracyReward",
        ),
        (
            [{"completions/frac_copied": 0.375}],
            "37.5% of the completions are copies of another one of their group",
            "takes the seeds of the requests",
        ),
        (
            [{"clip_ratio/region_mean": 0.0, "learning_rate": 1e-6}] * 20,
            "No token has been clipped in 20 rollouts",
            "raise learning_rate or updates_per_rollout",
        ),
    ],
)
def test_reason_and_remedy(records, reason, remedy, caplog):
    raised_by(records)
    (message,) = warnings_in(caplog)
    assert message.startswith(f"Rollout {len(records)}: ")
    assert reason in message and remedy in message


def truncated(num_rollouts: int) -> list[dict[str, float]]:
    return [{"completions/clipped_ratio": 0.9}] * num_rollouts


def test_once_in_fifty_rollouts(caplog):
    run(AlarmCallback(default_alarms(2, 1e-6), 1), truncated(101))
    assert [message.split(":")[0] for message in warnings_in(caplog)] == ["Rollout 1", "Rollout 51", "Rollout 101"]


def test_alarms_are_independent(caplog):
    records = [{"completions/clipped_ratio": 0.9}, {"dynamic_sampling/acceptance_rate": 0.01}]
    run(AlarmCallback(default_alarms(2, 1e-6), 1), records)
    assert [message.split()[2] for message in warnings_in(caplog)] == ["90%", "Only"]


def test_a_resumed_run_knows_what_was_before(caplog):
    history = [{"loss": 0.0, "step": step, **logs} for step, logs in enumerate(entropies(*[0.5] * 5), start=1)]
    history[2]["completions/clipped_ratio"] = 0.9
    callback = AlarmCallback(default_alarms(2, 1e-6), 1)
    callback.on_train_begin(None, TrainerState(global_step=5, log_history=history), TrainerControl())
    assert (callback.message, caplog.records) == (None, [])
    run(callback, [{"entropy": 0.01, "completions/clipped_ratio": 0.9}] * 3, first=6)
    assert [message.split(":")[0] for message in warnings_in(caplog)] == ["Rollout 8"]
    assert callback.raised == ["entropy_collapse"]


def test_history_does_not_grow():
    callback = AlarmCallback(default_alarms(2, 1e-6), 1)
    run(callback, entropies(*[0.5] * 5, *[0.4] * 200))
    assert len(callback._history) == 25
    assert alarms._entropies(callback._history) == pytest.approx((0.5, 0.4))


def test_only_the_main_process_decides():
    callback = AlarmCallback(default_alarms(2, 1e-6), 1, Accelerator(cpu=True))
    callback._stop_if_raised()
    run(callback, truncated(1))
    with pytest.raises(AlarmError, match="cut off at max_completion_length"):
        callback._stop_if_raised()


# In a run: every completion is truncated

CUT_OFF = {"max_completion_length": 3, "updates_per_rollout": 2, "max_steps": 8, "logging_steps": None}
SAVED = {"save_strategy": "steps", "save_steps": 100}


def test_a_run_warns_and_goes_on(caplog):
    trainer = train(DAPOTrainer, CUT_OFF, rollout_func=None)
    assert trainer.state.global_step == 8
    assert sum("cut off" in message for message in warnings_in(caplog)) == 1


def test_a_run_stops_with_a_checkpoint_and_can_go_on(caplog):
    whole = train(DAPOTrainer, CUT_OFF, rollout_func=None)
    config = CUT_OFF | SAVED | {"on_alarm": "stop"}
    stopped = train(DAPOTrainer, config, rollout_func=None)
    assert stopped.state.global_step == 2
    assert any(message.startswith("Training ends before optimizer step 3. ") for message in warnings_in(caplog))
    assert "train_loss" in stopped.state.log_history[-1]
    resumed = build(DAPOTrainer, config, rollout_func=None)
    resumed.train(resume_from_checkpoint=f"{stopped.args.output_dir}/checkpoint-2")
    assert resumed.state.global_step == 8  # the same alarm is quiet for 50 rollouts
    assert torch.equal(weights(resumed.model), weights(whole.model))
