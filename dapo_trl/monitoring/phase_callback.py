"""When an optimizer step begins and ends, and with it a rollout."""

from collections.abc import Callable

from transformers import TrainerCallback

from .timer import PhaseTimer


class PhaseCallback(TrainerCallback):
    """
    Charges optimizer steps to the phase `training`, and tells of moments that a method of the trainer cannot see.

    Both functions are called without arguments, on every process, before the optimizer step is logged.

    Args:
        phases (`PhaseTimer`): the timer.
        optimizer_steps (`int`): optimizer steps per rollout.
        before_log (`Callable`): called when an optimizer step is done that is logged or the last one of a rollout.
        at_end (`Callable`): called when the last optimizer step of a rollout is done.
    """

    def __init__(
        self,
        phases: PhaseTimer,
        optimizer_steps: int,
        before_log: Callable[[], None],
        at_end: Callable[[], None],
    ):
        self._phases = phases
        self._optimizer_steps = optimizer_steps
        self._before_log = before_log
        self._at_end = at_end

    def on_train_begin(self, args, state, control, **kwargs):
        self._phases.stop()
        self._phases.flush()

    def on_step_begin(self, args, state, control, **kwargs):
        self._phases.start("training")

    def on_step_end(self, args, state, control, **kwargs):
        self._phases.stop()
        is_rollout_done = state.global_step % self._optimizer_steps == 0
        if control.should_log or is_rollout_done:
            self._before_log()
        if is_rollout_done:
            self._at_end()
