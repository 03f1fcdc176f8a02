"""Preemption: on SIGTERM, which a cluster sends before it takes the machine, a run ends with a checkpoint."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import torch
from accelerate import Accelerator
from transformers import TrainerCallback

from ..distributed.failed_rank import has_failed_rank
from .early_end import PREEMPTED, EndOfRun


MARKER = "PREEMPTED"
"""File in the output directory that tells so: launchers hide the exit codes of their workers."""


class PreemptedError(EndOfRun):
    """SIGTERM was received."""


class Preemption(TrainerCallback):
    """
    Ends a run before its next optimizer step once any of its processes has received SIGTERM (`is_requested`);
    `is_agreed` once all know, and training has ended for it.
    """

    def __init__(self, accelerator: Accelerator):
        self._accelerator = accelerator
        self.is_listening = self.is_requested = self.is_agreed = False

    def on_step_begin(self, args, state, control, **kwargs):
        self.check()

    def check(self) -> None:
        """Raises PreemptedError on all processes if any has received SIGTERM; to be called by all of them together."""
        if not self.is_listening:
            return
        is_requested = torch.tensor(int(self.is_requested), device=self._accelerator.device)
        if self._accelerator.reduce(is_requested, reduction="sum").item():
            self.is_agreed = True
            raise PreemptedError("The run has received SIGTERM.")

    def forget(self) -> None:
        """Before another `train()`: what ended the last one does not end the next."""
        if self.is_agreed:
            self.is_requested = self.is_agreed = False

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
            with _ending_with_failed_rank():
                yield
        finally:
            self.is_listening = False
            signal.signal(signal.SIGTERM, previous)

    def _request(self, signum, frame) -> None:
        self.is_requested = True


@contextlib.contextmanager
def _ending_with_failed_rank() -> Iterator[None]:
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
            os._exit(PREEMPTED)


def mark_preempted(output_dir: str, global_step: int) -> None:
    """Leaves the marker; a run that resumes removes it."""
    Path(output_dir, MARKER).write_text(f"Ended on SIGTERM after optimizer step {global_step}; resume to go on.\n")


def unmark_preempted(output_dir: str) -> None:
    """Removes the marker of an earlier run."""
    Path(output_dir, MARKER).unlink(missing_ok=True)
