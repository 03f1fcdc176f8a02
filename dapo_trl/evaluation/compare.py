"""Is one model better than another? Two summaries of the same problems, compared pair by pair."""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np

from .statistics import Estimate, measures, paired_difference


logger = logging.getLogger(__name__)


class NotComparableError(ValueError):
    """Two summaries that say nothing about one another."""


@dataclass(frozen=True)
class Change:
    """
    How the pass rate of a problem changed.

    Attributes:
        id, problem (`str`): the problem.
        first, second (`float`): its pass rates.
    """

    id: str
    problem: str
    first: float
    second: float

    @property
    def gain(self) -> float:
        """Positive if the second is better."""
        return self.second - self.first


@dataclass(frozen=True)
class Comparison:
    """
    Two evaluations of the same problems.

    Attributes:
        differences (`dict[str, Estimate]`): second - first, by measure; only measures that both have.
        changes (`list[Change]`): all problems, the largest gain first.
    """

    differences: dict[str, Estimate]
    changes: list[Change]

    @property
    def gains(self) -> list[Change]:
        """Problems with a higher pass rate, the largest gain first."""
        return [change for change in self.changes if change.gain > 0]

    @property
    def losses(self) -> list[Change]:
        """Problems with a lower pass rate, the largest loss first."""
        return [change for change in reversed(self.changes) if change.gain < 0]


def compare(first: dict[str, Any], second: dict[str, Any]) -> Comparison:
    """
    Compares two summaries by paired bootstrap over problems.

    Settings of the sampling that differ are warned about: then the difference is one of model and sampling.

    Args:
        first, second (`dict`): summaries, as [`~dapo_trl.evaluation.summary.read_summary`] returns them.

    Returns:
        [`Comparison`]

    Raises:
        NotComparableError: if problems, golds, answer rules or prompts differ.
    """
    _check_comparable(first, second)
    for name in sorted(first["sampling"].keys() | second["sampling"].keys()):
        values = [summary["sampling"].get(name) for summary in (first, second)]
        if values[0] != values[1]:
            logger.warning("The sampling differs: %s is %r in the first, %r in the second.", name, *values)
    tags = [summary["judging"].get("thinking_tags") for summary in (first, second)]
    if None not in tags and tags[0] != tags[1]:  # each may be right for its model
        logger.warning("No answer was read between %r in the first, between %r in the second.", *tags)
    sent = [summary.get("prompts", {}).get("example", {}).get("sent") for summary in (first, second)]
    if None not in sent and sent[0] != sent[1]:
        logger.warning("The same messages reach the models as other texts: %r in the first, %r in the second.", *sent)
    values = [_measures(summary) for summary in (first, second)]
    common = [name for name in values[0] if name in values[1]]
    differences = {name: paired_difference(values[0][name], values[1][name]) for name in common}
    return Comparison(differences, _changes(first, second))


def _check_comparable(first: dict[str, Any], second: dict[str, Any]) -> None:
    rules = [summary["judging"]["answer_rule"] for summary in (first, second)]
    if rules[0] != rules[1]:
        raise NotComparableError(
            f"The first was judged by answer rule {rules[0]}, the second by {rules[1]}: a difference would be one of "
            "rules. Evaluate one again with the other's --answer_rule: its completions are used again, nothing is "
            "sampled."
        )
    if first["data"]["problems_hash"] != second["data"]["problems_hash"]:
        data = [summary["data"] for summary in (first, second)]
        raise NotComparableError(
            f"The first has {data[0]['num_problems']} problems of {data[0]['name']}, the second "
            f"{data[1]['num_problems']} of {data[1]['name']}, and problems or golds are not the same. Evaluate both "
            "models on the same data, with the same --num_problems."
        )
    kwargs = [summary["sampling"].get("chat_template_kwargs") or {} for summary in (first, second)]
    if first["data"]["prompts_hash"] != second["data"]["prompts_hash"]:
        forms = [_form(summary) for summary in (first, second)]
    elif kwargs[0] != kwargs[1]:
        forms = [f"chat_template_kwargs {given}" for given in kwargs]
    else:
        return
    raise NotComparableError(
        f"The first was asked with {forms[0]}, the second with {forms[1]}: a difference would be one of prompts. "
        f"Evaluate one again as the other was asked{_way_out(first, second)}."
    )


def _way_out(first: dict[str, Any], second: dict[str, Any]) -> str:
    for one, other in ((first, second), (second, first)):
        if one.get("prompts", {}).get("form_from") == "model":
            return f": {other['model']['name']} with --like {one['model']['name']}"
    return ", with the same --prompt_template and --chat_template_kwargs, or with --like and a model that was trained"


def _form(summary: dict[str, Any]) -> str:
    """How a summary's prompts are made, in a few words."""
    prompts = summary.get("prompts", {})
    form = prompts.get("form") or summary["data"].get("prompt_template")
    if form is not None:
        return f"prompts of the form {form!r}"
    sent = prompts.get("example", {}).get("sent")
    return "prompts as the data has them" + ("" if sent is None else f", such as {sent!r}")


def _scorable(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Problems in the order of their ids: files may hold the same ones in different orders."""
    return sorted((row for row in summary["problems"] if row["is_scorable"]), key=lambda row: row["id"])


def _measures(summary: dict[str, Any]) -> dict[str, np.ndarray]:
    problems = _scorable(summary)
    majority = {f"maj@{summary['sampling']['k']}": np.array([problem["majority"] for problem in problems])}
    return majority | measures(np.array([problem["correct"] for problem in problems]))


def _changes(first: dict[str, Any], second: dict[str, Any]) -> list[Change]:
    pairs = zip(_scorable(first), _scorable(second), strict=True)
    changes = [Change(a["id"], a["problem"], a["pass_rate"], b["pass_rate"]) for a, b in pairs]
    return sorted(changes, key=lambda change: -change.gain)
