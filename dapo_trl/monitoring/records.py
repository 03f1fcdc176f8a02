"""Training logs by rollout, however often a run logs."""

from collections import defaultdict
from collections.abc import Iterable
from statistics import fmean
from typing import Any


def is_training_log(logs: dict[str, Any]) -> bool:
    """Whether a log is one of the training's optimizer steps, not of an evaluation or the summary at the end."""
    return "loss" in logs


class RolloutRecords:
    """
    Joins the logs of a rollout to one record.

    With one log per rollout, which is the default, a log is a record. With several, a record holds the mean of each
    metric. With less than one, a record stands for several rollouts.

    Args:
        optimizer_steps (`int`): optimizer steps per rollout.
    """

    def __init__(self, optimizer_steps: int):
        self.optimizer_steps = optimizer_steps
        self._last = 0
        self._values: dict[str, list[float]] = defaultdict(list)

    def add(self, step: int, logs: dict[str, Any]) -> dict[str, float] | None:
        """
        Takes a log.

        Args:
            step (`int`): optimizer steps so far.
            logs (`dict[str, Any]`): what was logged; anything but training logs is passed over.

        Returns:
            `dict[str, float]`: if a rollout has ended, its metrics, `step` and `rollout`, counted from 1; else None.
        """
        if not is_training_log(logs):
            return None
        for name, value in logs.items():
            if isinstance(value, int | float):
                self._values[name].append(value)
        rollout = step // self.optimizer_steps
        if rollout <= self._last:
            return None
        record = {name: fmean(values) for name, values in self._values.items()}
        self._values.clear()
        self._last = rollout
        return record | {"step": step, "rollout": rollout}

    def replay(self, history: Iterable[dict[str, Any]]) -> list[dict[str, float]]:
        """The records of a run that is resumed, from Trainer's `log_history`."""
        records = [self.add(logs["step"], logs) for logs in history]
        return [record for record in records if record is not None]
