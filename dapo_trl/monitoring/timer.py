"""Where the seconds of a rollout go."""

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator


PHASES = ("generation", "scoring", "exchange", "log_probs", "training", "weight_sync")
"""Phases of a rollout; see [`PhaseTimer`]."""


class PhaseTimer:
    """
    Seconds by phase on this process. Phases nest, and a second counts for the innermost one only.

    The clock is the host's, and no device is waited for. A GPU works through what it is given later, so that a phase
    is charged for kernels of the one before as far as it is the first to wait for a result. That is little: every
    phase ends with values that are read from the device (tokens, rewards, metrics), except for the last optimizer step
    of a rollout, whose backward pass and update may be charged to the next generation.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter):
        self._clock = clock
        self._seconds: dict[str, float] = defaultdict(float)
        self._open: list[str] = []
        self._charged_until = self._flushed_at = clock()

    @contextlib.contextmanager
    def measure(self, phase: str) -> Iterator[None]:
        """Everything inside belongs to the phase, except for phases further inside."""
        self._charge()
        self._open.append(phase)
        try:
            yield
        finally:
            self._charge()
            self._open.pop()

    def start(self, phase: str) -> None:
        """From here to [`PhaseTimer.stop`], as in [`PhaseTimer.measure`]; what an error left open is closed."""
        self.stop()
        self._open.append(phase)

    def stop(self) -> None:
        """The end of what was started."""
        self._charge()
        self._open.clear()

    def flush(self) -> dict[str, float]:
        """Seconds by phase since the last flush, and `rollout`: all that have passed, in a phase or not."""
        self._charge()
        seconds = {phase: self._seconds[phase] for phase in PHASES}
        seconds["rollout"] = self._charged_until - self._flushed_at
        self._seconds.clear()
        self._flushed_at = self._charged_until
        return seconds

    def _charge(self) -> None:
        now = self._clock()
        if self._open:
            self._seconds[self._open[-1]] += now - self._charged_until
        self._charged_until = now
