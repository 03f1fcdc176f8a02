"""Curves of runs as numbers: over rollouts, over seeds."""

from dataclasses import dataclass

import numpy as np

from .runs import Record, RunGroup


MAX_POINTS = 400
"""Points of a curve; more are joined to means, so that a long run does not make a large page."""


@dataclass(frozen=True)
class Series:
    """
    A curve with its band.

    Attributes:
        x (`np.ndarray` of shape `(N,)`): rollouts or optimizer steps.
        mean (`np.ndarray` of shape `(N,)`): mean over the seeds that have come so far.
        low, high (`np.ndarray` of shape `(N,)`): the band.
        has_band (`bool`): whether the band says anything.
    """

    x: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    has_band: bool


def axis_of(groups: list[RunGroup]) -> str:
    """What all runs can be drawn against: `rollout`, or `step` if that is unknown of some."""
    is_known = all("rollout" in record for group in groups for run in group.runs for record in run.records)
    return "rollout" if is_known else "step"


def training_series(group: RunGroup, metric: str, axis: str) -> Series | None:
    """
    A metric of the training, with the smallest and the largest value of the seeds as its band.

    Returns:
        [`Series`], or None if no run of the group has the metric.
    """
    grid = _grid([run.records for run in group.runs], metric, axis)
    if grid is None:
        return None
    x, values = _thin(*grid)
    return Series(x, np.nanmean(values, 0), np.nanmin(values, 0), np.nanmax(values, 0), has_band=len(values) > 1)


def evaluation_series(group: RunGroup, metric: str, axis: str) -> Series | None:
    """
    A metric of evaluations, with its 95% interval over problems as its band: means over the seeds.

    The band has a gap (NaN) where an evaluation of some seed has no interval, such as one that solves no problem.

    Returns:
        [`Series`], or None if no run of the group has the metric.
    """
    runs = [run.evaluations for run in group.runs]
    grid = _grid(runs, metric, axis)
    if grid is None:
        return None
    x, values = grid
    low, high = (_grid(runs, metric, axis, end)[1] for end in ("_low", "_high"))
    is_gap = (np.isnan(low + high) & ~np.isnan(values)).any(0)
    ends = (np.where(is_gap, np.nan, np.nanmean(np.where(is_gap, 0.0, end), 0)) for end in (low, high))
    return Series(x, np.nanmean(values, 0), *ends, has_band=not is_gap.all())


def _grid(runs: list[list[Record]], metric: str, axis: str, suffix: str = "") -> tuple[np.ndarray, np.ndarray] | None:
    """
    `x` of shape `(N,)` and values of shape `(S, N)`, NaN where a seed has none; None without any value.

    With a suffix the values are those of another metric, at the same places.
    """
    curves = [
        {record[axis]: record.get(f"{metric}{suffix}", np.nan) for record in records if metric in record}
        for records in runs
    ]
    curves = [curve for curve in curves if curve]
    if not curves:
        return None
    x = sorted(set().union(*curves))
    return np.array(x), np.array([[curve.get(value, np.nan) for value in x] for curve in curves])


def _thin(x: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most [`MAX_POINTS`] points: means of neighbours, for each seed on its own."""
    if len(x) <= MAX_POINTS:
        return x, values
    bins = np.array_split(np.arange(len(x)), MAX_POINTS)
    thinned = np.full((len(values), MAX_POINTS), np.nan)
    for column, members in enumerate(bins):
        for row, curve in enumerate(values[:, members]):
            if not np.isnan(curve).all():
                thinned[row, column] = np.nanmean(curve)
    return np.array([x[members].mean() for members in bins]), thinned
