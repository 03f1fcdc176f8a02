"""Reads what runs have left in their output directories, and groups runs that are seeds of one setting."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..monitoring import METRICS_FILE, read_metrics
from ..monitoring.logs import is_training_log
from ..run.settings_file import read_settings


_SEED = re.compile(r"[-_./ ]*seed[-_=]?\d+$", re.IGNORECASE)


class ReportError(ValueError):
    """A report that cannot be made of what was given."""


@dataclass(frozen=True)
class Run:
    """One run, under way or ended, with its name on the page."""

    path: Path
    name: str
    training: pd.DataFrame  # a row per rollout: `rollout`, `step` and the means of what was logged
    evaluations: pd.DataFrame  # the same of metrics that begin with `eval_`
    settings: dict[str, Any]  # empty if they are unknown
    defaults: dict[str, Any]
    is_ended: bool

    @property
    def num_rollouts(self) -> int:
        return int(self.training["rollout"].iloc[-1])


def load_runs(paths: list[Path]) -> dict[str, list[Run]]:
    """Runs by the name of their group: those whose directories differ only in a `seed<number>` at their end."""
    paths = [path.resolve() for path in paths]
    parents = [Path(_SEED.sub("", str(path))) for path in paths]
    run_names, group_names = _short_names(paths), _short_names(parents)
    groups: dict[str, list[Run]] = {}
    for path, parent in zip(paths, parents, strict=True):
        groups.setdefault(group_names[parent], []).append(load_run(path, run_names[path]))
    return groups


def _short_names(paths: list[Path]) -> dict[Path, str]:
    """The last part of each path if that tells them apart, else the path below what they have in common."""
    names = {path: path.name for path in paths}
    if len(set(names.values())) == len(names):
        return names
    common = os.path.commonpath([path.parent for path in paths])
    return {path: os.path.relpath(path, common) for path in paths}


def load_run(path: Path, name: str) -> Run:
    if not (path / METRICS_FILE).is_file():
        raise ReportError(f"{path} has no {METRICS_FILE}. Give the output_dir of a run that has logged something.")
    logs = read_metrics(path)
    training = _by_rollout([log for log in logs if is_training_log(log)])
    if training.empty:
        raise ReportError(f"{path} has no training record yet. Wait for the end of its first rollout.")
    evaluations = _by_rollout([log for log in logs if any(metric.startswith("eval_") for metric in log)])
    settings, defaults = read_settings(path) or ({}, {})
    is_ended = "train_runtime" in logs[-1] or 0 < settings.get("max_steps", -1) <= training["step"].iloc[-1]
    return Run(path, name, training, evaluations, settings, defaults, is_ended)


def _by_rollout(logs: list[dict[str, Any]]) -> pd.DataFrame:
    """Means of the logs of each rollout, and its last step."""
    table = pd.DataFrame(logs).select_dtypes("number").replace([np.inf, -np.inf], np.nan)
    if table.empty:
        return table
    by_rollout = table.groupby(table["rollout"].to_numpy())
    return by_rollout.mean().assign(step=by_rollout["step"].max()).reset_index(drop=True)
