"""Rewards for runs that another process sends a signal to."""

import os
import signal
import time
from pathlib import Path

from tests import command


def starts_low(completion_ids: list[list[int]], trainer_state, **kwargs) -> list[float]:
    """As [`tests.command.starts_low`], but in its second rollout it leaves a file named by `SCORING`, and waits."""
    if trainer_state.global_step == 2 and (path := os.environ.get("SCORING")):
        Path(path).touch()
        preemption = signal.getsignal(signal.SIGTERM).__self__
        deadline = time.monotonic() + 60
        while not preemption.is_requested and time.monotonic() < deadline:
            time.sleep(0.1)
    return command.starts_low(completion_ids)
