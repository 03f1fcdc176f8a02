"""A line per rollout in the terminal, in place of every metric."""

import math
import sys
from typing import Any

from transformers import PrinterCallback, ProgressCallback, TrainerCallback
from transformers.trainer_callback import CallbackHandler

from .records import RolloutRecords, is_training_log


COLUMNS = {
    "reward": ("reward", "{:6.3f}"),
    "accuracy": ("frac_correct", "{:.3f}"),
    "accepted": ("dynamic_sampling/acceptance_rate", "{:.2f}"),
    "length": ("completions/mean_length", "{:6.1f}"),
    "entropy": ("entropy", "{:.3f}"),
    "": ("time/rollout", "{:6.1f} s"),
}
"""Columns of a rollout's line: what stands before the value, the metric, and its format."""


def rollout_line(record: dict[str, float], num_rollouts: int) -> str:
    """
    The most important metrics of a rollout.

    Args:
        record (`dict[str, float]`): see [`RolloutRecords.add`]; metrics it lacks are left out.
        num_rollouts (`int`): rollouts of the whole run.

    Returns:
        `str`: about 100 characters.
    """
    width = len(str(num_rollouts))
    words = [f"rollout {int(record['rollout']):{width}}/{num_rollouts}"]
    for label, (metric, form) in COLUMNS.items():
        if metric in record:
            words.append(f"{label} {form.format(record[metric])}".strip())
    return "  ".join(words)


def evaluation_line(logs: dict[str, Any], step: int) -> str:
    """avg@k with its interval, reward and length of an evaluation; everything if there is no avg@k."""
    scores = {name: value for name, value in logs.items() if "avg@" in name and not name.endswith(("_low", "_high"))}
    if not scores:
        return other_line(logs)
    words = [f"evaluation after step {step}"]
    for name, value in scores.items():
        low, high = logs.get(f"{name}_low"), logs.get(f"{name}_high")
        interval = f" [{low:.3f}, {high:.3f}]" if low is not None and high is not None else ""
        words.append(f"{name.removeprefix('eval_')} {value:.3f}{interval}")
    shown = {"length": "eval_completions/mean_length", "seconds": "eval_runtime"}
    words += [f"{label} {logs[name]:.1f}" for label, name in shown.items() if logs.get(name) is not None]
    return "  ".join(words)


def other_line(logs: dict[str, Any]) -> str:
    """All values of a log, as `name value`."""
    return "  ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in logs.items()
        if name not in ("epoch", "total_flos")
    )


class RolloutLines:
    """
    What to write of each log.

    Args:
        optimizer_steps (`int`): optimizer steps per rollout.
    """

    def __init__(self, optimizer_steps: int):
        self.optimizer_steps = optimizer_steps
        self._records = RolloutRecords(optimizer_steps)

    def resume(self, history: list[dict[str, Any]]) -> None:
        """Takes in what was logged before."""
        self._records = RolloutRecords(self.optimizer_steps)
        self._records.replay(history)

    def line(self, logs: dict[str, Any], step: int, max_steps: int) -> str | None:
        """The line of a log; None if the rollout goes on."""
        if is_training_log(logs):
            record = self._records.add(step, logs)
            return rollout_line(record, math.ceil(max_steps / self.optimizer_steps)) if record else None
        if any(name.startswith("eval_") for name in logs):
            return evaluation_line(logs, step)
        if "train_runtime" in logs:
            return f"{step} optimizer steps in {logs['train_runtime']:.1f} s"
        return other_line(logs)


class RolloutProgressCallback(ProgressCallback):
    """Trainer's progress bar with a line per rollout above it instead of all metrics."""

    def __init__(self, optimizer_steps: int):
        super().__init__()
        self._lines = RolloutLines(optimizer_steps)

    def on_train_begin(self, args, state, control, **kwargs):
        super().on_train_begin(args, state, control, **kwargs)
        self._lines.resume(state.log_history)

    def on_log(self, args, state, control, logs=None, **kwargs):
        line = self._lines.line(logs, state.global_step, state.max_steps)
        if line and state.is_world_process_zero and self.training_bar is not None:
            self.training_bar.write(line)


class RolloutPrinterCallback(TrainerCallback):
    """The same lines without a progress bar, for `disable_tqdm`."""

    def __init__(self, optimizer_steps: int):
        self._lines = RolloutLines(optimizer_steps)

    def on_train_begin(self, args, state, control, **kwargs):
        self._lines.resume(state.log_history)

    def on_log(self, args, state, control, logs=None, **kwargs):
        line = self._lines.line(logs, state.global_step, state.max_steps)
        if line and state.is_world_process_zero:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()


def show_rollouts(handler: CallbackHandler, optimizer_steps: int) -> None:
    """
    Puts a line per rollout in the place of the metrics that Trainer prints.

    Callbacks of the user's own and the tables of notebooks stay as they are.

    Args:
        handler (`CallbackHandler`): the trainer's callbacks.
        optimizer_steps (`int`): optimizer steps per rollout.
    """
    ours = {ProgressCallback: RolloutProgressCallback, PrinterCallback: RolloutPrinterCallback}
    handler.callbacks = [
        ours[type(callback)](optimizer_steps) if type(callback) in ours else callback for callback in handler.callbacks
    ]
