"""The curves of a run in one picture."""

from pathlib import Path

from matplotlib.figure import Figure

from ..reporting.panels import ACCURACY, FIGURE_7, SAMPLING
from ..reporting.runs import Run, RunGroup
from ..reporting.series import axis_of, training_series
from ..reporting.themes import LIGHT


PANELS = (ACCURACY, *FIGURE_7, SAMPLING.panels[0])


def draw_curves(run: Run, path: Path) -> None:
    """Writes a PNG of six panels: the paper's Fig. 7, accuracy and acceptance rate."""
    group = RunGroup(run.label, [run])
    axis = axis_of([group])
    figure = Figure(figsize=(10, 5.2), layout="constrained")
    for axes, panel in zip(figure.subplots(2, 3, sharex=True).flat, PANELS, strict=True):
        series = training_series(group, next(iter(panel.metrics)), axis)
        if series is not None:
            axes.plot(series.x, series.mean, color=LIGHT.series[0])
        axes.set_title(panel.title, fontsize=10)
        axes.set_ylabel(panel.unit, fontsize=8)
        axes.grid(alpha=0.3)
    figure.supxlabel({"rollout": "Rollout", "step": "Optimizer step"}[axis], fontsize=9)
    figure.savefig(path, dpi=110)
