"""Seconds by phase, on a clock that is moved by hand, and in a run."""

import pytest

from dapo_trl import DAPOTrainer
from dapo_trl.monitoring.timer import PHASES, PhaseTimer
from tests.helpers import train


class Clock:
    """Seconds that pass when the test says so."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_second_counts_for_the_innermost_phase():
    clock = Clock()
    phases = PhaseTimer(clock)
    clock.now += 1  # no phase
    with phases.measure("generation"):
        clock.now += 2
        with phases.measure("weight_sync"):
            clock.now += 4
        clock.now += 8
    clock.now += 16
    seconds = phases.flush()
    assert seconds == dict.fromkeys(PHASES, 0.0) | {"generation": 10.0, "weight_sync": 4.0, "rollout": 31.0}
    clock.now += 32
    assert phases.flush() == dict.fromkeys(PHASES, 0.0) | {"rollout": 32.0}


def test_what_is_started_lasts_until_it_is_stopped():
    clock = Clock()
    phases = PhaseTimer(clock)
    phases.start("training")
    clock.now += 1
    with phases.measure("scoring"):
        clock.now += 2
    clock.now += 4
    phases.stop()
    clock.now += 8
    seconds = phases.flush()
    assert (seconds["training"], seconds["scoring"], seconds["rollout"]) == (5.0, 2.0, 15.0)


def test_an_error_leaves_nothing_open():
    clock = Clock()
    phases = PhaseTimer(clock)
    phases.start("training")
    with pytest.raises(KeyError), phases.measure("generation"):
        clock.now += 1
        raise KeyError
    phases.start("training")
    clock.now += 2
    phases.stop()
    clock.now += 4
    seconds = phases.flush()
    assert (seconds["training"], seconds["generation"]) == (2.0, 1.0)


def test_a_function_is_timed():
    clock = Clock()
    phases = PhaseTimer(clock)

    @phases.measure("weight_sync")
    def sync(seconds):
        clock.now += seconds
        return seconds

    assert sync(3) + sync(4) == 7
    assert phases.flush()["weight_sync"] == 7.0


@pytest.mark.parametrize("own", [True, False], ids=["own batches", "batches of TRL"])
def test_phases_of_a_run(own, monkeypatch):
    """On a clock that a micro-batch moves by 1000 seconds and a call of the reward function by one."""
    clock = Clock()

    class SlowTrainer(DAPOTrainer):
        def training_step(self, *args, **kwargs):
            clock.now += 1000
            return super().training_step(*args, **kwargs)

    calls = []

    def slow_reward(completion_ids, trainer_state, **kwargs):
        calls.append(trainer_state.global_step)
        clock.now += 1
        return [float(ids[0] % 2) for ids in completion_ids]

    monkeypatch.setattr("dapo_trl.monitoring.rollout_monitor.PhaseTimer", lambda: PhaseTimer(clock))
    config = {"updates_per_rollout": 2, "max_steps": 4, "logging_steps": None}
    config |= {"dynamic_sampling": own, "balance_micro_batches": own}
    trainer = train(SlowTrainer, config, reward_funcs=slow_reward)
    for record in trainer.state.log_history[:2]:
        num_calls = calls.count(record["step"] - 2)
        assert record["time/scoring"] == num_calls
        assert record["time/training"] == 4000  # 2 updates of 2 micro-batches
        assert record["time/rollout"] == 4000 + num_calls
        assert record["time/generation"] == record["time/weight_sync"] == record["time/log_probs"] == 0
        num_rows = 16 * record.get("dynamic_sampling/generated_per_trained", 1)
        generated = record["completions/mean_length"] * num_rows
        assert record["tokens_per_second/rollout"] == pytest.approx(generated / record["time/rollout"])
