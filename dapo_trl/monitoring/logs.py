"""What a run logs: joined to a record per rollout, written to `metrics.jsonl`, and shown as a line per rollout."""

import json
import math
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean
from typing import Any

from accelerate.logging import get_logger
from tqdm.auto import tqdm
from transformers import PrinterCallback, ProgressCallback, TrainerCallback
from transformers.trainer_callback import CallbackHandler

from ..run.atomic_write import write_atomically
from ..run.secret_values import mask_values


logger = get_logger(__name__)

METRICS_FILE = "metrics.jsonl"

COLUMNS = {
    "reward": ("reward", "{:6.3f}"),
    "accuracy": ("frac_correct", "{:.3f}"),
    "accepted": ("dynamic_sampling/acceptance_rate", "{:.2f}"),
    "length": ("completions/mean_length", "{:6.1f}"),
    "entropy": ("entropy", "{:.3f}"),
    "": ("time/rollout", "{:6.1f} s"),
}
"""Columns of a rollout's line: what stands before the value, the metric, and its format."""


def is_training_log(logs: dict[str, Any]) -> bool:
    """Whether a log is one of the training's optimizer steps, not of an evaluation or the summary at the end."""
    return "loss" in logs


class RolloutRecords:
    """
    Joins the logs of a rollout to one record with the mean of each metric.

    With one log per rollout, which is the default, a log is a record. With less than one, a record stands for several
    rollouts.
    """

    def __init__(self, optimizer_steps: int):
        self.optimizer_steps = optimizer_steps
        self._last = 0
        self._values: dict[str, list[float]] = defaultdict(list)

    def add(self, step: int, logs: dict[str, Any]) -> dict[str, float] | None:
        """If a training log ends a rollout, its metrics, `step` and `rollout`, both counted from 1; else None."""
        if not is_training_log(logs):
            return None
        for name, value in logs.items():
            if isinstance(value, int | float):
                self._values[name].append(value)
        rollout = step // self.optimizer_steps
        if rollout <= self._last:
            return None
        record = {name: fmean(values) for name, values in self._values.items()}
        self._values.clear()
        self._last = rollout
        return record | {"step": step, "rollout": rollout}

    def add_history(self, history: Iterable[dict[str, Any]]) -> list[dict[str, float]]:
        """The records of a run that is resumed, from Trainer's `log_history`."""
        records = [self.add(logs["step"], logs) for logs in history]
        return [record for record in records if record is not None]


# The file


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """
    What a run has logged so far.

    Args:
        path (`str` or `Path`): the file, or the run's output directory.

    Returns:
        `list[dict[str, Any]]`: one record per log, in order. Each has `step` (optimizer steps so far), `rollout`
        (rollouts so far, the one in use included), `time` (seconds since 1970), and what was logged; metrics of an
        evaluation begin with `eval_`. A line that was not written to its end is left out.

    Raises:
        FileNotFoundError: if there is no such file.
    """
    path = Path(path)
    if path.is_dir():
        path = path / METRICS_FILE
    records = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(record, dict) and "step" in record:
            records.append(record)
    return records


class MetricsFileCallback(TrainerCallback):
    """
    Writes one JSON object per log to `metrics.jsonl` in the output directory, on the main process.

    A run that is resumed goes on in the same file: steps after the checkpoint are taken out first, because they are
    done again. A run that starts from scratch moves the file of an earlier run to `metrics.1.jsonl`, and so on. A file
    that cannot be written never stops a run: it is warned of once.
    """

    def __init__(self, optimizer_steps: int):
        self.optimizer_steps = optimizer_steps
        self._has_warned = False

    def on_train_begin(self, args, state, control, **kwargs):
        path = Path(args.output_dir, METRICS_FILE)
        if not state.is_world_process_zero or not path.exists():
            return
        try:
            if state.global_step > 0:
                kept = [record for record in read_metrics(path) if record["step"] <= state.global_step]
                write_atomically(path, "".join(json.dumps(record) + "\n" for record in kept))
            else:
                number = 1
                while path.with_suffix(f".{number}.jsonl").exists():
                    number += 1
                path.rename(path.with_suffix(f".{number}.jsonl"))
        except OSError as error:
            self._warn(path, error)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if not state.is_world_process_zero:
            return
        rollout = math.ceil(state.global_step / self.optimizer_steps)
        record = {"step": state.global_step, "rollout": rollout, "time": time.time()}
        for name, value in logs.items():
            is_number = not isinstance(value, float) or math.isfinite(value)
            record[name] = value if is_number else None  # JSON has no NaN and no infinity
        path = Path(args.output_dir, METRICS_FILE)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _append(path, json.dumps(mask_values(record), default=str))
        except OSError as error:
            self._warn(path, error)

    def _warn(self, path: Path, error: OSError) -> None:
        if not self._has_warned:
            logger.warning(
                f"Metrics cannot be written to {path}: {error}. The run goes on without; metrics still reach the "
                "trackers of report_to and trainer_state.json. Free some space, or check permissions of output_dir."
            )
            self._has_warned = True


