"""The curves of a run in one picture."""

from itertools import zip_longest
from pathlib import Path

from matplotlib.figure import Figure

from ..reporting.figures import charts, draw_on, styled
from ..reporting.panels import ACCURACY, FIGURE_7, SAMPLING
from ..reporting.runs import Run, RunGroup
from ..reporting.series import axis_of
from ..reporting.themes import LIGHT


PANELS = (ACCURACY, *FIGURE_7, SAMPLING.panels[0])


def draw_curves(run: Run, path: Path) -> None:
    """Writes a PNG of up to six panels, those with data: the paper's Fig. 7, accuracy and acceptance rate."""
    groups = [RunGroup(run.label, [run])]
    drawn = [chart for panel in PANELS for chart in charts(panel, groups, axis_of(groups))]
    with styled(LIGHT):
        figure = Figure(figsize=(10, 5.2), layout="constrained")
        for axes, chart in zip_longest(figure.subplots(2, 3).flat, drawn):
            if chart is None:
                axes.set_axis_off()
            else:
                draw_on(axes, chart, LIGHT)
                axes.set_title(chart.title)
        figure.savefig(path, dpi=110, facecolor="white")
