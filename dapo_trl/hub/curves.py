"""The curves of a run in one picture."""

from itertools import zip_longest
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from ..reporting.charts import STYLE, charts, draw
from ..reporting.panels import ACCEPTANCE, ACCURACY, ENTROPY, LENGTH, PROBABILITY, REWARD
from ..reporting.runs import Run


PANELS = (ACCURACY, LENGTH, REWARD, ENTROPY, PROBABILITY, ACCEPTANCE)


def draw_curves(run: Run, path: Path) -> None:
    """Writes a PNG of up to six panels, those with data: the paper's Fig. 7, accuracy and acceptance rate."""
    drawn = [chart for panel in PANELS for chart in charts(panel, {run.name: [run]})]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10, 5.2), layout="constrained")
        for axes, chart in zip_longest(figure.subplots(2, 3).flat, drawn):
            if chart is None:
                axes.set_axis_off()
            else:
                draw(axes, chart)
        figure.savefig(path, dpi=110)
