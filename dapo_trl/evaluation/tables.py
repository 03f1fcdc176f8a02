"""Results as plain text, for the terminal."""

from collections.abc import Sequence
from typing import Any

from .compare import Comparison


_SHOWN_CHANGES = 10
_SHOWN_CHARS = 70


def describe_summary(summary: dict[str, Any]) -> str:
    """The measures with their intervals, lengths, and how verdicts were reached, in a dozen lines."""
    data, lengths, verifier = summary["data"], summary["lengths"], summary["verifier"]
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
            f"Verdicts on {sum(verifier.values())} samples: {verdicts}",
        ]
    )


def describe_comparison(comparison: Comparison, first: dict[str, Any], second: dict[str, Any]) -> str:
    """Measures of both, their difference with its interval, and the problems that changed most."""
    rows = []
    for name, difference in comparison.differences.items():
        means = [f"{summary['measures'][name]['mean']:.3f}" for summary in (first, second)]
        rows.append((name, *means, *_cells(difference.as_dict(), sign="+")))
    gains = [change for change in comparison.changes if change.gain > 0]
    losses = [change for change in reversed(comparison.changes) if change.gain < 0]
    lines = [
        f"A: {first['model']['name']}",
        f"B: {second['model']['name']}",
        f"{first['data']['name']}: {len(comparison.changes)} problems, answer rule {first['judging']['answer_rule']}",
        "",
        *_table(("", "A", "B", "B - A", "95% interval"), rows),
        "",
        f"Pass rates: {len(gains)} problems gained, {len(losses)} lost, "
        f"{len(comparison.changes) - len(gains) - len(losses)} are equal.",
    ]
    for title, changes in (("Largest gains", gains), ("Largest losses", losses)):
        lines += ["", f"{title}:"] if changes else []
        for change in changes[:_SHOWN_CHANGES]:
            problem = " ".join(change.problem.split())
            problem = problem if len(problem) <= _SHOWN_CHARS else f"{problem[: _SHOWN_CHARS - 3]}..."
            lines.append(f"  {change.first:.3f} -> {change.second:.3f}  {problem}")
    return "\n".join(lines)


def _cells(values: dict[str, float | None], sign: str = "") -> tuple[str, str]:
    if values["low"] is None:
        return f"{values['mean']:{sign}.3f}", "-"
    return f"{values['mean']:{sign}.3f}", f"{values['low']:{sign}.3f} to {values['high']:{sign}.3f}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in (header, *rows)]
