"""The page: everything in one HTML file, which loads nothing and runs nothing."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from .. import __version__
from ..run.secret_values import mask_text
from .evaluations import Table, find_summaries, tables
from .figures import Chart, charts, inline_svg, save_png
from .highlights import Highlight, highlights, num_rollouts
from .panels import sections
from .runs import ReportError, RunGroup
from .samples import Sample, samples
from .series import MAX_POINTS, axis_of
from .settings import differing, differing_within
from .themes import DARK, LIGHT, variables


PAGE = "report.html"
PLOTS = "plots"
MAX_GROUPS = len(LIGHT.series)


@dataclass(frozen=True)
class Legend:
    """
    A run as the page names it.

    Attributes:
        number (`int`): of its colour.
        name (`str`): its name.
        status (`str`): seeds, rollouts so far, and whether it has ended.
        highlights (`list[Highlight]`): its most important figures.
    """

    number: int
    name: str
    status: str
    highlights: list[Highlight]


def write_report(groups: list[RunGroup], output_dir: Path, title: str, evaluations: list[Path]) -> Path:
    """
    Writes `report.html` and `plots/*.png`.

    Args:
        groups (`list[RunGroup]`): what to show.
        output_dir (`Path`): made if it does not exist.
        title (`str`): heading of the page.
        evaluations (`list[Path]`): further summaries of evaluations.

    Returns:
        `Path`: the page.

    Raises:
        ReportError: if there are more runs than can be told apart.
    """
    if len(groups) > MAX_GROUPS:
        names = ", ".join(group.name for group in groups)
        raise ReportError(
            f"{len(groups)} runs ({names}) are more than can be told apart in one chart, {MAX_GROUPS}. Make several "
            "reports, or name the directories of seeds of one run <name>-seed<number>."
        )
    evaluation_tables = tables(find_summaries(groups, evaluations))
    drawn = _draw(groups)
    (output_dir / PLOTS).mkdir(parents=True, exist_ok=True)
    for _, section_charts in drawn:
        for chart in section_charts:
            save_png(chart, output_dir / PLOTS / f"{chart.name}.png")
    page = output_dir / PAGE
    text = mask_text(_render(groups, title, drawn, evaluation_tables))
    page.write_text(text, encoding="utf-8", errors="replace")
    return page


def _draw(groups: list[RunGroup]) -> list[tuple[str, list[Chart]]]:
    axis = axis_of(groups)
    drawn = [
        (section.title, [chart for panel in section.panels for chart in charts(panel, groups, axis)])
        for section in sections(groups)
    ]
    return [(title, section_charts) for title, section_charts in drawn if section_charts]


def _render(
    groups: list[RunGroup], title: str, drawn: list[tuple[str, list[Chart]]], evaluation_tables: list[Table]
) -> str:
    legends = [_legend(number, group) for number, group in enumerate(groups)]
    environment = Environment(
        loader=PackageLoader(__package__, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["inline_svg"] = lambda chart: Markup(inline_svg(chart))  # drawn by us, with escaped texts
    return environment.get_template("report.html.j2").render(
        title=title,
        created=datetime.now(UTC).strftime("%-d %B %Y, %H:%M UTC"),
        version=__version__,
        light=variables(LIGHT),
        dark=variables(DARK),
        legends=legends,
        labels=_labels(legends),
        sections=drawn,
        has_seeds=any(len(group.runs) > 1 for group in groups),
        has_evaluations=any(run.evaluations for group in groups for run in group.runs),
        max_points=MAX_POINTS,
        is_thinned=any(len(run.records) > MAX_POINTS for group in groups for run in group.runs),
        settings=_settings(groups),
        notes=_notes(groups),
        tables=evaluation_tables,
        samples=_samples(groups),
        plots=PLOTS,
    )


def _legend(number: int, group: RunGroup) -> Legend:
    going = sum(not run.is_ended for run in group.runs)
    words = [f"{len(group.runs)} seeds"] if len(group.runs) > 1 else []
    most = max(num_rollouts(run) for run in group.runs)
    words.append(f"{most} rollouts" if most > 1 else "1 rollout")
    if going:
        words.append("not ended" if len(group.runs) == 1 else f"{going} not ended")
    return Legend(number, group.name, ", ".join(words), highlights(group))


def _labels(legends: list[Legend]) -> list[str]:
    """Headings of the table of highlights; only some runs may have evaluations, which then name theirs."""
    return [
        max((legend.highlights[i].label for legend in legends), key=len) for i in range(len(legends[0].highlights))
    ]


def _settings(groups: list[RunGroup]) -> dict[str, list[str]]:
    """Of several runs, what differs; of one, what is not the default."""
    if len(groups) > 1:
        return differing([[run.settings for run in group.runs] for group in groups])
    return {name: [value] for name, value in groups[0].runs[0].settings.chosen().items()}


def _notes(groups: list[RunGroup]) -> list[str]:
    notes = []
    for group in groups:
        names = differing_within(run.settings for run in group.runs)
        if names:
            notes.append(f"The seeds of {group.name} differ in more than their seed: {', '.join(names)}.")
        unknown = [run.label for run in group.runs if not run.settings.values]
        if unknown:
            notes.append(f"Settings that are unknown: those of {', '.join(unknown)}.")
    return notes


def _samples(groups: list[RunGroup]) -> list[tuple[str, list[Sample]]]:
    """By the run's label: the first seed of each run whose completions were logged."""
    shown = []
    for group in groups:
        for run in group.runs:
            chosen_samples = samples(run)
            if chosen_samples:
                shown.append((run.label, chosen_samples))
                break
    return shown
