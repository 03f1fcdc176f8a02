"""
One run per server: a mark on the server's weights, which the run that uses it renews.

The server's engine dies when weights arrive in the middle of a request. So a run looks for the mark of another one
before it connects. vLLM keeps one text beside its weights (`/weight_info`, `/update_weight_version`), and answers for
it at any time: between two steps of generation, and after a transfer of weights, which it puts off.
"""

import atexit
import itertools
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable

import httpx
from transformers import TrainerCallback

from .preflight import BAD_ANSWERS, PROBE_TIMEOUT, ServerMismatchError, UnreachableError, http


logger = logging.getLogger(__name__)

RENEWAL_SECONDS = 3.0  # pause between two renewals of a mark
WATCHED_SECONDS = 30  # without renewal, a mark counts as left behind; a process may be busy for some of them
RUN = f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"  # this process; its latest trainer has the server
LOCK = threading.Lock()  # held by who writes a mark, so that no claim of this process replaces the mark of another one


class ServerInUseError(ServerMismatchError):
    """Another run uses the server."""


class Claim:
    """
    The hold of a run on a server, by a mark `dapo-<run>-<weights>-<beat>`: who holds the server, which weights it was
    sent, and a number that grows, or `free` when the run is over. A thread renews it until then.
    """

    def __init__(self, url: str):
        self.url = url
        self.is_marked = False  # which old versions of vLLM cannot be
        self.has_weights = False  # of this run, since it was marked
        self._run = RUN
        self._prefix = f"dapo-{RUN}-none-"
        self._beats = itertools.count(1)
        self._over: threading.Event | None = None  # while the mark is renewed

    @property
    def is_taken(self) -> bool:
        return self._over is not None

    def is_on_server(self) -> bool:
        """Whether the server bears the mark of this claim, and holds the weights that were marked last."""
        return (self._read() or "").startswith(self._prefix)

    def take(self) -> None:
        """Marks the server as this run's, unless it is already; a server that cannot be marked is left as it is."""
        try:
            mark = self._read()
        except httpx.TimeoutException as error:
            raise UnreachableError(
                f"The engine of the vLLM server at {self.url} does not answer ({error}). It is dead, or takes the "
                "weights of another run at this moment. Look at its log, or give this run a server of its own."
            ) from error
        if mark is None:
            logger.warning(
                "This version of vLLM cannot mark its weights: if the server is restarted between two requests, or "
                "another run uses it, that goes unnoticed until the next optimizer step. Update vLLM."
            )
            return
        if not mark.startswith(self._prefix):
            self.refuse_if_used(mark)
            self._write_new()
            self.has_weights = False
        self.is_marked = True
        if self._over is None:
            self._over = threading.Event()
            threading.Thread(target=self._keep_renewing, args=(self._over,), name="server-claim", daemon=True).start()
            atexit.register(self.release)

    def refuse_if_used(self, mark: str | None) -> None:
        """Refuses another run's mark if it is renewed while watched: no other machine's clock is looked at."""
        if not self._is_of_another(mark):
            return
        logger.warning(
            f"The vLLM server at {self.url} bears the mark of another run, {mark!r}. Whether that is alive is watched "
            f"for {WATCHED_SECONDS} seconds."
        )
        for _ in range(WATCHED_SECONDS):
            time.sleep(1)
            found = self._read()
            if found == mark:
                continue
            if not self._is_of_another(found):
                return
            raise ServerInUseError(
                f"The vLLM server at {self.url} is used by another run, which renews its mark {found!r} "
                "(host, process, ...). Its engine would die, for both, because it takes no weights in the middle "
                "of a request. Use a server of your own (vllm_server_base_url, or vllm_server_host and "
                "vllm_server_port; the server_url of an evaluation), or wait until the other run has ended."
            )

    def mark_weights(self) -> None:
        """Marks the weights that the server holds as those that this run has just sent."""
        if self.is_marked:
            self._write_new()
            self.has_weights = True

    def release(self) -> None:
        """Lets the next run have the server at once. What is sent later takes it again."""
        if self._over is None:
            return
        self._over.set()
        self._over = None
        try:
            self._renew()  # for the last time
        except BAD_ANSWERS:
            logger.debug("The server at %s is gone before its mark is released.", self.url)

    def hold(self) -> None:
        if self.is_marked and not self.is_taken:
            self.take()

    def _keep_renewing(self, over: threading.Event) -> None:
        while not over.wait(RENEWAL_SECONDS):
            try:
                self._renew()
            except BAD_ANSWERS as error:  # it is asked again the next time
                logger.debug("The mark on the server at %s could not be renewed: %s", self.url, error)

    def _renew(self) -> None:
        """A new mark, if the old one is still there: it may have been replaced, or the server restarted."""
        with LOCK:
            if self.is_on_server():
                self._write(f"{self._prefix}{next(self._beats) if self.is_taken else 'free'}")

    def _write_new(self) -> None:
        with LOCK:
            prefix = f"dapo-{self._run}-{uuid.uuid4().hex[:8]}-"
            self._write(f"{prefix}{next(self._beats)}")
            self._prefix = prefix

    def _is_of_another(self, mark: str | None) -> bool:
        if mark is None or mark.startswith(f"dapo-{self._run}-"):
            return False
        return mark.startswith("dapo-") and not mark.endswith("-free")

    def _read(self) -> str | None:
        """The server's mark; None if this version of vLLM has none."""
        response = http().get(f"{self.url}/weight_info", timeout=PROBE_TIMEOUT)
        if response.status_code == 404:
            return None
        return response.raise_for_status().json().get("weight_version")

    def _write(self, mark: str) -> None:
        body = {"new_version": mark}
        http().post(f"{self.url}/update_weight_version", json=body, timeout=PROBE_TIMEOUT).raise_for_status()


def check_unused(url: str) -> None:
    """Refuses a server that a run trains with: any request under way when weights arrive ends its engine."""
    claim = Claim(url)
    try:
        claim.refuse_if_used(claim._read())
    except BAD_ANSWERS:
        return  # whether it answers is for its user to find out


class ReleaseCallback(TrainerCallback):
    """Lets go of the server when training ends, by `release`: what follows needs none."""

    def __init__(self, release: Callable[[], None]):
        self._release = release

    def on_train_end(self, args, state, control, **kwargs):
        self._release()
