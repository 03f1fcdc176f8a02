"""The model card: from what is in the run's directory, during the run and later."""

import importlib.util
import json
import logging
import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import zip_longest
from pathlib import Path
from pprint import pformat
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..data.sources import is_hub_id
from ..evaluation.config import EvaluateConfig
from ..evaluation.summary import SummaryError, read_summary
from ..reporting.runs import ReportError, Run, load_run
from ..reporting.tables import key_figures
from ..run.secret_values import mask_text, mask_values
from .facts import DATA_CARD_FILE, read_facts
from .recipe import RECIPE_FILE


logger = logging.getLogger(__name__)

CARD_FILE = "README.md"
CURVES_FILE = "curves.png"
TEMPLATE = Path(__file__).with_name("card.md.j2")
TAGS = ("dapo", "grpo", "trl", "dapo_trl", "reinforcement-learning", "reasoning", "generated_from_trainer")
KEY_FIGURES = ("Final reward", "Final accuracy", "Acceptance", "Generated per trained")


def write_card(
    run_dir: Path, evaluations: Sequence[str] = (), tags: Sequence[str] = (), with_curves: bool = True
) -> Path:
    """
    Writes `README.md` of a run, with metadata for the Hub, and the picture of its curves.

    `evaluations` are files; by default those in `run_dir/evaluation`. Without matplotlib, there are no curves.

    Raises:
        FactsError: if the directory is no run's.
        SummaryError: if a given evaluation is no summary.
    """
    facts = mask_values(read_facts(run_dir))
    summaries = mask_values(find_summaries(run_dir, evaluations))
    try:
        run = load_run(run_dir, run_dir.name)
    except ReportError:  # nothing has been logged yet
        run = None
    if with_curves and run and importlib.util.find_spec("matplotlib"):
        _draw_curves(run, run_dir / CURVES_FILE)
    path = run_dir / RECIPE_FILE
    recipe = path.read_text(encoding="utf-8").strip() if path.is_file() else ""
    prompt = facts["prompt"]
    if not isinstance(prompt, str):
        prompt = "\n\n".join(f"[{message['role']}]\n{message['content']}" for message in prompt)
    card = ModelCard.from_template(
        _metadata(facts, summaries, tags),
        template_path=str(TEMPLATE),
        facts=facts,
        settings=facts["settings"],
        run=run and _describe_run(run, facts["hardware"]["num_processes"]),
        summaries=summaries,
        prompt=pformat(facts["prompt"], width=100, sort_dicts=False),
        sampling=EvaluateConfig,  # its defaults: the paper's
        prompt_text=prompt,
        fence="`" * max(3, 1 + max(map(len, re.findall("`*", prompt + "\n" + recipe)))),  # that no text in it ends
        recipe=recipe,
        has_curves=(run_dir / CURVES_FILE).is_file(),
        has_data_card=(run_dir / DATA_CARD_FILE).is_file(),
        to_json=json.dumps,
    )
    path = run_dir / CARD_FILE
    path.write_text(mask_text(str(card)), encoding="utf-8")
    return path


def find_summaries(run_dir: Path, given: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The given summaries, else those in `run_dir/evaluation`, but for those that are older than the weights."""
    if given:
        return [read_summary(path) for path in given]
    weights_time = max((int(path.stat().st_mtime) for path in weight_files(run_dir)), default=0)
    found = []
    for path in sorted(run_dir.glob("evaluation/summary-*.json")):
        try:
            summary = read_summary(path)
        except SummaryError as error:
            logger.warning("%s", error)
            continue
        if datetime.fromisoformat(summary["created"]).timestamp() < weights_time:
            logger.warning("%s is older than the model beside it, and left out. Name it if it is right.", path)
            continue
        found.append(summary)
    return found


def weight_files(directory: Path) -> list[Path]:
    """Weights of a model or an adapter."""
    return [*directory.glob("*.safetensors"), *directory.glob("*model*.bin")]


def _metadata(facts: dict[str, Any], summaries: list[dict[str, Any]], tags: Sequence[str]) -> ModelCardData:
    """What the Hub files, filters and links the model by."""
    return ModelCardData(
        model_name=facts["model_name"],
        base_model=facts["base_model"],
        license=facts["license"],
        datasets=[facts["data"]["hub_id"]] if facts["data"]["hub_id"] else None,
        library_name="peft" if facts["is_adapter"] else "transformers",
        pipeline_tag="text-generation",
        tags=list(dict.fromkeys([*TAGS, *(["lora"] if facts["is_adapter"] else []), *tags])),
        eval_results=[result for summary in summaries for result in _eval_results(summary)] or None,
    )


def _eval_results(summary: dict[str, Any]) -> Iterator[EvalResult]:
    """Every measure of an evaluation, as the Hub's `model-index` has it."""
    data, sampling = summary["data"], summary["sampling"]
    for measure, values in summary["measures"].items():
        interval = None if values["low"] is None else [round(values["low"], 4), round(values["high"], 4)]
        names = ("k", "temperature", "top_p", "max_completion_length", "seed")
        yield EvalResult(
            task_type="text-generation",
            task_name="Text Generation",
            dataset_type=data["source"] if is_hub_id(data["source"]) else data["name"],
            dataset_name=data["name"],
            dataset_config=data["config"],
            dataset_split=data["split"],
            metric_type=measure,
            metric_name=measure,
            metric_value=round(values["mean"], 4),
            metric_args={name: sampling[name] for name in names} | {"confidence_interval_95": interval},
        )


def _describe_run(run: Run, num_processes: int) -> dict[str, Any]:
    """Length and cost of a run, as far as it was logged."""
    logged = run.training.reindex(columns=["time/rollout", "tokens_per_second/rollout"]).fillna(0.0)
    rollouts = run.training["rollout"].diff().fillna(run.training["rollout"]) if "rollout" in run.training else 1
    seconds = rollouts * logged["time/rollout"]
    figures = key_figures([run])
    return {
        "num_steps": int(run.training["step"].iloc[-1]),
        "num_rollouts": run.num_rollouts,
        "num_tokens": f"{(seconds * logged['tokens_per_second/rollout']).sum():,.0f}",
        "duration": str(timedelta(seconds=round(seconds.sum()))),
        "device_hours": f"{seconds.sum() / 3600 * num_processes:.2f}",
        "figures": {name: figures[name] for name in KEY_FIGURES if name in figures},
    }


def _draw_curves(run: Run, path: Path) -> None:
    """Writes a PNG of up to six panels, those with data: the paper's Fig. 7, accuracy and acceptance rate."""
    import matplotlib
    from matplotlib.figure import Figure

    from ..reporting import panels
    from ..reporting.charts import STYLE, charts, draw

    shown = (panels.ACCURACY, panels.LENGTH, panels.REWARD, panels.ENTROPY, panels.PROBABILITY, panels.ACCEPTANCE)
    drawn = [chart for panel in shown for chart in charts(panel, {run.name: [run]})]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10, 5.2), layout="constrained")
        for axes, chart in zip_longest(figure.subplots(2, 3).flat, drawn):
            if chart is None:
                axes.set_axis_off()
            else:
                draw(axes, chart)
        figure.savefig(path, dpi=110)
