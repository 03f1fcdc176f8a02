"""Evaluations in a model card."""

import json
import logging
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult

from ..data.sources import is_hub_id
from ..evaluation.summary import SummaryError, read_summary
from .files import model_files


logger = logging.getLogger(__name__)


def find_summaries(run_dir: Path, given: Sequence[str] = ()) -> list[dict[str, Any]]:
    """
    Evaluations of the model in a directory.

    Args:
        run_dir (`Path`): summaries in `evaluation` below it are found, but for those that are older than the weights.
        given (`list[str]`): files to take in place of these.

    Raises:
        SummaryError: if a given one is no summary. One that was found and is none is passed over with a warning.
    """
    if given:
        return [read_summary(path) for path in given]
    weights = [path.stat().st_mtime for path in model_files(run_dir) if path.suffix in (".safetensors", ".bin")]
    found = []
    for path in sorted(run_dir.glob("evaluation/summary-*.json")):
        try:
            summary = read_summary(path)
        except SummaryError as error:
            logger.warning("%s", error)
            continue
        if weights and datetime.fromisoformat(summary["created"]).timestamp() < int(max(weights)):
            logger.warning("%s is older than the model beside it, and left out. Name it if it is right.", path)
            continue
        found.append(summary)
    return found


def eval_results(summaries: Sequence[dict[str, Any]]) -> list[EvalResult]:
    """Every measure of every evaluation, as the Hub's `model-index` has it."""
    return [
        EvalResult(
            task_type="text-generation",
            task_name="Text Generation",
            dataset_type=_hub_id(summary["data"]) or summary["data"]["name"],
            dataset_name=summary["data"]["name"],
            dataset_config=summary["data"]["config"],
            dataset_split=summary["data"]["split"],
            metric_type=measure,
            metric_name=measure,
            metric_value=round(values["mean"], 4),
            metric_args=_metric_args(summary, values),
        )
        for summary in summaries
        for measure, values in summary["measures"].items()
    ]


def _metric_args(summary: dict[str, Any], values: dict[str, float | None]) -> dict[str, Any]:
    sampling = {name: summary["sampling"][name] for name in ("temperature", "top_p", "max_completion_length", "seed")}
    interval = None if values["low"] is None else [round(values["low"], 4), round(values["high"], 4)]
    return {"k": summary["sampling"]["k"], **sampling, "confidence_interval_95": interval}


def _hub_id(data: dict[str, Any]) -> str | None:
    return data["source"] if is_hub_id(data["source"]) and not Path(data["source"]).exists() else None


def result_rows(summaries: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """Rows of the card's table: percentages, the interval in brackets."""
    return [
        {
            "data": summary["data"]["name"],
            "measure": measure,
            "mean": f"{100 * values['mean']:.1f}",
            "interval": "" if values["low"] is None else f"{100 * values['low']:.1f} to {100 * values['high']:.1f}",
            "num_problems": str(summary["data"]["num_problems"] - summary["data"]["num_unscorable"]),
        }
        for summary in summaries
        for measure, values in summary["measures"].items()
        if measure != "pass@1"  # avg@k by another name
    ]


def sampling_line(summary: dict[str, Any]) -> str:
    """How an evaluation sampled and judged, in a line."""
    sampling, data = summary["sampling"], summary["data"]
    unscorable = f" ({data['num_unscorable']} more cannot be scored)" if data["num_unscorable"] else ""
    return (
        f"{data['name']}: k = {sampling['k']} samples per problem{unscorable}, "
        f"temperature {sampling['temperature']:g}, top_p {sampling['top_p']:g}, "
        f"at most {sampling['max_completion_length']:,} tokens "
        f"({summary['lengths']['frac_truncated']:.1%} truncated), seed {sampling['seed']}, {sampling['backend']}, "
        f"answer rule `{summary['judging']['answer_rule']}`, {_prompts(summary)}{summary['created'][:10]}"
    )


def _prompts(summary: dict[str, Any]) -> str:
    prompts = summary.get("prompts")
    if prompts is None:
        return ""
    if prompts["form_from"] == "model":
        return "prompts as in training, "
    return (
        f"prompts {json.dumps(prompts['form'], ensure_ascii=False)}, " if prompts["form"] else "prompts of the data, "
    )
