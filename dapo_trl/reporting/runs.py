"""What runs have left in their output directories, and which of them are seeds of one."""

import json
import logging
import math
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from ..monitoring import METRICS_FILE, read_metrics
from ..monitoring.records import is_training_log
from ..monitoring.timer import PHASES
from .settings import Settings, load_settings


logger = logging.getLogger(__name__)

Record = dict[str, float]

TRAINER_STATE = "trainer_state.json"

_SEED = re.compile(r"(?P<name>.+?)[-_./ ]*seed[-_=]?\d+", re.IGNORECASE)


class ReportError(ValueError):
    """A report that cannot be made of what was given."""


@dataclass(frozen=True)
class Run:
    """
    One run.

    Attributes:
        path (`Path`): its output directory.
        label (`str`): its name on the page.
        records (`list[Record]`): training metrics, one record per rollout that was logged, oldest first.
        evaluations (`list[Record]`): metrics of evaluations, whose names begin with `eval_`.
        settings ([`Settings`]): its settings.
        is_ended (`bool`): its training has come to its end; else it is under way, or was killed.
    """

    path: Path
    label: str
    records: list[Record]
    evaluations: list[Record]
    settings: Settings
    is_ended: bool


@dataclass(frozen=True)
class RunGroup:
    """
    Runs that differ in their seed only.

    Attributes:
        name (`str`): their common name.
        runs (`list[Run]`): at least one.
    """

    name: str
    runs: list[Run]


def load_runs(paths: list[Path]) -> list[RunGroup]:
    """
    Reads runs, and puts seeds of one run together.

    Args:
        paths (`list[Path]`): output directories.

    Raises:
        ReportError: if a directory is no run's, has no training record yet, or is given twice.
    """
    resolved = [path.resolve() for path in paths]
    for path in resolved:
        if resolved.count(path) > 1:
            raise ReportError(f"{path} is given more than once. Give every run once.")
    runs = [load_run(path, label) for path, label in zip(resolved, labels(resolved), strict=True)]
    groups = defaultdict(list)
    for run in runs:
        if not run.settings.values:
            logger.warning(
                "%s has no readable settings.json or training_args.bin, so its settings are unknown.", run.path
            )
        match = _SEED.fullmatch(run.label)
        groups[match["name"] if match else run.label].append(run)
    return [RunGroup(name, members) for name, members in groups.items()]


def labels(paths: list[Path]) -> list[str]:
    """As many of the last parts of each path as tell them apart; `seed3` alone says too little."""
    num_parts = 1 if not any(re.fullmatch(r"seed[-_=]?\d+", path.name, re.IGNORECASE) for path in paths) else 2
    while True:
        names = ["/".join(path.parts[-num_parts:]) for path in paths]
        if len(set(names)) == len(set(paths)):
            return names
        num_parts += 1


def load_run(path: Path, label: str) -> Run:
    """
    Reads one run, under way or ended.

    Raises:
        ReportError: if it is no run's output directory, or has no training record yet.
    """
    settings = load_settings(path) if path.is_dir() else Settings()
    logs = read_logs(path)
    optimizer_steps = settings.optimizer_steps_per_rollout
    records = [_with_other_time(log) for log in by_rollout(filter(is_training_log, logs), optimizer_steps)]
    if not records:
        raise ReportError(f"{path} has no training record yet. Wait for the end of its first rollout.")
    evaluations = [log for log in logs if any(name.startswith("eval_") for name in log)]
    evaluations = by_rollout(evaluations, optimizer_steps)
    max_steps = settings.values.get("max_steps", -1)
    is_ended = "train_runtime" in logs[-1] or 0 < max_steps <= records[-1]["step"]
    return Run(path, label, records, evaluations, settings, is_ended)


def read_logs(path: Path) -> list[dict[str, Any]]:
    """
    Everything a run has logged: its `metrics.jsonl`, else `trainer_state.json` of the run or its last checkpoint.

    Raises:
        ReportError: if there is neither.
    """
    if not path.is_dir():
        raise ReportError(f"{path} is not a directory. Give the output_dir of a run.")
    if (path / METRICS_FILE).is_file():
        return read_metrics(path)
    states = [path / TRAINER_STATE, *path.glob(f"checkpoint-*/{TRAINER_STATE}")]
    histories = [history for history in map(_read_history, states) if history]
    if not histories:
        raise ReportError(
            f"{path} has neither {METRICS_FILE} nor a readable {TRAINER_STATE}, nor has a checkpoint in it. Give the "
            "output_dir of a run that has logged something."
        )
    return max(histories, key=lambda history: history[-1]["step"])


def _read_history(path: Path) -> list[dict[str, Any]]:
    """Empty if the file is missing, or is being written just now."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))["log_history"]
    except (OSError, ValueError, KeyError):
        return []


def by_rollout(logs: Iterable[dict[str, Any]], optimizer_steps: int | None) -> list[Record]:
    """
    Joins the logs of each rollout to one record of means.

    Args:
        logs (`Iterable[dict]`): each with `step`, and with `rollout` if it is known.
        optimizer_steps (`int`, *optional*): optimizer steps per rollout, for logs without `rollout`.

    Returns:
        `list[Record]`: in order. Where rollouts are unknown, one record per step, without `rollout`.
    """
    grouped = defaultdict(list)
    for log in logs:
        rollout = log.get("rollout")
        if rollout is None and optimizer_steps:
            rollout = math.ceil(log["step"] / optimizer_steps)
        is_known = rollout is not None
        grouped[rollout if is_known else log["step"]].append(log | {"rollout": rollout} if is_known else log)
    return [_mean_record(grouped[key]) for key in sorted(grouped)]


def _mean_record(logs: list[dict[str, Any]]) -> Record:
    values = defaultdict(list)
    for log in logs:
        for name, value in log.items():
            if isinstance(value, int | float) and math.isfinite(value):
                values[name].append(value)
    return {name: fmean(numbers) for name, numbers in values.items()} | {"step": logs[-1]["step"]}


def _with_other_time(record: Record) -> Record:
    """Adds `time/other`: seconds of the rollout that belong to no phase."""
    if "time/rollout" not in record:
        return record
    in_phases = sum(record.get(f"time/{phase}", 0.0) for phase in PHASES)
    return record | {"time/other": max(0.0, record["time/rollout"] - in_phases)}
