"""Results as plain text, for the terminal."""

from collections.abc import Sequence
from typing import Any

from .compare import Change, Comparison


_SHOWN_CHANGES = 10
_SHOWN_CHARS = 70


def describe_summary(summary: dict[str, Any]) -> str:
    """The measures with their intervals, lengths, and how verdicts were reached, in a dozen lines."""
    data, lengths, verifier = summary["data"], summary["lengths"], summary["verifier"]
    num_samples = sum(verifier.values())
    verdicts = ", ".join(f"{name} {count}" for name, count in verifier.items() if count)
    unscorable = f", {data['num_unscorable']} left out" if data["num_unscorable"] else ""
    rows = [(name, *_cells(values)) for name, values in summary["measures"].items()]
    return "\n".join(
        [
            f"{summary['model']['name']} on {data['name']}: {data['num_problems']} problems{unscorable}, "
            f"k = {summary['sampling']['k']}, answer rule {summary['judging']['answer_rule']}",
            "",
            *_table(("", "mean", "95% interval"), rows),
            "",
            f"Tokens: mean {lengths['mean']:.0f}, median {lengths['median']}, 95% {lengths['95%']}, "
            f"max {lengths['max']}; truncated {lengths['frac_truncated']:.1%}",
            f"Verdicts on {num_samples} samples: {verdicts}",
        ]
    )


def describe_comparison(comparison: Comparison, first: dict[str, Any], second: dict[str, Any]) -> str:
    """Measures of both, their difference with its interval, and the problems that changed most."""
    rows = []
    for name, difference in comparison.differences.items():
        means = [f"{summary['measures'][name]['mean']:.3f}" for summary in (first, second)]
        rows.append((name, *means, *_cells(difference.as_dict(), sign="+")))
    num_gains, num_losses = len(comparison.gains), len(comparison.losses)
    num_equal = len(comparison.changes) - num_gains - num_losses
    return "\n".join(
        [
            f"A: {first['model']['name']}",
            f"B: {second['model']['name']}",
            f"{first['data']['name']}: {len(comparison.changes)} problems, "
            f"answer rule {first['judging']['answer_rule']}",
            "",
            *_table(("", "A", "B", "B - A", "95% interval"), rows),
            "",
            f"Pass rates: {num_gains} problems gained, {num_losses} lost, {num_equal} are equal.",
            *_changes("Largest gains", comparison.gains),
            *_changes("Largest losses", comparison.losses),
        ]
    )


def _cells(values: dict[str, float | None], sign: str = "") -> tuple[str, str]:
    if values["low"] is None:
        return f"{values['mean']:{sign}.3f}", "-"
    return f"{values['mean']:{sign}.3f}", f"{values['low']:{sign}.3f} to {values['high']:{sign}.3f}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in (header, *rows)]


def _changes(title: str, changes: Sequence[Change]) -> list[str]:
    if not changes:
        return []
    lines = [
        f"  {change.first:.3f} -> {change.second:.3f}  {_shorten(change.problem)}"
        for change in changes[:_SHOWN_CHANGES]
    ]
    return ["", f"{title}:", *lines]


def _shorten(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN_CHARS else f"{text[: _SHOWN_CHARS - 3]}..."
