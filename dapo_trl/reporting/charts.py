"""Curves over rollouts, with bands over seeds, drawn by Matplotlib."""

import io
from dataclasses import dataclass
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .panels import Panel
from .runs import Run


# Okabe and Ito's palette, which can be told apart with colour blindness; grey for its yellow, too pale on white.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6b6f76")

SMOOTHED_FROM = 400  # rollouts from which on curves are smoothed

# Settings of Matplotlib, for `matplotlib.rc_context`.
STYLE: dict[Any, Any] = {
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "font.size": 8.5,
    "grid.color": "#e3e6ea",
    "legend.frameon": False,
    "text.parse_math": False,  # runs may have a $ in their names
}


@dataclass(frozen=True)
class Chart:
    """A chart with its data."""

    title: str
    unit: str  # of the vertical axis
    curves: dict[str, pd.DataFrame]  # what [`curve`] returns, by name; an empty one keeps its colour free


def charts(panel: Panel, groups: dict[str, list[Run]]) -> list[Chart]:
    """The charts of a panel that have data: one of all groups, or with several metrics one per group."""
    if len(panel.metrics) == 1:
        (metric,) = panel.metrics
        drawn = [Chart(panel.title, panel.unit, {name: curve(runs, metric) for name, runs in groups.items()})]
    else:
        drawn = []
        for name, runs in groups.items():
            curves = {label: curve(runs, metric) for metric, label in panel.metrics.items()}
            drawn.append(Chart(panel.title if len(groups) == 1 else f"{panel.title}: {name}", panel.unit, curves))
    return [chart for chart in drawn if any(len(values) for values in chart.curves.values())]


def curve(runs: list[Run], metric: str) -> pd.DataFrame:
    """
    Columns `mean`, `low` and `high` of a metric by rollout, over the seeds that have it. The band of a training metric
    reaches from the smallest to the largest seed, that of an evaluation is its 95% interval over problems: NaN where a
    seed has none.
    """
    columns = ["rollout", metric, f"{metric}_low", f"{metric}_high"]
    is_evaluation = metric.startswith("eval_")
    tables = [run.evaluations if is_evaluation else run.training for run in runs]
    tables = [table.reindex(columns=columns).dropna(subset=metric) for table in tables]
    for table in tables:
        if len(table) >= SMOOTHED_FROM and not is_evaluation:  # noise would hide where the curve goes
            table[metric] = table[metric].rolling(len(table) // 100, min_periods=1).mean()
    by_rollout = pd.concat(tables).groupby("rollout")
    if is_evaluation:
        values = by_rollout.mean().where(by_rollout.count().eq(by_rollout.size(), axis="index"))
    else:
        values = by_rollout[metric].agg(["mean", "min", "max"])
    return values.set_axis(["mean", "low", "high"], axis="columns")


def to_png(chart: Chart) -> bytes:
    """A chart of about the width of a column of a paper, with a legend if it has several curves."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.2, 2.8), layout="constrained")
        draw(figure.subplots(), chart)
        if len(chart.curves) > 1:
            longest = max(map(len, chart.curves))
            figure.legend(loc="outside lower left", ncols=max(1, 60 // (longest + 5)))  # about 60 letters are a row
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()


def draw(axes: Axes, chart: Chart) -> None:
    for number, (name, values) in enumerate(chart.curves.items()):
        if len(values):
            color, marker = COLORS[number], "o" if len(values) <= 12 else ""
            label = name.lstrip("_")  # Matplotlib leaves names that begin so out of legends
            axes.plot(values.index, values["mean"], color=color, marker=marker, markersize=3, label=label)
            axes.fill_between(values.index, values["low"], values["high"], color=color, alpha=0.16, linewidth=0)
    axes.set_title(chart.title)
    axes.set_xlabel("Rollout")
    axes.set_ylabel(chart.unit)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
