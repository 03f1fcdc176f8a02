"""What ends a run before its last optimizer step, in order: with a checkpoint to resume from."""


class EndOfRun(RuntimeError):
    """
    Base of what is raised, on all processes, where a run cannot or must not go on; the trainer saves a checkpoint.

    Attributes:
        is_failure (`bool`): the error is raised again once the checkpoint is saved; otherwise training just ends.
    """

    is_failure = False


class FinishedError(RuntimeError):
    """The checkpoint that is resumed from is the end of the run."""


class NothingTrainedError(RuntimeError):
    """A run has come to its end without a rollout that had a gradient."""
