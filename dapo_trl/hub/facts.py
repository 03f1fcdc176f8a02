"""`run.json`: what a model card tells of a run and nothing else in its directory does."""

import functools
import inspect
import json
import os
from collections.abc import Sized
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, IterableDataset
from huggingface_hub import DatasetCard, ModelCard, RepoCard
from trl.trainer.utils import get_config_model_id

from ..data.prompts import Messages, ask, find_problem
from ..data.sources import is_hub_id
from ..evaluation.summary import versions
from ..rewards.functions import completion_text
from ..run.atomic_write import write_json
from ..run.secret_values import mask_text


FACTS_FILE = "run.json"
DATA_CARD_FILE = "data_card.md"
FORMAT_VERSION = 1
SAMPLE_PROBLEM = "A train covers 180 km in 2.5 hours. What is its mean speed in km/h?"
SETTINGS = (
    *("num_generations", "prompts_per_rollout", "updates_per_rollout", "num_iterations", "learning_rate"),
    *("lr_scheduler_type", "warmup_rollouts", "weight_decay", "max_grad_norm", "epsilon", "epsilon_high", "beta"),
    *("loss_type", "token_normalization", "dynamic_sampling", "max_completion_length", "soft_punish_cache"),
    *("temperature", "top_p", "seed", "max_steps"),
)
"""Those that the card shows."""


class FactsError(ValueError):
    """A directory that tells nothing of a run."""


def write_facts(trainer: Any, model_name: str, dataset_name: str | None) -> None:
    """Writes `run.json` of a trainer's run, without secrets and without paths of this machine."""
    run_dir, dataset = Path(trainer.args.output_dir), trainer.train_dataset
    base = get_config_model_id(trainer.model.config)
    settings = trainer.args.to_dict()
    num_prompts = len(dataset) if isinstance(dataset, Sized) else None  # None: streamed
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    facts = {
        "format_version": FORMAT_VERSION,
        "model_name": model_name,
        "repo_id": trainer.hub_model_id,
        "base_model": base if base and not os.path.isdir(base) else None,
        "license": _license(base),
        "is_adapter": hasattr(trainer.model, "peft_config"),
        "chat_template_kwargs": trainer.args.chat_template_kwargs or {},
        "prompt": ask(form, SAMPLE_PROBLEM) if (form := trainer.prompt_form) else sample_prompt(dataset),
        "data": describe_data(dataset_name, run_dir) | {"num_prompts": num_prompts},
        "rewards": _rewards(trainer),
        "settings": {name: settings.get(name, getattr(trainer.args, name)) for name in SETTINGS},
        "hardware": {"device": device, "num_processes": trainer.accelerator.num_processes},
        "versions": versions(),
    }
    write_json(run_dir / FACTS_FILE, facts)


def read_facts(run_dir: Path) -> dict[str, Any]:
    """Reads what [`write_facts`] wrote; a [`FactsError`] if it is not there, or of another version."""
    path = run_dir / FACTS_FILE
    if not path.is_file():
        raise FactsError(
            f"{run_dir} holds no {FACTS_FILE}: no checkpoint of DAPOTrainer has been saved there. Give the output_dir "
            "of a run."
        )
    facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if facts.get("format_version") != FORMAT_VERSION:
        raise FactsError(
            f"{path} has format version {facts.get('format_version')}, but this version of dapo_trl reads "
            f"{FORMAT_VERSION}. Use the version that trained the model."
        )
    return facts


def sample_prompt(dataset: Dataset | IterableDataset) -> str | Messages:
    """
    A prompt as in training, around a problem of our own: rows of private data are not to be published.

    A prompt whose problem cannot be told from what is around it is taken as it is. Of parts other than text, such as
    images, nothing is shown.
    """
    row = next(iter(dataset))
    messages = row["prompt"] if isinstance(row["prompt"], list) else [{"role": "user", "content": row["prompt"]}]
    *before, last = [{"role": message["role"], "content": completion_text([message])} for message in messages]
    problem = find_problem(row, last["content"])
    if isinstance(problem, str) and problem.strip():
        last["content"] = last["content"].replace(problem.strip(), SAMPLE_PROBLEM)
    return [*before, last] if isinstance(row["prompt"], list) else last["content"]


def describe_data(name: str | None, run_dir: Path) -> dict[str, Any]:
    """Name and counts of the training data; the card of a local directory is copied into the run's."""
    if name is None:
        return {"name": None, "hub_id": None, "counts": None}
    hub_id = name if is_hub_id(name) else None
    local_card, text = Path(name, "README.md"), ""
    if hub_id and (card := _load_card(DatasetCard, hub_id)):
        text = card.content
    elif local_card.is_file():
        text = local_card.read_text(encoding="utf-8")
        (run_dir / DATA_CARD_FILE).write_text(mask_text(text), encoding="utf-8")
    counts = text.partition("\n## Counts\n")[2].partition("\n## ")[0].strip()  # of a card of prepare-data
    return {"name": hub_id or Path(name).stem, "hub_id": hub_id, "counts": counts or None}


def _license(base: str | None) -> str | None:
    card = _load_card(ModelCard, Path(base, "README.md") if os.path.isdir(base) else base) if base else None
    return card.data.get("license") if card else None


@functools.cache  # asked at every save
def _load_card(kind: type[RepoCard], name: str | Path) -> RepoCard | None:
    """None if there is no card, or no connection: a card is no reason to stop."""
    try:
        return kind.load(name, ignore_metadata_errors=True)
    except (OSError, ValueError):
        return None


def _rewards(trainer: Any) -> list[dict[str, Any]]:
    rewards = zip(trainer.reward_func_names, trainer.reward_funcs, trainer.reward_weights.tolist(), strict=True)
    return [
        {
            "name": name,
            "weight": weight,
            "does": (inspect.getdoc(function) or "").partition("\n\n")[0].replace("\n", " "),
            "answer_rule": getattr(function, "answer_rule", None),
        }
        for name, function, weight in rewards
    ]
