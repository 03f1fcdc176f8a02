"""What ends a run before its last optimizer step, in order: with a checkpoint to resume from."""


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
