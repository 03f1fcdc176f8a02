"""Reads what runs have left in their output directories, and groups runs that are seeds of one setting."""

import json
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..monitoring import METRICS_FILE, read_metrics
from ..monitoring.records import is_training_log
from ..run.settings_file import read_settings


logger = logging.getLogger(__name__)

TRAINER_STATE = "trainer_state.json"

_SEED = re.compile(r"[-_./ ]*seed[-_=]?\d+$", re.IGNORECASE)


class ReportError(ValueError):
    """A report that cannot be made of what was given."""


@dataclass(frozen=True)
class Run:
    """
    One run, under way or ended, with its name on the page.

    `training` has one row per rollout that was logged, with `rollout`, `step` and the means of what was logged; one
    row per step, without `rollout`, for runs of other trainers. `evaluations` has the same of metrics that begin with
    `eval_`. `settings` and `defaults` are empty if they are unknown.
    """

    path: Path
    name: str
    training: pd.DataFrame
    evaluations: pd.DataFrame
    settings: dict[str, Any]
    defaults: dict[str, Any]
    is_ended: bool

    @property
    def num_rollouts(self) -> int:
        """Rollouts so far; rows, where rollouts are unknown."""
        return int(self.training["rollout"].iloc[-1]) if "rollout" in self.training else len(self.training)


def load_runs(paths: list[Path]) -> dict[str, list[Run]]:
    """
    Reads runs, and groups those whose directories differ only in a `seed<number>` at their end, by name of the group.
    """
    paths = [path.resolve() for path in paths]
    for path in paths:
        if paths.count(path) > 1:
            raise ReportError(f"{path} is given more than once. Give every run once.")
    parents = [Path(_SEED.sub("", str(path))) for path in paths]
    run_names, group_names = _short_names(paths), _short_names(parents)
    groups: dict[str, list[Run]] = {}
    for path, parent in zip(paths, parents, strict=True):
        run = load_run(path, run_names[path])
        if not run.settings:
            logger.warning("%s has no settings.json, so its settings are unknown.", path)
        groups.setdefault(group_names[parent], []).append(run)
    return groups


def _short_names(paths: list[Path]) -> dict[Path, str]:
    """The last part of each path if that tells them apart, else the path below what they have in common."""
    names = {path: path.name for path in paths}
    if len(set(names.values())) == len(names):
        return names
    common = os.path.commonpath([path.parent for path in paths])
    return {path: os.path.relpath(path, common) for path in paths}


def load_run(path: Path, name: str) -> Run:
    """Reads one run."""
    logs = _read_logs(path)
    training = _by_rollout([log for log in logs if is_training_log(log)])
    if training.empty:
        raise ReportError(f"{path} has no training record yet. Wait for the end of its first rollout.")
    evaluations = _by_rollout([log for log in logs if any(metric.startswith("eval_") for metric in log)])
    settings, defaults = read_settings(path) or ({}, {})
    is_ended = "train_runtime" in logs[-1] or 0 < settings.get("max_steps", -1) <= training["step"].iloc[-1]
    return Run(path, name, training, evaluations, settings, defaults, is_ended)


def _read_logs(path: Path) -> list[dict[str, Any]]:
    """`metrics.jsonl`, or for a run of another trainer the longest `trainer_state.json`."""
    if not path.is_dir():
        raise ReportError(f"{path} is not a directory. Give the output_dir of a run.")
    if (path / METRICS_FILE).is_file():
        return read_metrics(path)
    histories = [_read_history(state) for state in (path / TRAINER_STATE, *path.glob(f"checkpoint-*/{TRAINER_STATE}"))]
    longest = max(histories, key=len)
    if not longest:
        raise ReportError(
            f"{path} has neither {METRICS_FILE} nor a readable {TRAINER_STATE}, nor has a checkpoint in it. Give the "
            "output_dir of a run that has logged something."
        )
    return longest


def _read_history(path: Path) -> list[dict[str, Any]]:
    """Empty if the file is missing, or is being written just now."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))["log_history"]
    except (OSError, ValueError, KeyError):
        return []


def _by_rollout(logs: list[dict[str, Any]]) -> pd.DataFrame:
    """Means of the logs of each rollout, and its last step."""
    table = pd.DataFrame(logs).select_dtypes("number").replace([np.inf, -np.inf], np.nan)
    if table.empty:
        return table
    by_rollout = table.groupby(table["rollout" if "rollout" in table else "step"].to_numpy())
    return by_rollout.mean().assign(step=by_rollout["step"].max()).reset_index(drop=True)
