"""The training process's side of the killable workers."""

import atexit
import contextlib
import json
import logging
import math
import os
import select
import subprocess
import sys
import threading
import time
from pathlib import Path

from .outcome import Outcome, Reason


logger = logging.getLogger(__name__)

# A hung answer occupies its worker for a whole time-out: with few workers, a handful of them would hold up all others.
MIN_WORKERS = 8
MAX_WORKERS = 32
START_SECONDS = 60.0
STOP_SECONDS = 3.0


class HostError(RuntimeError):
    """The host process could not be started, ended, or does not answer."""


class VerifierPool:
    """
    Compares answers with math-verify in processes that can be killed.

    Nothing is started before the first call. Calls from several threads wait for each other. A forked child starts its
    own processes. When this process ends, however it ends, the others end too.

    Args:
        num_workers (`int`, *optional*):
            Number of worker processes. Defaults to the cores of this machine divided by the ranks on it, within
            [8, 32].
    """

    def __init__(self, num_workers: int | None = None):
        self.num_workers = num_workers or default_num_workers()
        self._forget()
        atexit.register(self.close)

    def check(self, pairs: list[tuple[str, str]], timeout: float) -> list[Outcome]:
        """
        Compare answers with golds.

        Args:
            pairs (`list[tuple[str, str]]`): `(answer, gold)` each.
            timeout (`float`): seconds per answer, after which its worker is killed.

        Returns:
            `list[Outcome]`: in the order of `pairs`. If the processes themselves fail, every outcome is an error.
        """
        if not pairs:
            return []
        if self._pid != os.getpid():
            self._forget()  # forked: the processes, and the state of the lock, belong to the parent
        with self._lock:
            try:
                replies = self._ask({"pairs": pairs, "timeout": timeout}, self._patience(len(pairs), timeout))
            except (HostError, OSError, ValueError) as error:
                logger.warning("The math-verify processes failed and are started again at the next call: %s", error)
                self._stop(patience=0)
                return [Outcome(None, Reason.ERROR, detail=str(error))] * len(pairs)
        return [Outcome(is_correct, Reason(reason), detail=detail) for is_correct, reason, detail in replies]

    def close(self) -> None:
        """End all processes. The next call starts new ones."""
        if self._pid == os.getpid():
            self._stop(patience=STOP_SECONDS)

    @property
    def host_pid(self) -> int | None:
        """Process id of the host that owns the workers; `None` while nothing runs."""
        return self._host.pid if self._host is not None and self._pid == os.getpid() else None

    def _forget(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._host = None

    def _patience(self, num_pairs: int, timeout: float) -> float:
        """Seconds after which the host itself must be at fault: every answer timed out, one after the other."""
        return START_SECONDS + math.ceil(num_pairs / self.num_workers) * (timeout + 2)

    def _ask(self, request: dict, patience: float) -> list:
        if self._host is None or self._host.poll() is not None:
            self._host = _start_host(self.num_workers)
        self._host.stdin.write(json.dumps(request).encode() + b"\n")  # ASCII: lone surrogates and NULs are escaped
        self._host.stdin.flush()
        replies = json.loads(_read_line(self._host, patience))
        if len(replies) != len(request["pairs"]):
            raise HostError(f"{len(replies)} replies to {len(request['pairs'])} questions")
        return replies

    def _stop(self, patience: float) -> None:
        host, self._host = self._host, None
        if host is None:
            return
        with contextlib.suppress(OSError):  # it may be gone already
            host.stdin.close()
        try:
            host.wait(patience)
        except subprocess.TimeoutExpired:
            _terminate(host)
        host.stdout.close()


def default_num_workers() -> int:
    """Cores this process may use, divided by the ranks on this machine; within [`MIN_WORKERS`, `MAX_WORKERS`]."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    local_ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(max(cores // local_ranks, MIN_WORKERS), MAX_WORKERS)


def _start_host(num_workers: int) -> subprocess.Popen:
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    # -P: a file such as random.py in the working directory must not shadow a module of the host.
    # -c rather than -m: a main module with a name would be imported again by every worker.
    command = [sys.executable, "-P", "-c", f"from {__package__}.host import main; main({num_workers})"]
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)


def _read_line(host: subprocess.Popen, patience: float) -> bytes:
    deadline = time.monotonic() + patience
    chunks = []
    while not chunks or not chunks[-1].endswith(b"\n"):
        if not select.select([host.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise HostError(f"no reply within {patience:.0f} s")
        chunks.append(os.read(host.stdout.fileno(), 1 << 16))
        if not chunks[-1]:
            raise HostError(f"the host process ended with exit code {host.wait()}; its message is on standard error")
    return b"".join(chunks)


def _terminate(host: subprocess.Popen) -> None:
    """Ask it to end its workers and itself, and kill it if it does not; workers of a killed host end by themselves."""
    host.terminate()
    try:
        host.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        host.kill()
        host.wait()


_shared_pool: VerifierPool | None = None


def shared_pool() -> VerifierPool:
    """The one pool of this process, created at the first call."""
    global _shared_pool
    if _shared_pool is None:
        _shared_pool = VerifierPool()
    return _shared_pool
