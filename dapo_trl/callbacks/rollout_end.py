"""When a rollout has been trained on."""

from collections.abc import Callable

from transformers import TrainerCallback

from ..phases import PhaseTimer


class RolloutEndCallback(TrainerCallback):
    """
    Charges optimizer steps to the phase `training`, and tells when the last one of a rollout is done, before it is
    logged.

    Args:
        phases (`PhaseTimer`): the timer.
        optimizer_steps (`int`): optimizer steps per rollout.
        at_end (`Callable`): called without arguments, on every process.
    """

    def __init__(self, phases: PhaseTimer, optimizer_steps: int, at_end: Callable[[], None]):
        self._phases = phases
        self._optimizer_steps = optimizer_steps
        self._at_end = at_end

    def on_train_begin(self, args, state, control, **kwargs):
        self._phases.stop()
        self._phases.flush()

    def on_step_begin(self, args, state, control, **kwargs):
        self._phases.start("training")

    def on_step_end(self, args, state, control, **kwargs):
        self._phases.stop()
        if state.global_step % self._optimizer_steps == 0:
            self._at_end()
