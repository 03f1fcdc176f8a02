"""Rewards for runs that another process sends a signal to."""

import os
import time
from pathlib import Path

from tests import command


def starts_low(completion_ids: list[list[int]], trainer_state, **kwargs) -> list[float]:
    """As [`tests.command.starts_low`], but in its second rollout it leaves a file named by `SCORING`, and waits."""
    if trainer_state.global_step == 2 and (path := os.environ.get("SCORING")):
        Path(path).touch()
        time.sleep(2)
    return command.starts_low(completion_ids)
