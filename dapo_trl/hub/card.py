"""The model card: from what is in the run's directory, during the run and later."""

import importlib.util
import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from pprint import pformat
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from ..evaluation.config import EvaluateConfig
from ..reporting.runs import ReportError, Run, load_run
from ..reporting.tables import key_figures
from ..run.secret_values import mask_text, mask_values
from .facts import read_facts
from .files import CURVES_FILE, DATA_CARD_FILE, RECIPE_FILE
from .results import eval_results, find_summaries, result_rows, sampling_line


TEMPLATE = Path(__file__).with_name("card.md.j2")
TAGS = ("dapo", "grpo", "trl", "dapo_trl", "reinforcement-learning", "reasoning", "generated_from_trainer")
KEY_FIGURES = ("Final reward", "Final accuracy", "Acceptance", "Generated per trained")

READS = {
    "auto": "the last `Answer: ...` or `\\boxed{...}`, whichever comes later; without both, `the answer is ...`",
    "boxed": "the content of the last `\\boxed{...}`",
    "math_dapo": "what follows the last `Answer:` in the last 300 characters",
}


def write_card(
    run_dir: Path, evaluations: Sequence[str] = (), tags: Sequence[str] = (), with_curves: bool = True
) -> Path:
    """
    Writes `README.md` of a run, and the picture of its curves.

    Args:
        run_dir (`Path`): the run's output directory.
        evaluations (`list[str]`): summaries of evaluations; by default those found in `run_dir/evaluation`.
        tags (`list[str]`): further tags.
        with_curves (`bool`): draw the curves anew, if matplotlib is installed.

    Returns:
        `Path` of the card.

    Raises:
        FactsError: if the directory is no run's.
    """
    facts = mask_values(read_facts(run_dir))
    run = _load_run(run_dir)
    if with_curves and run and importlib.util.find_spec("matplotlib"):
        from .curves import draw_curves

        draw_curves(run, run_dir / CURVES_FILE)
    summaries = mask_values(find_summaries(run_dir, evaluations))
    path = run_dir / "README.md"
    card = render(facts, summaries, run, run_dir, tags)
    path.write_text(mask_text(str(card)), encoding="utf-8")
    return path


def render(
    facts: dict[str, Any], summaries: list[dict[str, Any]], run: Run | None, run_dir: Path, tags: Sequence[str] = ()
) -> ModelCard:
    """The card, with metadata for the Hub."""
    path = run_dir / RECIPE_FILE
    recipe = path.read_text(encoding="utf-8").strip() if path.is_file() else None
    prompt_text = _prompt_text(facts["prompt"])
    return ModelCard.from_template(
        metadata(facts, summaries, tags),
        template_path=str(TEMPLATE),
        facts=facts,
        settings=facts["settings"],
        run=run and describe_run(run, facts),
        rows=result_rows(summaries),
        samplings=[sampling_line(summary) for summary in summaries],
        prompt=pformat(facts["prompt"], width=100, sort_dicts=False),
        sampling=EvaluateConfig,  # its defaults: the paper's
        prompt_text=prompt_text,
        fence=_fence(prompt_text, recipe or ""),
        answer_formats=_answer_formats(facts["rewards"]),
        recipe=recipe,
        has_curves=(run_dir / CURVES_FILE).is_file(),
        has_data_card=(run_dir / DATA_CARD_FILE).is_file(),
    )


def metadata(facts: dict[str, Any], summaries: list[dict[str, Any]], tags: Sequence[str] = ()) -> ModelCardData:
    """The card's metadata: what the Hub files, filters and links it by."""
    results = eval_results(summaries)
    return ModelCardData(
        model_name=facts["model_name"],
        base_model=facts["base_model"],
        license=facts["license"],
        datasets=[facts["data"]["hub_id"]] if facts["data"]["hub_id"] else None,
        library_name="peft" if facts["is_adapter"] else "transformers",
        pipeline_tag="text-generation",
        tags=list(dict.fromkeys([*TAGS, *(["lora"] if facts["is_adapter"] else []), *tags])),
        eval_results=results or None,
    )


def describe_run(run: Run, facts: dict[str, Any]) -> dict[str, Any]:
    """Length and cost of a run, as far as it was logged."""
    columns = ["time/rollout", "tokens_per_second/rollout"]
    logged = run.training.reindex(columns=columns).fillna(0.0)
    rollouts = run.training["rollout"].diff().fillna(run.training["rollout"]) if "rollout" in run.training else 1
    seconds = rollouts * logged["time/rollout"]
    figures = key_figures([run])
    return {
        "num_steps": int(run.training["step"].iloc[-1]),
        "num_rollouts": run.num_rollouts,
        "num_tokens": f"{(seconds * logged['tokens_per_second/rollout']).sum():,.0f}",
        "duration": str(timedelta(seconds=round(seconds.sum()))),
        "device_hours": f"{seconds.sum() / 3600 * facts['hardware']['num_processes']:.2f}",
        "figures": {name: figures[name] for name in KEY_FIGURES if name in figures},
    }


def last_step(run_dir: Path) -> int:
    """Optimizer steps of a run, 0 if nothing has been logged."""
    run = _load_run(run_dir)
    return int(run.training["step"].iloc[-1]) if run else 0


def _load_run(run_dir: Path) -> Run | None:
    try:
        return load_run(run_dir, run_dir.name)
    except ReportError:  # nothing has been logged yet
        return None


def _prompt_text(prompt: Any) -> str:
    return prompt if isinstance(prompt, str) else "\n\n".join(f"[{m['role']}]\n{m['content']}" for m in prompt)


def _fence(*texts: str) -> str:
    """A Markdown fence that none of the texts ends."""
    longest = max(len(run) for text in texts for run in re.findall("`*", text))
    return "`" * max(3, longest + 1)


def _answer_formats(rewards: list[dict[str, Any]]) -> list[str]:
    """What the rewards took for the answer; one line per rule."""
    rules = dict.fromkeys(reward["answer_rule"] for reward in rewards if reward["answer_rule"])
    return [f"`{rule}`: {READS[name]}" for rule in rules if (name := re.sub(r"-\d+$", "", rule)) in READS]
