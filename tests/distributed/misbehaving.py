"""Rewards of which one process is slow, raises or dies, in its second optimizer step."""

import os
import signal
import time

from tests import command


IS_SECOND = os.environ.get("RANK") == "1"
MINUTES = 120.0


def raises(completion_ids: list[list[int]], trainer_state, **kwargs) -> list[float]:
    """The second process raises while the first one is busy."""
    if trainer_state.global_step == 1:
        if IS_SECOND:
            raise RuntimeError("the verifier of the second process is broken")
        time.sleep(MINUTES)
    return command.starts_low(completion_ids)


def dies(completion_ids: list[list[int]], trainer_state, **kwargs) -> list[float]:
    """The second process is killed while the first one waits for it."""
    if IS_SECOND and trainer_state.global_step == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return command.starts_low(completion_ids)


def dies_alone(completion_ids: list[list[int]], trainer_state, **kwargs) -> list[float]:
    """The second process is killed while the first one is busy."""
    if trainer_state.global_step == 1 and not IS_SECOND:
        time.sleep(MINUTES)
    return dies(completion_ids, trainer_state)


def is_slow(completion_ids: list[list[int]], trainer_state, **kwargs) -> list[float]:
    """The second process takes `SLOW_SECONDS` for every call."""
    if IS_SECOND:
        time.sleep(float(os.environ["SLOW_SECONDS"]))
    return command.starts_low(completion_ids)
