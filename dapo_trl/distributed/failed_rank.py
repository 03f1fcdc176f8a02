"""Whether the launcher and the other processes of this machine are still there, and whose error is reported."""

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

NOTICE_SECONDS = 1.0  # how long after its connections close a process may still look alive
LAUNCHER_SECONDS = 10.0  # how long a launcher may take to notice a process that is gone: it looks ten times per second


def has_failed_rank() -> bool:
    """Whether a launcher started more processes on this machine than are still there."""
    num_started = int(os.environ.get("LOCAL_WORLD_SIZE", "0"))
    launcher = psutil.Process().parent()
    if num_started == 0 or launcher is None:  # no launcher; the first process of a container has no parent either
        return False
    return num_started > sum(map(_is_alive_with_rank, launcher.children()))


def _is_alive_with_rank(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and "LOCAL_RANK" in process.environ()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


@contextlib.contextmanager
def failing_after_other_ranks() -> Iterator[None]:
    """
    Holds back an error that is there because another process of this machine is gone: a launcher reports what it sees
    first, and the cause would be hidden behind its consequence. The launcher ends this process while it waits. An
    error of its own is passed on after [`NOTICE_SECONDS`].
    """
    try:
        yield
    except Exception:
        is_launched = int(os.environ.get("LOCAL_WORLD_SIZE", "0")) > 1
        deadline = time.monotonic() + NOTICE_SECONDS
        while is_launched and not (is_failed := has_failed_rank()) and time.monotonic() < deadline:
            time.sleep(0.05)
        if is_launched and is_failed:
            time.sleep(LAUNCHER_SECONDS)
        raise


def follow_launcher() -> None:
    """
    This process ends as on SIGTERM when the `accelerate launch` that started it is gone, which passes no signal on
    with one process and neither DeepSpeed nor FSDP. Another parent may end as it likes, such as a shell after `nohup`.
    """
    parent = psutil.Process().parent()
    if parent is not None and is_accelerate(parent.cmdline()):
        threading.Thread(target=_end_after, args=(parent.pid,), daemon=True).start()


def is_accelerate(command: Sequence[str]) -> bool:
    """Whether a process with these words is `accelerate launch`, as a script or as a module of Python."""
    python, *words = [*command, ""]
    script = next((word for word in words if not word.startswith("-")), "")
    is_launch = Path(script).name in ("accelerate", "accelerate-launch") or script.startswith("accelerate.commands.")
    return Path(python).name.startswith("python") and is_launch


def _end_after(launcher: int) -> None:
    while os.getppid() == launcher:
        time.sleep(NOTICE_SECONDS)
    logger.warning("accelerate launch is gone: this process ends as on SIGTERM.")
    os.kill(os.getpid(), signal.SIGTERM)
