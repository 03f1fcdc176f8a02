"""When an optimizer step begins and ends, and with it a rollout; and what is added to a trainer's callbacks."""

from typing import Any

from transformers import TrainerCallback

from ..run.early_end import FinishedError
from .alarms import AlarmCallback, default_alarms
from .finite import FiniteCallback
from .logs import MetricsFileCallback, show_rollouts
from .rollout_monitor import RolloutMonitor
from .run_length import RunLengthCallback


class FinishedCallback(TrainerCallback):
    """Ends a run that has come to its end already, before any other callback writes."""

    def on_train_begin(self, args, state, control, **kwargs):
        if 0 < state.max_steps <= state.global_step:
            field = "max_steps" if args.max_steps > 0 else "num_train_epochs"
            raise FinishedError(
                f"The checkpoint holds optimizer step {state.global_step}, and the run ends at step "
                f"{state.max_steps}: it is finished. Raise {field} to go on."
            )


class PhaseCallback(TrainerCallback):
    """Charges optimizer steps to the phase `training`, and has the monitor write what is known when they end."""

    def __init__(self, monitor: RolloutMonitor, optimizer_steps: int):
        self._monitor = monitor
        self._optimizer_steps = optimizer_steps

    def on_train_begin(self, args, state, control, **kwargs):
        self._monitor.timer.stop()
        self._monitor.timer.flush()

    def on_step_begin(self, args, state, control, **kwargs):
        self._monitor.timer.start("training")

    def on_step_end(self, args, state, control, **kwargs):
        self._monitor.timer.stop()
        is_rollout_done = state.global_step % self._optimizer_steps == 0
        if control.should_log or is_rollout_done:
            self._monitor.flush_mean_probability()
        if control.should_log or control.should_training_stop:
            self._monitor.flush_micro_batches()
        if is_rollout_done:
            self._monitor.flush_rollout()

    def on_epoch_end(self, args, state, control, **kwargs):
        if control.should_log:
            self._monitor.flush_micro_batches()


def add_callbacks(trainer: Any) -> tuple[AlarmCallback, FiniteCallback]:
    """Adds, in this order, what happens between optimizer steps; returns the two that the trainer talks to."""
    from ..generation.vllm.comparison import USUAL_DIFFERENCES, tolerance

    args, accelerator = trainer.args, trainer.accelerator
    steps = args.optimizer_steps_per_rollout
    usual = tolerance(trainer.model, accelerator.mixed_precision, USUAL_DIFFERENCES)
    alarms = AlarmCallback(default_alarms(steps, args.learning_rate, usual), steps, accelerator)
    finite = FiniteCallback(accelerator, alarms, args)
    for callback in (
        finite,
        RunLengthCallback(),
        PhaseCallback(trainer.monitor, steps),
        MetricsFileCallback(steps),
        alarms,
        trainer.preemption,
    ):
        trainer.add_callback(callback)
    trainer.callback_handler.callbacks.insert(0, FinishedCallback())
    show_rollouts(trainer.callback_handler, steps)
    return alarms, finite
