"""
Comparisons by math-verify in processes that can be killed. A *host* process owns them (pebble's `ProcessPool`): a pool
inside the training process would fork it (CUDA, threads), or make every worker import the training script, with torch.
"""

import atexit
import logging
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import Future
from multiprocessing.connection import Connection
from pathlib import Path

from pebble import ProcessPool

from .outcome import Outcome, Reason


logger = logging.getLogger(__name__)

# A hung answer occupies its worker for a whole time-out: with few workers, a handful of them would hold up all others.
MIN_WORKERS, MAX_WORKERS = 8, 32
START_SECONDS, STOP_SECONDS, PARENT_CHECK_SECONDS = 60.0, 3.0, 1.0


class VerifierPool:
    """`num_workers` processes, started at the first call; threads take turns, and a forked child starts its own."""

    def __init__(self, num_workers: int | None = None):
        self.num_workers = num_workers or default_num_workers()
        self._running: tuple[subprocess.Popen, Connection] | None = None
        self._lock = threading.Lock()
        os.register_at_fork(after_in_child=self._forget)  # the processes, and the state of the lock, are the parent's
        atexit.register(self.close)

    def check(self, pairs: list[tuple[str, str]], timeout: float) -> list[Outcome]:
        """Outcomes of pairs `(answer, gold)`, of `timeout` seconds each; errors if the processes themselves fail."""
        if not pairs:
            return []
        with self._lock:
            try:
                return self._ask(pairs, timeout)
            except (OSError, EOFError) as error:
                detail = f"{error or 'no reply'}; the host process ended with exit code {self.close()}"
                logger.warning("The math-verify processes failed and are started again at the next call: %s", detail)
                return [Outcome(None, Reason.ERROR, detail=detail)] * len(pairs)
            except BaseException:  # such as Ctrl-C: a late reply must not be taken for one to the next question
                self.close()
                raise

    def close(self) -> int | None:
        """End all processes until the next call; returns the exit code of the host if it ran."""
        running, self._running = self._running, None
        if running is None:
            return None
        host, connection = running
        connection.close()
        host.terminate()  # it ends its workers; those of a host that has to be killed end by themselves
        try:
            return host.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            host.kill()
            return host.wait()

    def _forget(self) -> None:
        self._running, self._lock = None, threading.Lock()

    def _ask(self, pairs: list[tuple[str, str]], timeout: float) -> list[Outcome]:
        if self._running is None or self._running[0].poll() is not None:
            self._running = _start_host(self.num_workers)
        connection = self._running[1]
        connection.send((pairs, timeout))
        # The time if every answer timed out, one after the other: beyond it the host itself must be at fault.
        patience = START_SECONDS + math.ceil(len(pairs) / self.num_workers) * (timeout + 2)
        if not connection.poll(patience):
            raise TimeoutError(f"no reply within {patience:.0f} s")
        return connection.recv()


def default_num_workers() -> int:
    """Cores this process may use, divided by the ranks on this machine; within the bounds."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(max(cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")), MIN_WORKERS), MAX_WORKERS)


shared_pool = VerifierPool()


def _start_host(num_workers: int) -> tuple[subprocess.Popen, Connection]:
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    ours, theirs = multiprocessing.Pipe()
    with theirs:
        # -P: a file such as random.py in the working directory must not shadow a module of the host.
        # -c rather than -m: a main module with a name would be imported again by every worker.
        code = f"from {__name__} import serve; serve({theirs.fileno()}, {num_workers})"
        command = [sys.executable, "-P", "-c", code]
        env = {**os.environ, "PYTHONPATH": path}
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=2, pass_fds=[theirs.fileno()], env=env), ours


def serve(descriptor: int, num_workers: int) -> None:
    """What the host does: answer requests until the other end of the connection is closed, or the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the training process, whose end ends this one
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    connection, parent = Connection(descriptor), os.getppid()
    pool = _new_pool(num_workers)
    try:
        while os.getppid() == parent:  # a fork of the parent may hold the other end open
            if not connection.poll(PARENT_CHECK_SECONDS):
                continue
            pairs, timeout = connection.recv()
            if not pool.active:  # broken since the last request, such as by an idle worker killed from outside
                pool.join()
                pool = _new_pool(num_workers)
            # Each in a task of its own, so that a worker that is killed costs only its own answer.
            futures = [pool.schedule(_check, args=(*pair, timeout), timeout=timeout) for pair in pairs]
            connection.send([_outcome(future) for future in futures])
    except (EOFError, ConnectionError):
        pass
    finally:
        pool.stop()
        pool.join()


def _new_pool(num_workers: int) -> ProcessPool:
    """Workers that are forked from a process which has everything loaded: a new one takes no time."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([f"{__package__}.worker"])
    return ProcessPool(max_workers=num_workers, context=context)


def _check(answer: str, gold: str, timeout: float) -> Outcome:
    from .worker import check  # not in the host, which starts sooner without sympy

    return check(answer, gold, timeout)


def _outcome(future: Future) -> Outcome:
    try:
        return future.result()
    except TimeoutError:
        return Outcome(False, Reason.TIMEOUT)
    except Exception as error:  # whatever went wrong in the worker is reported with the outcome, and counted there
        return Outcome(None, Reason.ERROR, detail=f"{type(error).__name__}: {error}")
