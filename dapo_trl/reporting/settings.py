"""The settings of runs, and which of them differ."""

import logging
import pickle
from collections.abc import Iterable
from dataclasses import dataclass, field
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
from ..run.settings_file import defaults_of, read_settings


logger = logging.getLogger(__name__)

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


@dataclass(frozen=True)
class Settings:
    """
    The settings of a run.

    Attributes:
        values (`dict[str, Any]`): by name; empty if they are unknown.
        defaults (`dict[str, Any]`): by name.
    """

    values: dict[str, Any] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)

    @property
    def optimizer_steps_per_rollout(self) -> int | None:
        """None if the settings do not tell."""
        names = ("steps_per_generation", "gradient_accumulation_steps", "num_iterations")
        micro_steps, accumulated, iterations = (self.values.get(name) for name in names)
        if not (micro_steps and accumulated and iterations):
            return None
        return micro_steps // accumulated * iterations

    def chosen(self) -> dict[str, str]:
        """Settings that are not the defaults."""
        hidden = {*_FOLLOWS_FROM_OTHERS, *_NAMES_OF_RUNS}
        return {
            name: format_value(value)
            for name, value in sorted(self.values.items())
            if name not in hidden
            and not name.endswith("_token")
            and value not in (None, [], {})
            and format_value(value) != format_value(self.defaults.get(name))
        }


def load_settings(run_dir: Path) -> Settings:
    """
    All settings of a run: its `settings.json`, else the `training_args.bin` of the run or its last checkpoint.

    Args:
        run_dir (`Path`): the run's output directory.

    Returns:
        [`Settings`]: without values if there is nothing that can be read, as before the first checkpoint; a file
            that is damaged is warned of.
    """
    written = read_settings(run_dir)
    if written is not None:
        return Settings(*written)
    checkpoints = sorted(run_dir.glob("checkpoint-*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for folder in (run_dir, *checkpoints):
        if (folder / TRAINING_ARGS).is_file():
            return _read_training_args(folder / TRAINING_ARGS)
    return Settings()


def _read_training_args(path: Path) -> Settings:
    """A pickle may hold any code: only known classes are made."""
    try:
        with torch.serialization.safe_globals(_SAFE_CLASSES):
            args = torch.load(path, weights_only=True, map_location="cpu")
    except (pickle.UnpicklingError, AttributeError, RuntimeError, EOFError) as error:
        reason = str(error).splitlines()[0]
        logger.warning("%s cannot be read (%s): the settings of this run are unknown.", path, reason)
        return Settings()
    if not isinstance(args, TrainingArguments):
        logger.warning("%s holds no training arguments: the settings of this run are unknown.", path)
        return Settings()
    return Settings(args.to_dict(), defaults_of(type(args)))


def differing(columns: list[list[Settings]]) -> dict[str, list[str]]:
    """
    Settings that differ between columns of a table.

    Args:
        columns (`list[list[Settings]]`): per column, the settings of its runs. Unknown ones are passed over.

    Returns:
        `dict[str, list[str]]`: name, and a text per column. Names of runs, seeds, and what follows from other
        settings are left out.
    """
    names = {name for runs in columns for settings in runs for name in settings.values}
    names -= {*_NAMES_OF_RUNS, *_FOLLOWS_FROM_OTHERS}
    rows = {name: [_texts(name, runs) for runs in columns] for name in sorted(names)}
    return {
        name: [" or ".join(texts) or "unknown" for texts in row]
        for name, row in rows.items()
        if len({tuple(texts) for texts in row if texts}) > 1
    }


def differing_within(runs: Iterable[Settings]) -> list[str]:
    """Names of settings that differ between runs that should differ in their seed only."""
    return list(differing([[settings] for settings in runs]))


def _texts(name: str, runs: list[Settings]) -> list[str]:
    return sorted({format_value(settings.values.get(name)) for settings in runs if settings.values})


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
