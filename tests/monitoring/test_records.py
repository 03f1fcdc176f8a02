"""Logs put together to one record per rollout."""

from dapo_trl.monitoring.logs import RolloutRecords


def test_one_log_per_rollout_is_its_record():
    records = RolloutRecords(optimizer_steps=4)
    assert records.add(4, {"loss": 1.0, "reward": 0.5, "note": "text", "missing": None}) == {
        "loss": 1.0,
        "reward": 0.5,
        "step": 4,
        "rollout": 1,
    }


def test_several_logs_per_rollout_are_averaged():
    records = RolloutRecords(optimizer_steps=2)
    assert records.add(1, {"loss": 1.0, "reward": 0.5, "entropy": 2.0}) is None
    assert records.add(1, {"eval_loss": 9.0}) is None
    assert records.add(2, {"loss": 3.0, "entropy": 1.0}) == {
        "loss": 2.0,
        "reward": 0.5,
        "entropy": 1.5,
        "step": 2,
        "rollout": 1,
    }
    assert records.add(3, {"loss": 5.0}) is None
    assert records.add(4, {"loss": 7.0})["loss"] == 6.0


def test_a_log_may_stand_for_several_rollouts():
    records = RolloutRecords(optimizer_steps=2)
    assert records.add(6, {"loss": 1.0})["rollout"] == 3
    assert records.add(9, {"loss": 1.0})["rollout"] == 4


def test_a_resumed_run_goes_on_in_the_middle_of_a_rollout():
    records = RolloutRecords(optimizer_steps=2)
    history = [{"loss": 1.0, "step": 2}, {"eval_loss": 1.0, "step": 2}, {"loss": 2.0, "reward": 0.5, "step": 3}]
    assert [record["rollout"] for record in records.replay(history)] == [1]
    assert records.add(4, {"loss": 4.0}) == {"loss": 3.0, "reward": 0.5, "step": 4, "rollout": 2}
