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
from huggingface_hub import DatasetCard, ModelCard
from trl.trainer.utils import get_config_model_id

from ..data.prompts import Messages, ask, find_problem
from ..data.sources import is_hub_id
from ..evaluation.summary import versions
from ..rewards.functions import completion_text
from ..run.atomic_write import write_atomically
from ..run.secret_values import mask_text, mask_values
from .files import DATA_CARD_FILE, FACTS_FILE


SAMPLE_PROBLEM = "A train covers 180 km in 2.5 hours. What is its mean speed in km/h?"
FORMAT_VERSION = 1


class FactsError(ValueError):
    """A directory that tells nothing of a run."""


def gather(trainer: Any, model_name: str, dataset_name: str | None) -> dict[str, Any]:
    """
    The facts of a trainer's run. No paths of this machine are among them.

    Args:
        trainer ([`DAPOTrainer`]): the trainer.
        model_name (`str`): title of the card.
        dataset_name (`str`, *optional*): training data: Hub id or path.
    """
    base = get_config_model_id(trainer.model.config)
    is_public = bool(base) and not os.path.isdir(base)
    return {
        "format_version": FORMAT_VERSION,
        "model_name": model_name,
        "repo_id": trainer.hub_model_id,
        "base_model": base if is_public else None,
        "license": _license(base),
        "is_adapter": hasattr(trainer.model, "peft_config"),
        "chat_template_kwargs": trainer.args.chat_template_kwargs or {},
        "prompt": ask(form, SAMPLE_PROBLEM) if (form := trainer.prompt_form) else sample_prompt(trainer.train_dataset),
        "data": describe_data(dataset_name, trainer.args.output_dir) | {"num_prompts": _size(trainer.train_dataset)},
        "rewards": _rewards(trainer),
        "settings": _settings(trainer.args),
        "hardware": {"device": _device(), "num_processes": trainer.accelerator.num_processes},
        "versions": versions(),
    }


def write_facts(facts: dict[str, Any], run_dir: Path) -> None:
    """Writes `run.json`, without secrets."""
    write_atomically(run_dir / FACTS_FILE, json.dumps(mask_values(facts), indent=1, ensure_ascii=False) + "\n")


def read_facts(run_dir: Path) -> dict[str, Any]:
    """
    Reads what [`write_facts`] wrote.

    Raises:
        FactsError: if it is not there, or of another version.
    """
    path = run_dir / FACTS_FILE
    if not path.is_file():
        raise FactsError(
            f"{run_dir} holds no {FACTS_FILE}: no checkpoint of DAPOTrainer has been saved there. Give the output_dir "
            "of a run."
        )
    facts = json.loads(path.read_text(encoding="utf-8"))
    if facts.get("format_version") != FORMAT_VERSION:
        raise FactsError(
            f"{path} has format version {facts.get('format_version')}, but this version of dapo_trl reads "
            f"{FORMAT_VERSION}. Use the version that trained the model."
        )
    return facts


def _size(dataset: Dataset | IterableDataset) -> int | None:
    """None for data that is streamed."""
    return len(dataset) if isinstance(dataset, Sized) else None


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


def describe_data(name: str | None, run_dir: str) -> dict[str, Any]:
    """Name and counts of the training data; the card of a local directory is copied into the run's."""
    if name is None:
        return {"name": None, "hub_id": None, "counts": None}
    local = Path(name)
    hub_id = name if not local.exists() and is_hub_id(name) else None
    text = _card_text(DatasetCard, name) if hub_id else None
    if (local / "README.md").is_file():
        text = (local / "README.md").read_text(encoding="utf-8")
        (Path(run_dir) / DATA_CARD_FILE).write_text(mask_text(text), encoding="utf-8")
    return {"name": hub_id or local.stem, "hub_id": hub_id, "counts": _counts(text or "")}


def _counts(card: str) -> str | None:
    """The table of a card that `prepare_data` wrote."""
    _, heading, rest = card.partition("\n## Counts\n")
    return rest.partition("\n## ")[0].strip() or None if heading else None


def _license(base: str | None) -> str | None:
    if not base:
        return None
    text = _card_text(ModelCard, str(Path(base, "README.md")) if os.path.isdir(base) else base)
    return ModelCard(text, ignore_metadata_errors=True).data.license if text else None


@functools.cache  # asked at every save
def _card_text(kind: type[ModelCard] | type[DatasetCard], name: str) -> str | None:
    """None if there is no card, or no connection: a card is no reason to stop."""
    try:
        return kind.load(name, ignore_metadata_errors=True).content
    except (OSError, ValueError):
        return None


def _rewards(trainer: Any) -> list[dict[str, Any]]:
    weights = trainer.reward_weights.tolist()
    rewards = zip(trainer.reward_func_names, trainer.reward_funcs, weights, strict=True)
    return [
        {
            "name": name,
            "weight": weight,
            "does": (inspect.getdoc(function) or "").partition("\n\n")[0].replace("\n", " "),
            "answer_rule": getattr(function, "answer_rule", None),
        }
        for name, function, weight in rewards
    ]


def _settings(args: Any) -> dict[str, Any]:
    names = (
        *("num_generations", "prompts_per_rollout", "updates_per_rollout", "num_iterations", "learning_rate"),
        *("lr_scheduler_type", "warmup_rollouts", "weight_decay", "max_grad_norm", "epsilon", "epsilon_high", "beta"),
        *("loss_type", "token_normalization", "dynamic_sampling", "max_completion_length", "soft_punish_cache"),
        *("temperature", "top_p", "seed", "max_steps"),
    )
    settings = args.to_dict()
    return {name: settings.get(name, getattr(args, name)) for name in names}


def _device() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
