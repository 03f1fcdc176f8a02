"""Charts: drawn once for the page and once for a file."""

import contextlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from .panels import Panel
from .runs import RunGroup
from .series import Series, evaluation_series, training_series
from .themes import LIGHT, PLACEHOLDERS, Theme, with_variables


SIZE = (4.2, 2.6)
"""Inches: a column of a paper, and about 400 pixels of a page."""

DASHES = ("-", (0, (4, 1.6)), (0, (1.2, 1.4)))
"""Styles of several metrics in one chart, where colours tell runs apart."""

OF_ONE_RUN = ("each", "stack")
"""Kinds of charts in which colours tell metrics apart."""

FEW_POINTS = 12
"""Points of a curve that are marked."""

_STYLE = {
    "axes.edgecolor": "none",
    "axes.formatter.limits": (-3, 6),
    "axes.formatter.use_mathtext": True,
    "axes.labelsize": 8.5,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["Helvetica Neue", "Helvetica", "Arial", "Liberation Sans", "DejaVu Sans"],
    "font.size": 8.5,
    "legend.fontsize": 8,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "svg.fonttype": "none",
}


@dataclass(frozen=True)
class Chart:
    """
    A chart with its data.

    Args:
        panel ([`Panel`]): what it shows.
        groups (`list[tuple[int, RunGroup]]`): the runs it shows, each with the number of its colour.
        axis (`str`): `rollout` or `step`.
        limits (`tuple[float, float]`): ends of the horizontal axis, the same for all charts of a report.
        name (`str`): name of its file.
        subtitle (`str`): the run, if it shows one of several.
        caption (`str`): what it looks like when the run is well; of several charts of a panel the first has it.
    """

    panel: Panel
    groups: list[tuple[int, RunGroup]]
    axis: str
    limits: tuple[float, float]
    name: str
    subtitle: str
    caption: str

    @property
    def title(self) -> str:
        """Of panel and run."""
        return f"{self.panel.title}: {self.subtitle}" if self.subtitle else self.panel.title


def charts(panel: Panel, groups: list[RunGroup], axis: str) -> list[Chart]:
    """The charts of a panel: one, or one per run; none without data."""
    numbered = list(enumerate(groups))
    has_data = [item for item in numbered if any(_series(panel, item[1], name, axis) for name in panel.metrics)]
    if not has_data:
        return []
    limits = _limits(groups, axis)
    if panel.kind not in OF_ONE_RUN or len(groups) == 1:
        return [Chart(panel, has_data, axis, limits, panel.name, "", panel.healthy)]
    return [
        Chart(panel, [item], axis, limits, f"{panel.name}_{item[0] + 1}", item[1].name, "" if i else panel.healthy)
        for i, item in enumerate(has_data)
    ]


def _limits(groups: list[RunGroup], axis: str) -> tuple[float, float]:
    runs = [run.records for group in groups for run in group.runs]
    first, last = min(records[0][axis] for records in runs), max(records[-1][axis] for records in runs)
    margin = 0.015 * (last - first) or 0.5
    return first - margin, last + margin


def save_png(chart: Chart, path: Path) -> None:
    """Writes a chart with title and legend, for papers and slides."""
    figure = _draw(chart, LIGHT, is_file=True)
    figure.savefig(path, format="png", dpi=200, facecolor="white")


def inline_svg(chart: Chart) -> str:
    """A chart as an `<svg>` element that takes font and colours from the page."""
    with matplotlib.rc_context({"svg.hashsalt": chart.name}):
        buffer = io.StringIO()
        figure = _draw(chart, PLACEHOLDERS, is_file=False)
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r"font: (?:\d+ )?([\d.]+px)[^;\"]*", r"font-size: \1", svg)
    svg = re.sub(r'<svg ([^>]*?)width="[^"]*" height="[^"]*"', r'<svg role="img" aria-hidden="true" \1', svg, count=1)
    prefix = f"{chart.name}-"  # several drawings on one page
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}", svg)
    return with_variables(svg)


@contextlib.contextmanager
def styled(theme: Theme) -> Iterator[None]:
    """Inside, figures look as those of a report."""
    colors = {"text.color": theme.ink, "axes.labelcolor": theme.ink, "xtick.color": theme.ink}
    with matplotlib.rc_context({**_STYLE, **colors, "ytick.color": theme.ink}):
        yield


