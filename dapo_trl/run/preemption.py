"""A run that is told to end (SIGTERM, as a cluster sends before it takes the machine) ends with a checkpoint."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

from accelerate.logging import get_logger

from ..distributed.failed_rank import has_failed_rank
from .exit_codes import PREEMPTED as EXIT_CODE


logger = get_logger(__name__)

MARKER = "PREEMPTED"
"""File in the output directory that tells so: launchers hide the exit codes of their workers."""


class PreemptedError(RuntimeError):
    """The run has been told to end."""


class Preemption:
    """
    Whether this run has been told to end, and whether that is listened for at all.

    Attributes:
        is_listening (`bool`): SIGTERM is taken as a request.
        is_requested (`bool`): this process has received it.
        is_agreed (`bool`): all processes know, and training has ended for it.
    """

    def __init__(self):
        self.is_listening = False
        self.is_requested = False
        self.is_agreed = False

    @contextlib.contextmanager
    def listen(self) -> Iterator[None]:
        """
        Takes SIGTERM as a request to end training with a checkpoint.

        Signals reach the main thread only; elsewhere this does nothing. Every process of a run must listen, because
        they agree on the request by a collective.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = signal.signal(signal.SIGTERM, self._request)
        self.is_listening = True
        try:
            with _ending_without_peers():
                yield
        finally:
            self.is_listening = False
            signal.signal(signal.SIGTERM, previous)

    def _request(self, signum, frame) -> None:
        self.is_requested = True


@contextlib.contextmanager
def _ending_without_peers() -> Iterator[None]:
    """
    Ends this process on a SIGTERM that a launcher sends because another of its processes has failed.

    There is nobody left to agree with then: this process would wait in a collective, or go on generating, until the
    launcher loses patience. It may hang outside of Python, so that its signal handler never runs: a thread watches.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    previous = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    watcher = threading.Thread(target=_watch, args=(reader,), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous)
        os.close(writer)
        watcher.join()
        os.close(reader)


def _watch(reader: int) -> None:
    while signum := os.read(reader, 1):
        if signum[0] == signal.SIGTERM and has_failed_rank():
            os._exit(EXIT_CODE)


def mark_preempted(output_dir: str, global_step: int) -> None:
    """Leaves the marker; a run that resumes removes it."""
    Path(output_dir, MARKER).write_text(f"Ended on SIGTERM after optimizer step {global_step}; resume to go on.\n")


def unmark_preempted(output_dir: str) -> None:
    """Removes the marker of an earlier run."""
    Path(output_dir, MARKER).unlink(missing_ok=True)
