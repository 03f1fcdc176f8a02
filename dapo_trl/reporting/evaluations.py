"""Evaluations of runs and their checkpoints as tables."""

import logging
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..evaluation.compare import NotComparableError, compare
from ..evaluation.summary import SummaryError, read_summary
from .runs import RunGroup


logger = logging.getLogger(__name__)

_PATTERNS = ("evaluation/summary-*.json", "checkpoint-*/evaluation/summary-*.json")


@dataclass(frozen=True)
class Row:
    """
    An evaluation.

    Attributes:
        model (`str`): the run, or checkpoint of a run, or the model's own name.
        measures (`dict[str, tuple[str, str]]`): mean and interval by measure.
        difference (`tuple[str, str]`): avg@k less that of the table's first row, and its interval; empty in the
            first row, and where the two cannot be compared.
        truncated (`str`): share of truncated completions.
        length (`str`): mean tokens per completion.
    """

    model: str
    measures: dict[str, tuple[str, str]]
    difference: tuple[str, str]
    truncated: str
    length: str


@dataclass(frozen=True)
class Table:
    """
    Evaluations on the same problems, judged by the same rule.

    Attributes:
        title (`str`): the data.
        subtitle (`str`): problems, samples per problem, sampling, answer rule.
        names (`list[str]`): measures, in order.
        rows (`list[Row]`): evaluations.
    """

    title: str
    subtitle: str
    names: list[str]
    rows: list[Row]


def find_summaries(groups: list[RunGroup], given: list[Path]) -> list[tuple[str, dict[str, Any]]]:
    """
    Summaries with the names of what they are about.

    Args:
        groups (`list[RunGroup]`): summaries in `evaluation` directories of runs and checkpoints are found.
        given (`list[Path]`): further ones, such as of the model before training. They come first.

    Raises:
        SummaryError: if a given one is no summary. One that was found and is none is passed over with a warning.
    """
    found = [(_model_name(summary), summary) for summary in map(read_summary, given)]
    known = {path.resolve() for path in given}
    for group in groups:
        for run in group.runs:
            paths = sorted(path for pattern in _PATTERNS for path in run.path.glob(pattern))
            for path in paths:
                summary = None if path.resolve() in known else _read_found(path)
                if summary is not None:
                    checkpoint = path.parent.parent.name if path.parent.parent != run.path else ""
                    found.append((f"{run.label} {checkpoint}".strip(), summary))
    return found


def _model_name(summary: dict[str, Any]) -> str:
    """A Hub id as it is, a directory without what leads to it."""
    name = summary["model"]["name"]
    return Path(name).name if Path(name).is_absolute() or name.startswith(".") else name


def _read_found(path: Path) -> dict[str, Any] | None:
    try:
        return read_summary(path)
    except SummaryError as error:
        logger.warning("%s", error)
        return None


def tables(summaries: list[tuple[str, dict[str, Any]]]) -> list[Table]:
    """One table for each combination of problems, number of samples and answer rule."""
    together = defaultdict(list)
    for name, summary in summaries:
        key = (summary["data"]["problems_hash"], summary["sampling"]["k"], summary["judging"]["answer_rule"])
        together[key].append((name, summary))
    return [_table(members) for members in together.values()]


def _table(members: list[tuple[str, dict[str, Any]]]) -> Table:
    first = members[0][1]
    data, sampling = first["data"], first["sampling"]
    subtitle = (
        f"{data['num_problems']} problems, k = {sampling['k']}, temperature {sampling['temperature']:g}, "
        f"top_p {sampling['top_p']:g}, answer rule {first['judging']['answer_rule']}"
    )
    names = [name for name in first["measures"] if name != "pass@1"]  # avg@k by another name
    rows = [_row(name, summary, first) for name, summary in members]
    return Table(data["name"], subtitle, names, rows)


def _row(name: str, summary: dict[str, Any], first: dict[str, Any]) -> Row:
    lengths = summary["lengths"]
    return Row(
        model=name,
        measures={measure: _cell(values) for measure, values in summary["measures"].items()},
        difference=_difference(first, summary),
        truncated=f"{lengths['frac_truncated']:.1%}",
        length=f"{lengths['mean']:,.0f}",
    )


def _difference(first: dict[str, Any], summary: dict[str, Any]) -> tuple[str, str]:
    if summary is first:
        return "", ""
    try:
        differences = compare(first, summary).differences
    except NotComparableError as error:
        logger.warning("No difference of %s: %s", summary["model"]["name"], error)
        return "", ""
    name = f"avg@{summary['sampling']['k']}"
    return _cell(differences[name].as_dict(), sign="+")


def _cell(values: dict[str, float | None], sign: str = "") -> tuple[str, str]:
    mean = f"{100 * values['mean']:{sign}.1f}"
    if values["low"] is None:
        return mean, ""
    return mean, f"{100 * values['low']:{sign}.1f} to {100 * values['high']:{sign}.1f}"
