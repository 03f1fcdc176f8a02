"""Which files of a run go to the Hub."""

import os
import shutil
from fnmatch import fnmatch
from pathlib import Path

from ..run.settings_file import SETTINGS_FILE


RECIPE_FILE = "recipe.yaml"
CURVES_FILE = "curves.png"
DATA_CARD_FILE = "data_card.md"
FACTS_FILE = "run.json"
STAGED_PREFIX = "_push-"

MODEL_FILES = ("*.safetensors", "*.bin", "*.json", "*.jinja", "*.txt", "*.model", "*.py")
RUN_FILES = (
    "README.md",
    RECIPE_FILE,
    DATA_CARD_FILE,
    CURVES_FILE,
    FACTS_FILE,
    SETTINGS_FILE,
    "metrics*.jsonl",
    "evaluation/summary-*.json",
    "runs/**/*",  # TensorBoard: the Hub shows it
)
# Not of use to load a model. `training_args.bin` is a pickle that can hold the token and paths of this machine.
_NOT_PUSHED = ("trainer_state.json", "training_args.bin", "zero_to_fp32.py", "*_state_*")


def stage(model_dir: Path, run_dir: Path, target: Path, whole_checkpoint: str | None = None) -> None:
    """
    Gathers what is pushed in a directory of its own, which stays as it is while the run goes on.

    Weights are linked, not copied: a checkpoint's files are never written again, and may be deleted meanwhile.

    Args:
        model_dir (`Path`): a checkpoint, or where the final model was saved.
        run_dir (`Path`): the run's output directory, with the card, the recipe and the metrics.
        target (`Path`): an empty directory, on the same file system.
        whole_checkpoint (`str`, *optional*): name of a folder that gets all of `model_dir`, to resume from.
    """
    for pattern in RUN_FILES:
        for path in filter(Path.is_file, run_dir.glob(pattern)):
            copied = target / path.relative_to(run_dir)
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copied)
    for path in model_files(model_dir):
        if not (target / path.name).exists():
            _link(path, target / path.name)
    if whole_checkpoint is not None:
        ignored = shutil.ignore_patterns("training_args.bin")
        shutil.copytree(model_dir, target / whole_checkpoint, copy_function=_link, ignore=ignored)


def model_files(directory: Path) -> list[Path]:
    """What a model or an adapter is loaded from: weights, configurations, tokenizer, own code."""
    return [
        path
        for path in sorted(directory.iterdir())
        if path.is_file() and _matches(path.name, MODEL_FILES) and not _matches(path.name, _NOT_PUSHED)
    ]


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _link(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copyfile(source, target)
