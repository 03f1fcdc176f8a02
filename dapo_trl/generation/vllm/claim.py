"""
One run per server: a mark on the server's weights, which the run that uses it renews.

A second trainer would end both runs: the server's engine dies when weights arrive in the middle of a request. So a run
looks for the mark of another one before it connects. vLLM keeps one text beside its weights (`/weight_info`,
`/update_weight_version`), and answers for it at any time: between two steps of generation, and after a transfer of
weights, which it puts off.
"""

import atexit
import logging
import os
import socket
import threading
import time
import uuid
import weakref
from collections.abc import Callable

import requests
from transformers import TrainerCallback

from .preflight import PROBE_TIMEOUT, ServerMismatchError, UnreachableError


logger = logging.getLogger(__name__)

RENEWAL_SECONDS = 3.0
"""Pause between two renewals of a mark."""

WATCHED_SECONDS = 30
"""Seconds without renewal after which a mark counts as left behind; a process may be busy for some of them."""

SETTLING_SECONDS = 0.5
"""Pause before a mark is read again, in which another run that came at the same moment has written its own."""

RUN = f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"
"""This process. Of its trainers, the latest has the server."""

FREE = "free"

LOCK = threading.Lock()
"""Held by who writes a mark, so that no claim of this process replaces the mark of another one."""


class ServerInUseError(ServerMismatchError):
    """Another run uses the server."""


