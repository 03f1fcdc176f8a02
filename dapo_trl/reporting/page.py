"""The page: everything in one HTML file, which loads nothing and runs nothing."""

import base64
import re
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from .. import __version__
from ..run.secret_values import mask_text
from .charts import COLORS, SMOOTHED_FROM, charts, to_png
from .panels import SECTIONS, evaluation_panels
from .runs import ReportError, Run
from .samples import Sample, samples
from .tables import evaluation_tables, find_summaries, key_figures, settings_table


PAGE = "report.html"
PLOTS = "plots"


def write_report(groups: dict[str, list[Run]], output_dir: Path, title: str, evaluations: list[Path]) -> Path:
    """Writes `report.html`, and its charts as `plots/*.png`; `evaluations` are further summaries."""
    if len(groups) > len(COLORS):
        raise ReportError(
            f"{len(groups)} runs ({', '.join(groups)}) are more than can be told apart in one chart, {len(COLORS)}. "
            "Make several reports, or name the directories of seeds of one run <name>-seed<number>."
        )
    environment = Environment(
        loader=PackageLoader(__package__, "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["table"] = _to_html
    text = environment.get_template("report.html.j2").render(
        title=title,
        created=datetime.now(UTC).strftime("%-d %B %Y, %H:%M UTC"),
        version=__version__,
        figures=pd.DataFrame.from_dict({name: _figures(runs) for name, runs in groups.items()}, orient="index"),
        sections=_sections(groups, output_dir / PLOTS),
        smoothed_from=SMOOTHED_FROM,
        tables=evaluation_tables(find_summaries(groups, evaluations)),
        settings=settings_table(groups),
        samples=_samples(groups),
        plots=PLOTS,
    )
    page = output_dir / PAGE
    page.write_text(mask_text(text), encoding="utf-8", errors="replace")
    return page


def _figures(runs: list[Run]) -> dict[str, str]:
    going = sum(not run.is_ended for run in runs)
    status = "ended" if not going else "not ended" if len(runs) == 1 else f"{going} of {len(runs)} not ended"
    return {"Seeds": str(len(runs)), "Status": status} | key_figures(runs)


def _samples(groups: dict[str, list[Run]]) -> dict[str, list[Sample]]:
    """By the name of the run: the first seed of each group whose completions were logged."""
    shown = {}
    for runs in groups.values():
        for run in runs:
            if found := samples(run):
                shown[run.name] = found
                break
    return shown


def _sections(groups: dict[str, list[Run]], folder: Path) -> dict[str, list[tuple[str, str]]]:
    """Title and base64 of each chart, by heading; writes the charts as files, too."""
    folder.mkdir(parents=True, exist_ok=True)
    sections: dict[str, list[tuple[str, str]]] = {}
    for heading, panels in ({"Evaluation during training": evaluation_panels(groups)} | SECTIONS).items():
        for chart in (chart for panel in panels for chart in charts(panel, groups)):
            picture = to_png(chart)
            name = re.sub(r"\W+", "_", chart.title)
            (folder / f"{name}.png").write_bytes(picture)
            sections.setdefault(heading, []).append((chart.title, base64.b64encode(picture).decode()))
    return sections


def _to_html(table: pd.DataFrame) -> Markup:
    """Pandas escapes all texts."""
    with pd.option_context("display.max_colwidth", None):
        return Markup(table.to_html(border=0, na_rep="", escape=True))
