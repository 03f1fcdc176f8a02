"""Tables of a report: key figures, settings, evaluations."""

import json
import logging
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..evaluation.compare import NotComparableError, compare
from ..evaluation.summary import SummaryError, read_summary
from .panels import evaluation_metrics, evaluation_name
from .runs import Run


logger = logging.getLogger(__name__)

_HIDDEN_SETTINGS = {
    # names of a run, and seeds
    *("output_dir", "run_name", "logging_dir", "hub_model_id", "resume_from_checkpoint", "seed", "data_seed"),
    # follow from other settings
    *("generation_batch_size", "logging_steps", "num_generations_eval", "steps_per_generation", "warmup_steps"),
    "accelerator_config",
}


def key_figures(runs: list[Run]) -> dict[str, str]:
    """Means over seeds and ranges: final values of the last tenth of the rollouts, evaluations the last ones."""
    table = pd.DataFrame([_figures(run) for run in runs]).dropna(axis="columns", how="all")
    return {str(name): _mean_and_range(table[name], _FORMATS.get(str(name), "{:.3f}".format)) for name in table}


_FORMATS: dict[str, Callable[[float], str]] = {
    "Rollouts": "{:,.0f}".format,
    "Generated per trained": "{:.2f}".format,
    "Time": lambda seconds: str(timedelta(seconds=round(seconds))),
}


def _figures(run: Run) -> dict[str, float]:
    """NaN where a metric was not logged; of evaluations during training, the last ones."""
    whole, final = run.training.mean(), run.training.tail(max(1, len(run.training) // 10)).mean()
    return {
        "Rollouts": run.num_rollouts,
        "Final reward": final.get("reward", np.nan),
        "Final accuracy": final.get("frac_correct", np.nan),
        "Acceptance": whole.get("dynamic_sampling/acceptance_rate", np.nan),
        "Generated per trained": whole.get("dynamic_sampling/generated_per_trained", np.nan),
        "Time": whole.get("time/rollout", np.nan) * run.num_rollouts,
    } | {evaluation_name(name): run.evaluations[name].dropna().iloc[-1] for name in evaluation_metrics([run])}


def _mean_and_range(values: pd.Series, form: Callable[[float], str]) -> str:
    mean, low, high = form(values.mean()), form(values.min()), form(values.max())
    return mean if low == high else f"{mean} ({low} to {high})"


def settings_table(groups: dict[str, list[Run]]) -> pd.DataFrame:
    """Settings that differ, by name, a column per group; of a single group, those that are not the default."""
    runs = [run for members in groups.values() for run in members if run.settings]
    rows = {}
    for name in sorted({name for run in runs for name in run.settings} - _HIDDEN_SETTINGS):
        values = {_text(run.settings.get(name)) for run in runs}
        unset = {"null", "[]", "{}"} | {_text(run.defaults.get(name)) for run in runs}
        is_shown = len(values) > 1 or (len(groups) == 1 and not values <= unset)
        if is_shown and not name.endswith("_token"):
            rows[name] = {group: _texts(name, members) for group, members in groups.items()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(groups))


def _texts(name: str, runs: list[Run]) -> str:
    texts = sorted({_text(run.settings.get(name)) for run in runs if run.settings})
    return " or ".join(texts) or "unknown"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


@dataclass(frozen=True)
class EvaluationTable:
    """Evaluations on the same problems by the same rule: measures in percent, with intervals, by model."""

    title: str
    subtitle: str
    rows: pd.DataFrame


def find_summaries(groups: dict[str, list[Run]], given: list[Path]) -> list[tuple[str, dict[str, Any]]]:
    """Summaries with names of their models: the given ones, then those of runs and checkpoints that can be read."""
    summaries = []
    for path in given:
        summary = read_summary(path)
        summaries.append((Path(summary["model"]["name"]).name, summary))
    for run in (run for runs in groups.values() for run in runs):
        paths = sorted(
            run.path.glob("checkpoint-*/evaluation/summary-*.json"), key=lambda path: (len(str(path)), path)
        )
        for path in [*paths, *sorted(run.path.glob("evaluation/summary-*.json"))]:
            checkpoint = path.parent.parent.name if path in paths else ""
            try:
                summaries.append((f"{run.name} {checkpoint}".strip(), read_summary(path)))
            except SummaryError as error:
                logger.warning("%s", error)
    return summaries


def evaluation_tables(summaries: list[tuple[str, dict[str, Any]]]) -> list[EvaluationTable]:
    """One table for each combination of problems, number of samples and answer rule."""
    groups = defaultdict(list)
    for name, summary in summaries:
        key = (summary["data"]["problems_hash"], summary["sampling"]["k"], summary["judging"]["answer_rule"])
        groups[key].append((name, summary))
    return [_evaluation_table(members) for members in groups.values()]


def _evaluation_table(members: list[tuple[str, dict[str, Any]]]) -> EvaluationTable:
    first = members[0][1]
    data, sampling = first["data"], first["sampling"]
    subtitle = (
        f"{data['num_problems']} problems, k = {sampling['k']}, temperature {sampling['temperature']:g}, "
        f"top_p {sampling['top_p']:g}, answer rule {first['judging']['answer_rule']}"
    )
    rows = []
    for _, summary in members:
        measures = {name: _percent(values) for name, values in summary["measures"].items() if name != "pass@1"}
        gain = {} if len(members) == 1 else {"avg@k - first": "" if summary is first else _difference(first, summary)}
        lengths = summary["lengths"]
        about = {"truncated": f"{lengths['frac_truncated']:.1%}", "tokens": f"{lengths['mean']:,.0f}"}
        rows.append(measures | gain | about)
    return EvaluationTable(data["name"], subtitle, pd.DataFrame(rows, index=[name for name, _ in members]))


def _difference(first: dict[str, Any], summary: dict[str, Any]) -> str:
    try:
        differences = compare(first, summary).differences
    except NotComparableError as error:
        logger.warning("No difference of %s: %s", summary["model"]["name"], error)
        return ""
    return _percent(differences[f"avg@{summary['sampling']['k']}"].as_dict(), sign="+")


def _percent(values: dict[str, Any], sign: str = "") -> str:
    """Mean and interval; a single problem has none."""
    texts = [f"{100 * value:{sign}.1f}" for name in ("mean", "low", "high") if (value := values[name]) is not None]
    return texts[0] if len(texts) < 3 else f"{texts[0]} ({texts[1]} to {texts[2]})"