def draw_on(axes: Axes, chart: Chart, theme: Theme) -> list[Artist]:
    """Draws a chart without title and legend. Returns what a legend of its metrics holds."""
    draw = _draw_metrics if chart.panel.kind in OF_ONE_RUN else _draw_runs
    handles = draw(chart, axes, theme)
    _finish(chart, axes, theme)
    return handles


def _draw(chart: Chart, theme: Theme, is_file: bool) -> Figure:
    with styled(theme):
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.subplots()
        handles = draw_on(axes, chart, theme)
        if is_file:
            axes.set_title(_plain(chart.title))
            handles = _run_handles(chart, theme) + handles  # on the page, a legend of its own names the runs
        if handles:
            options = {"frameon": False, "handlelength": 1.6, "columnspacing": 1.2}
            figure.legend(handles=handles, loc="outside lower left", ncols=3, **options)
    return figure


def _run_handles(chart: Chart, theme: Theme) -> list[Line2D]:
    if len(chart.groups) == 1:
        return []
    return [Line2D([], [], color=theme.series[number], label=_plain(group.name)) for number, group in chart.groups]


def _plain(name: str) -> str:
    """A name that Matplotlib takes neither for a formula nor for one to be left out of legends."""
    return name.replace("$", r"\$").lstrip("_")


def _series(panel: Panel, group: RunGroup, metric: str, axis: str) -> Series | None:
    read = evaluation_series if panel.kind == "evaluation" else training_series
    return read(group, metric, axis)


def _draw_runs(chart: Chart, axes: Axes, theme: Theme) -> list[Line2D]:
    """All runs overlaid. Returns the legend of the metrics: none for one alone."""
    drawn = {}
    for dash, (metric, label) in zip(DASHES, chart.panel.metrics.items(), strict=False):
        for number, group in chart.groups:
            series = _series(chart.panel, group, metric, chart.axis)
            if series is None:
                continue
            color = theme.series[number]
            has_marks = chart.panel.kind == "evaluation" or len(series.x) <= FEW_POINTS
            axes.plot(series.x, series.mean, color=color, linestyle=dash, marker="o" if has_marks else "", ms=3)
            if series.has_band:
                axes.fill_between(series.x, series.low, series.high, color=color, alpha=0.16, linewidth=0)
            drawn[label] = Line2D([], [], color=theme.ink, linewidth=1.2, linestyle=dash, label=label)
    return list(drawn.values()) if len(chart.panel.metrics) > 1 else []


def _draw_metrics(chart: Chart, axes: Axes, theme: Theme) -> list[Patch]:
    """
    The metrics of one run, as lines or on top of each other.

    Returns the legend. A metric that is zero all the time is left out.
    """
    (_, group) = chart.groups[0]
    parts = {label: _series(chart.panel, group, name, chart.axis) for name, label in chart.panel.metrics.items()}
    parts = {label: series for label, series in parts.items() if series is not None and series.mean.any()}
    if not parts:
        return []
    colors = dict(zip(chart.panel.metrics.values(), (*theme.parts, theme.muted), strict=False))
    if chart.panel.kind == "stack":
        x = next(iter(parts.values())).x
        values = [np.interp(x, series.x, series.mean) for series in parts.values()]
        axes.stackplot(x, values, colors=[colors[label] for label in parts], linewidth=0, alpha=0.85)
        axes.set_ylim(bottom=0)
    else:
        for label, series in parts.items():
            axes.plot(
                series.x, series.mean, color=colors[label], marker="o" if len(series.x) <= FEW_POINTS else "", ms=3
            )
    return [Patch(color=colors[label], label=label) for label in parts]


def _finish(chart: Chart, axes: Axes, theme: Theme) -> None:
    axes.set_xlabel({"rollout": "Rollout", "step": "Optimizer step"}[chart.axis])
    axes.set_ylabel(chart.panel.unit)
    axes.grid(axis="y", color=theme.rule, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    axes.spines["bottom"].set(edgecolor=theme.rule, linewidth=0.9)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.set_xlim(*chart.limits)
    if chart.panel.is_share:
        axes.set_ylim(bottom=max(axes.get_ylim()[0], -0.04 * axes.get_ylim()[1]))  # no share is below 0
        axes.yaxis.set_major_formatter(lambda value, position: f"{100 * value:.4g}%")
    elif axes.get_ylim()[1] >= 1000:
        axes.yaxis.set_major_formatter("{x:,.0f}")