class Claim:
    """
    The hold of a run on a server.

    The mark is `dapo-<run>-<weights>-<beat>`: who holds the server, which weights it was sent, and a number that
    grows, or `free` when the run is over. A thread renews it until then, or until the process ends.

    Args:
        url (`str`): the server's.
    """

    def __init__(self, url: str):
        self.url = url
        self._run = RUN
        self._weights = uuid.uuid4().hex[:8]
        self._beat = 0
        self._over: threading.Event | None = None  # while the mark is renewed
        self._is_released = False

    @property
    def is_taken(self) -> bool:
        """Whether the server must bear a mark of this claim."""
        return self._over is not None

    @property
    def prefix(self) -> str:
        """How marks begin as long as the server holds the weights that it was last sent by this run."""
        return f"dapo-{self._run}-{self._weights}-"

    def is_on(self, mark: str) -> bool:
        """Whether it is a mark of this claim, and the weights are the last that were marked."""
        return mark.startswith(self.prefix)

    def take(self) -> None:
        """
        Marks the server as this run's, unless it is already.

        If it bears another run's mark, that is watched for up to [`WATCHED_SECONDS`], in which the server answers:
        nothing is compared with a clock of another machine. A server that cannot be marked is not.

        Raises:
            ServerInUseError: if the mark is renewed meanwhile, or the server does not keep ours.
            UnreachableError: if the server's engine does not answer.
            RequestException: if the server does not answer properly.
        """
        try:
            mark = self._read()
        except requests.Timeout as error:
            raise UnreachableError(
                f"The engine of the vLLM server at {self.url} does not answer ({error}). It is dead, or takes the "
                "weights of another run at this moment. Look at its log, or give this run a server of its own."
            ) from error
        if mark is None:
            return
        if not self.is_on(mark):
            if mark.startswith("dapo-") and not mark.startswith(f"dapo-{self._run}-"):
                self._watch(mark)
            self.mark_weights(self._write)
            time.sleep(SETTLING_SECONDS)
            found = self._read()
            if not self.is_on(found):
                raise ServerInUseError(
                    f"The vLLM server at {self.url} was marked as this run's, but bears the mark {found!r}: another "
                    "run has begun to use it at this moment, or the address leads to several servers in turn. Give "
                    "every run a server of its own, and its own address, without a load balancer between."
                )
        self._keep_renewing()

    def release(self) -> None:
        """Lets the next run have the server at once. What is sent later takes it again."""
        if self._over is None:
            return
        self._over.set()
        self._over, self._is_released = None, True
        try:
            self.renew()  # for the last time
        except OSError:
            logger.debug("The server at %s is gone before its mark is released.", self.url)

    def hold(self) -> None:
        """Takes the server again if it was released."""
        if self._is_released:
            self.take()

    def mark_weights(self, write: Callable[[str], None]) -> None:
        """Marks the weights that the server holds as new ones of this run, by a function that writes the mark."""
        with LOCK:
            weights = uuid.uuid4().hex[:8]
            write(self._next_mark(weights))
            self._weights = weights

    def renew(self) -> None:
        """A new mark, if the old one is still there: it may have been replaced, or the server restarted."""
        with LOCK:
            if self.is_on(self._read() or ""):
                self._write(self._next_mark(self._weights) if self.is_taken else f"{self.prefix}{FREE}")

    def _next_mark(self, weights: str) -> str:
        self._beat += 1
        return f"dapo-{self._run}-{weights}-{self._beat}"

    def _watch(self, mark: str) -> None:
        if mark.endswith(f"-{FREE}"):
            return
        logger.warning(
            f"The vLLM server at {self.url} bears the mark of another run, {mark!r}. Whether that is alive is watched "
            f"for {WATCHED_SECONDS} seconds."
        )
        for _ in range(WATCHED_SECONDS):
            time.sleep(1)
            found = self._read()
            if found != mark:
                if found.endswith(f"-{FREE}") or not found.startswith("dapo-"):
                    return
                raise ServerInUseError(
                    f"The vLLM server at {self.url} is used by another run, which renews its mark {found!r} "
                    "(host, process, ...). Its engine would die, for both, because it takes no weights in the middle "
                    "of a request. Use a server of your own (vllm_server_base_url, or vllm_server_host and "
                    "vllm_server_port; the server_url of an evaluation), or wait until the other run has ended."
                )

    def _keep_renewing(self) -> None:
        self._is_released = False
        if self._over is None:
            self._over = threading.Event()
            arguments = (weakref.ref(self), self._over)
            threading.Thread(target=_renew_until, args=arguments, name="server-claim", daemon=True).start()
            atexit.register(_release, weakref.ref(self))

    def _read(self) -> str | None:
        """The server's mark; None if this version of vLLM has none."""
        response = requests.get(f"{self.url}/weight_info", timeout=PROBE_TIMEOUT)
        if response.status_code == 404:
            return None
        response.raise_for_status()
        return response.json().get("weight_version")

    def _write(self, mark: str) -> None:
        body = {"new_version": mark}
        requests.post(f"{self.url}/update_weight_version", json=body, timeout=PROBE_TIMEOUT).raise_for_status()


def check_unused(url: str) -> None:
    """
    Refuses a server that a run trains with: any request under way when weights arrive ends its engine.

    Args:
        url (`str`): the server's; one that is no vLLM, or offers no marks, passes.

    Raises:
        ServerInUseError: if it bears a mark that is renewed.
    """
    claim = Claim(url)
    try:
        mark = claim._read()
        if mark is not None and mark.startswith("dapo-"):
            claim._watch(mark)
    except requests.RequestException:
        return  # whether it answers is for its user to find out


class ReleaseCallback(TrainerCallback):
    """
    Lets go of the server when training ends: what follows needs none.

    Args:
        release (`Callable`): does so.
    """

    def __init__(self, release: Callable[[], None]):
        self._release = release

    def on_train_end(self, args, state, control, **kwargs):
        self._release()


def _renew_until(reference: weakref.ref, over: threading.Event) -> None:
    """Renews a claim until it is over, or gone. A server that does not answer is asked again the next time."""
    while not over.wait(RENEWAL_SECONDS):
        claim = reference()
        if claim is None:
            return
        try:
            claim.renew()
        except OSError as error:
            logger.debug("The mark on the server at %s could not be renewed: %s", claim.url, error)
        del claim


def _release(reference: weakref.ref) -> None:
    claim = reference()
    if claim is not None:
        claim.release()
