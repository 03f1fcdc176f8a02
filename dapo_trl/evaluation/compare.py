"""Is one model better than another? Two summaries of the same problems, compared pair by pair."""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np

from .statistics import Estimate, measures, paired_difference
from .summary import cells, table


logger = logging.getLogger(__name__)

_SHOWN_CHANGES = 10
_SHOWN_CHARS = 70


class NotComparableError(ValueError):
    """Two summaries that say nothing about one another."""


@dataclass(frozen=True)
class Change:
    """A problem and its pass rates in two evaluations."""

    id: str
    problem: str
    first: float
    second: float

    @property
    def gain(self) -> float:
        return self.second - self.first


@dataclass(frozen=True)
class Comparison:
    """Two evaluations of the same problems."""

    differences: dict[str, Estimate]  # second - first, by measure; only measures that both have
    changes: list[Change]  # all problems, the largest gain first


def compare(first: dict[str, Any], second: dict[str, Any]) -> Comparison:
    """Compares two summaries by paired bootstrap over problems; a NotComparableError if other things were asked."""
    _check_comparable(first, second)
    for name in sorted(first["sampling"].keys() | second["sampling"].keys()):
        settings = [summary["sampling"].get(name) for summary in (first, second)]
        if settings[0] != settings[1]:
            logger.warning("The sampling differs: %s is %r in the first, %r in the second.", name, *settings)
    tags = [summary["judging"].get("thinking_tags") for summary in (first, second)]
    if None not in tags and tags[0] != tags[1]:  # each may be right for its model
        logger.warning("No answer was read between %r in the first, between %r in the second.", *tags)
    sent = [summary.get("prompts", {}).get("example", {}).get("sent") for summary in (first, second)]
    if sent[0] != sent[1]:
        logger.warning("The same messages reach the models as other texts: %r in the first, %r in the second.", *sent)
    scorable = [[row for row in summary["problems"] if row["is_scorable"]] for summary in (first, second)]
    rows = [sorted(problems, key=lambda row: row["id"]) for problems in scorable]  # files may have other orders
    values = [_measures(problems) for problems in rows]
    common = [name for name in values[0] if name in values[1]]
    changes = [Change(a["id"], a["problem"], a["pass_rate"], b["pass_rate"]) for a, b in zip(*rows, strict=True)]
    return Comparison(
        differences={name: paired_difference(values[0][name], values[1][name]) for name in common},
        changes=sorted(changes, key=lambda change: -change.gain),
    )


def _check_comparable(first: dict[str, Any], second: dict[str, Any]) -> None:
    rules = [summary["judging"]["answer_rule"] for summary in (first, second)]
    if rules[0] != rules[1]:
        raise NotComparableError(
            f"The first was judged by answer rule {rules[0]}, the second by {rules[1]}. Evaluate one again with the "
            "other's --answer_rule: its completions are used again, nothing is sampled."
        )
    data = [summary["data"] for summary in (first, second)]
    if data[0]["problems_hash"] != data[1]["problems_hash"]:
        raise NotComparableError(
            f"The first has {data[0]['num_problems']} problems of {data[0]['name']}, the second "
            f"{data[1]['num_problems']} of {data[1]['name']}, and problems or reference answers are not the same. "
            "Evaluate both models on the same data, with the same --num_problems."
        )
    prompts = [summary.get("prompts", {}) for summary in (first, second)]  # early summaries do not tell
    kwargs = [known.get("chat_template_kwargs") or {} for known in prompts]
    if data[0]["prompts_hash"] == data[1]["prompts_hash"] and kwargs[0] == kwargs[1]:
        return
    remedy = ", with the same --prompt_template and --chat_template_kwargs, or with --like and a trained model"
    for one, other in ((first, second), (second, first)):
        if one.get("prompts", {}).get("form_from") == "model":
            remedy = f": {other['model']['name']} with --like {one['model']['name']}"
            break
    raise NotComparableError(
        f"The first was asked with {_describe(prompts[0])}, the second with {_describe(prompts[1])}: a difference "
        f"would be one of prompts. Evaluate one again as the other was asked{remedy}."
    )


def _describe(prompts: dict[str, Any]) -> str:
    if prompts.get("form"):
        form = f" of the form {prompts['form']!r}"
    else:
        form = f" such as {prompts['example']['sent']!r}" if "example" in prompts else ""
    return f"prompts{form} and chat_template_kwargs {prompts.get('chat_template_kwargs') or {}}"


def _measures(problems: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    correct = np.array([problem["correct"] for problem in problems])
    return {f"maj@{correct.shape[1]}": np.array([problem["majority"] for problem in problems])} | measures(correct)


def describe_comparison(comparison: Comparison, first: dict[str, Any], second: dict[str, Any]) -> str:
    """Measures of both, their difference with its interval, and the problems that changed most."""
    rows = []
    for name, difference in comparison.differences.items():
        means = [f"{summary['measures'][name]['mean']:.3f}" for summary in (first, second)]
        rows.append((name, *means, *cells(difference.as_dict(), sign="+")))
    gains = [change for change in comparison.changes if change.gain > 0]
    losses = [change for change in reversed(comparison.changes) if change.gain < 0]
    lines = [
        f"A: {first['model']['name']}",
        f"B: {second['model']['name']}",
        f"{first['data']['name']}: {len(comparison.changes)} problems, answer rule {first['judging']['answer_rule']}",
        "",
        *table(("", "A", "B", "B - A", "95% interval"), rows),
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
