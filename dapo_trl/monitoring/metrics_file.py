"""`metrics.jsonl` in the output directory: everything that was logged, whatever tracker is used or none."""

import json
import math
import os
import time
from pathlib import Path
from typing import Any

from accelerate.logging import get_logger
from transformers import TrainerCallback

from ..run.atomic_write import write_atomically
from ..run.secret_values import mask_values


logger = get_logger(__name__)

METRICS_FILE = "metrics.jsonl"


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
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    records = (_parse(line) for line in lines)
    return [record for record in records if record is not None]


def _parse(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except json.JSONDecodeError:
        return None
    return record if isinstance(record, dict) and "step" in record else None


class MetricsFileCallback(TrainerCallback):
    """
    Writes one JSON object per log to `metrics.jsonl` in the output directory, on the main process.

    A run that is resumed goes on in the same file: steps after the checkpoint are taken out first, because they are
    done again. A run that starts afresh moves the file of an earlier run to `metrics.1.jsonl`, `metrics.2.jsonl`, ...

    A file that cannot be written never stops a run: it is warned of once.

    Args:
        optimizer_steps (`int`): optimizer steps per rollout.
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
                _cut(path, state.global_step)
            else:
                path.rename(_free_name(path))
        except OSError as error:
            self._warn(path, error)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if not state.is_world_process_zero:
            return
        rollout = math.ceil(state.global_step / self.optimizer_steps)
        record = {"step": state.global_step, "rollout": rollout, "time": time.time(), **_finite(logs)}
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


def _finite(logs: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN and no infinity: null."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in logs.items()
    }


def _append(path: Path, line: str) -> None:
    with open(path, "ab+") as file:
        if file.tell() > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                line = "\n" + line  # after a line that was not written to its end
        file.write((line + "\n").encode())


def _cut(path: Path, last_step: int) -> None:
    """Takes out what was logged after a step, in one go: the old file stays until the new one is complete."""
    kept = [record for record in read_metrics(path) if record["step"] <= last_step]
    write_atomically(path, "".join(json.dumps(record) + "\n" for record in kept))


def _free_name(path: Path) -> Path:
    number = 1
    while path.with_suffix(f".{number}.jsonl").exists():
        number += 1
    return path.with_suffix(f".{number}.jsonl")
