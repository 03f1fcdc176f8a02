"""The settings of runs, and which of them differ."""

import dataclasses
import logging
import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from accelerate.state import PartialState
from accelerate.utils import DistributedType
from transformers.trainer_pt_utils import AcceleratorConfig
from transformers.trainer_utils import HubStrategy, IntervalStrategy, SaveStrategy, SchedulerType
from transformers.training_args import OptimizerNames, TrainingArguments
from trl import GRPOConfig

from ..config import DAPOConfig
from ..run_settings import read_settings


logger = logging.getLogger(__name__)

Settings = dict[str, Any]

TRAINING_ARGS = "training_args.bin"

_SAFE_CLASSES = [
    AcceleratorConfig,
    DAPOConfig,
    DistributedType,
    GRPOConfig,
    HubStrategy,
    IntervalStrategy,
    OptimizerNames,
    PartialState,
    SaveStrategy,
    SchedulerType,
]
_NAMES_OF_RUNS = (
    "output_dir",
    "run_name",
    "logging_dir",
    "hub_model_id",
    "resume_from_checkpoint",
    "seed",
    "data_seed",
)
_FOLLOWS_FROM_OTHERS = (
    "generation_batch_size",
    "logging_steps",
    "num_generations_eval",
    "steps_per_generation",
    "warmup_steps",
    "accelerator_config",
)


def load_settings(run_dir: Path) -> Settings:
    """
    All settings of a run: its `settings.json`, else the `training_args.bin` of the run or its last checkpoint.

    Args:
        run_dir (`Path`): the run's output directory.

    Returns:
        `dict[str, Any]`: empty, with a warning, if there is nothing that can be read.
    """
    settings = read_settings(run_dir)
    if settings is not None:
        return settings
    checkpoints = sorted(run_dir.glob("checkpoint-*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for folder in (run_dir, *checkpoints):
        if (folder / TRAINING_ARGS).is_file():
            return _read_training_args(folder / TRAINING_ARGS)
    logger.warning("%s has neither settings.json nor training_args.bin: its settings are unknown.", run_dir)
    return {}


def _read_training_args(path: Path) -> Settings:
    """A pickle may hold any code: only known classes are made."""
    try:
        with torch.serialization.safe_globals(_SAFE_CLASSES):
            args = torch.load(path, weights_only=True, map_location="cpu")
    except (pickle.UnpicklingError, AttributeError, RuntimeError, EOFError) as error:
        reason = str(error).splitlines()[0]
        logger.warning("%s cannot be read (%s): the settings of this run are unknown.", path, reason)
        return {}
    return args.to_dict() if isinstance(args, TrainingArguments) else {}


def rollout_length(settings: Settings) -> int | None:
    """Optimizer steps per rollout; None if the settings do not tell."""
    try:
        micro_steps, accumulated = settings["steps_per_generation"], settings["gradient_accumulation_steps"]
        return micro_steps // accumulated * settings["num_iterations"]
    except (KeyError, TypeError):
        return None


def differing(columns: list[list[Settings]]) -> dict[str, list[str]]:
    """
    Settings that differ between columns of a table.

    Args:
        columns (`list[list[dict]]`): per column, the settings of its runs. Runs without settings are passed over.

    Returns:
        `dict[str, list[str]]`: name, and a text per column. Names of runs, seeds, and what follows from other
        settings are left out.
    """
    names = sorted({name for runs in columns for settings in runs for name in settings} - set(_NAMES_OF_RUNS))
    rows = {name: [_texts(name, runs) for runs in columns] for name in names if name not in _FOLLOWS_FROM_OTHERS}
    known = {name: [texts for texts in row if texts] for name, row in rows.items()}
    return {
        name: [" or ".join(texts) or "unknown" for texts in rows[name]]
        for name in rows
        if any(texts != known[name][0] for texts in known[name])
    }


def differing_within(runs: Iterable[Settings]) -> list[str]:
    """Names of settings that differ between runs that should differ in their seed only."""
    return list(differing([[settings] for settings in runs]))


def chosen(settings: Settings) -> dict[str, str]:
    """Settings of a run that are not the defaults."""
    defaults = {field.name: _default(field) for field in dataclasses.fields(DAPOConfig)}
    hidden = {*_FOLLOWS_FROM_OTHERS, *_NAMES_OF_RUNS}
    return {
        name: format_value(value)
        for name, value in sorted(settings.items())
        if name not in hidden
        and not name.endswith("_token")
        and value not in (None, [], {})
        and format_value(value) != format_value(defaults.get(name))
    }


def _default(field: dataclasses.Field) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else None


def _texts(name: str, runs: list[Settings]) -> list[str]:
    return sorted({format_value(settings.get(name)) for settings in runs if settings})


def format_value(value: Any) -> str:
    """As it would stand in a recipe."""
    value = getattr(value, "value", value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(format_value, value))
    if isinstance(value, dict):
        return ", ".join(f"{name}: {format_value(item)}" for name, item in value.items() if item is not None)
    return str(value)
