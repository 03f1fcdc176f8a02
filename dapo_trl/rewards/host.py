"""
The process that owns the workers, started by [`VerifierPool`].

Reads one JSON object per line from standard input, `{"pairs": [[answer, gold], ...], "timeout": seconds}`, and writes
one JSON list per line, `[[is_correct, reason, detail], ...]` in the same order. Ends when its input ends or its parent
is gone.

A process of its own, because a pool inside the training process would either fork it (CUDA, threads) or make every
worker import the training script again, and with it torch and TRL.
"""

import json
import multiprocessing
import os
import select
import signal
import sys
from concurrent.futures import Future, TimeoutError

from pebble import ProcessPool

from .outcome import Reason


PARENT_CHECK_SECONDS = 1.0


def main(num_workers: int) -> None:
    """Answer requests until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the training process, whose end ends this one
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not end up between the replies
    pool = new_pool(num_workers)
    try:
        while line := _next_request():
            if not pool.active:  # broken since the last request, such as by an idle worker killed from outside
                _end(pool)
                pool = new_pool(num_workers)
            request = json.loads(line)
            outcomes = check_all(pool, request["pairs"], request["timeout"])
            replies.write(json.dumps(outcomes) + "\n")
            replies.flush()
    except BrokenPipeError:
        pass  # the parent is gone
    finally:
        _end(pool)


def new_pool(num_workers: int) -> ProcessPool:
    """Workers that are forked from a process which has everything loaded: a new one takes no time."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([f"{__package__}.preload"])
    return ProcessPool(max_workers=num_workers, context=context, initializer=_prepare)


def check_all(pool: ProcessPool, pairs: list[list[str]], timeout: float) -> list[tuple[bool | None, str, str]]:
    """Check every pair in its own task, so that a worker that is killed costs only its own answer."""
    futures = [pool.schedule(_check, args=(*pair, timeout), timeout=timeout) for pair in pairs]
    return [_outcome(future) for future in futures]


# Imported in the worker only: the host has no use for sympy, and starts sooner without.
def _prepare() -> None:
    from .worker import prepare_worker

    prepare_worker()


def _check(answer: str, gold: str, timeout: float) -> tuple[bool | None, str]:
    from .worker import check

    return check(answer, gold, timeout)


def _end(pool: ProcessPool) -> None:
    pool.stop()
    pool.join()


def _outcome(future: Future) -> tuple[bool | None, str, str]:
    try:
        is_correct, reason = future.result()
        return is_correct, reason, ""
    except TimeoutError:
        return False, Reason.TIMEOUT, ""
    except Exception as error:  # whatever went wrong in the worker is reported with the outcome, and counted there
        return None, Reason.ERROR, f"{type(error).__name__}: {error}"


def _next_request() -> str:
    """The next line of standard input; empty at its end, or when the parent process is gone."""
    parent = os.getppid()
    while not select.select([sys.stdin], [], [], PARENT_CHECK_SECONDS)[0]:
        if os.getppid() != parent:
            return ""
    return sys.stdin.readline()
