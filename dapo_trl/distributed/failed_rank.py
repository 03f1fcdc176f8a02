"""The launcher of this process and its other processes: whether they are still there, and whose error counts."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
from accelerate.logging import get_logger


logger = get_logger(__name__)

NOTICE_SECONDS = 1.0
"""How long after its connections close a process may still look alive."""

LAUNCHER_SECONDS = 10.0
"""How long a launcher may take to notice a process that is gone: it looks ten times per second."""


def has_lost_peers() -> bool:
    """Whether a launcher started more processes on this machine than are still there."""
    if _num_started() == 0:  # no launcher; the first process of a container has no parent either
        return False
    siblings = psutil.Process().parent().children()
    return _num_started() > sum(_is_alive_with_rank(process) for process in siblings)


def _num_started() -> int:
    return int(os.environ.get("LOCAL_WORLD_SIZE", "0"))


def _is_alive_with_rank(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and "LOCAL_RANK" in process.environ()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


@contextlib.contextmanager
def failing_after_peers() -> Iterator[None]:
    """
    Holds back an error that is there because another process of this machine is gone.

    A launcher reports what it sees first. The process that waited in a collective fails at once when the other one
    dies, and both would be found together: the cause would be hidden behind its consequence. The launcher ends this
    process while it waits. An error of this process's own is passed on after [`NOTICE_SECONDS`].
    """
    try:
        yield
    except Exception:
        if _num_started() > 1 and _are_lost_within(NOTICE_SECONDS):
            time.sleep(LAUNCHER_SECONDS)
        raise


def _are_lost_within(seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not (is_lost := has_lost_peers()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return is_lost


def follow_launcher() -> None:
    """
    From here on, this process ends as on SIGTERM when the `accelerate launch` that started it is gone.

    With one process and neither DeepSpeed nor FSDP, `accelerate launch` passes no signal on: told to end, it leaves
    its process behind, which would keep its GPU. A parent of another kind may end as it likes, such as the shell of a
    run that was started with `nohup python -m dapo_trl.train ... &`.
    """
    parent = psutil.Process().parent()
    if parent is not None and is_accelerate(parent.cmdline()):
        threading.Thread(target=_end_after, args=(parent.pid,), daemon=True).start()


def is_accelerate(command: Sequence[str]) -> bool:
    """Whether a process with these words is `accelerate launch`, as a script or as a module of Python."""
    python, *words = [*command, ""]
    options = [word for word in words if not word.startswith("-")][:1]
    return Path(python).name.startswith("python") and any(
        Path(word).name in ("accelerate", "accelerate-launch") or word.startswith("accelerate.commands.")
        for word in options
    )


def _end_after(launcher: int) -> None:
    while os.getppid() == launcher:
        time.sleep(NOTICE_SECONDS)
    logger.warning("accelerate launch is gone: this process ends as on SIGTERM.")
    os.kill(os.getpid(), signal.SIGTERM)