def _append(path: Path, line: str) -> None:
    with open(path, "ab+") as file:
        if file.tell() > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                line = "\n" + line  # after a line that was not written to its end
        file.write((line + "\n").encode())


# The terminal


def _rollout_line(record: dict[str, float], num_rollouts: int) -> str:
    """The most important metrics of a rollout, in about 100 characters."""
    width = len(str(num_rollouts))
    words = [f"rollout {int(record['rollout']):{width}}/{num_rollouts}"]
    for label, (metric, form) in COLUMNS.items():
        if metric in record:
            words.append(f"{label} {form.format(record[metric])}".strip())
    return "  ".join(words)


def _evaluation_line(logs: dict[str, Any], step: int) -> str:
    """avg@k with its interval, length and seconds of an evaluation; everything if there is no avg@k."""
    scores = {name: value for name, value in logs.items() if "avg@" in name and not name.endswith(("_low", "_high"))}
    if not scores:
        return _other_line(logs)
    words = [f"evaluation after step {step}"]
    for name, value in scores.items():
        low, high = logs.get(f"{name}_low"), logs.get(f"{name}_high")
        interval = f" [{low:.3f}, {high:.3f}]" if low is not None and high is not None else ""
        words.append(f"{name.removeprefix('eval_')} {value:.3f}{interval}")
    shown = {"length": "eval_completions/mean_length", "seconds": "eval_runtime"}
    words += [f"{label} {logs[name]:.1f}" for label, name in shown.items() if logs.get(name) is not None]
    return "  ".join(words)


def _other_line(logs: dict[str, Any]) -> str:
    return "  ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in logs.items()
        if name not in ("epoch", "total_flos")
    )


class ProgressBarCallback(ProgressCallback):
    """Trainer's progress bar without the metrics."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        pass


class RolloutLineCallback(TrainerCallback):
    """Writes a line per rollout, above a progress bar if there is one, and of whatever else is logged."""

    def __init__(self, optimizer_steps: int):
        self._records = RolloutRecords(optimizer_steps)

    def on_train_begin(self, args, state, control, **kwargs):
        self._records = RolloutRecords(self._records.optimizer_steps)
        self._records.add_history(state.log_history)

    def on_log(self, args, state, control, logs=None, **kwargs):
        line = self.line(logs, state.global_step, state.max_steps)
        if line and state.is_world_process_zero:
            tqdm.write(line)
            sys.stdout.flush()

    def line(self, logs: dict[str, Any], step: int, max_steps: int) -> str | None:
        """The line of a log; None if the rollout goes on."""
        if is_training_log(logs):
            record = self._records.add(step, logs)
            return _rollout_line(record, math.ceil(max_steps / self._records.optimizer_steps)) if record else None
        if any(name.startswith("eval_") for name in logs):
            return _evaluation_line(logs, step)
        if "train_runtime" in logs:
            return f"{step} optimizer steps in {logs['train_runtime']:.1f} s"
        return _other_line(logs)


def show_rollouts(handler: CallbackHandler, optimizer_steps: int) -> None:
    """Puts the lines in the place of the metrics that Trainer prints; other callbacks stay as they are."""
    callbacks: list[TrainerCallback] = []
    for callback in handler.callbacks:
        if type(callback) is ProgressCallback:
            callbacks += [ProgressBarCallback(), RolloutLineCallback(optimizer_steps)]
        elif type(callback) is PrinterCallback:
            callbacks.append(RolloutLineCallback(optimizer_steps))
        else:
            callbacks.append(callback)
    handler.callbacks = callbacks
