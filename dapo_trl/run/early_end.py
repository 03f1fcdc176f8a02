"""What ends a run before its last optimizer step, and the exit statuses of the commands."""

import signal


# Beside 0 and Python's 1. Launchers report 1 in place of any of them.

USAGE_ERROR = 2
"""A mistake of the user, as argparse's own."""

NOTHING_TRAINED = 3
"""A training run from which no model has learnt anything: none is saved or pushed."""

PREEMPTED = 128 + signal.SIGTERM
"""A training run that ended on SIGTERM, with a checkpoint; as shells report it."""


class EndOfRun(RuntimeError):
    """
    Base of what is raised, on all processes, where a run cannot or must not go on; the trainer saves a checkpoint, and
    with `is_failure` raises the error again.
    """

    is_failure = False


class FinishedError(RuntimeError):
    """The checkpoint that is resumed from is the end of the run."""


class NothingTrainedError(RuntimeError):
    """A run has come to its end without a rollout that had a gradient."""
