"""Runs the training command as a user would, behind a progress bar."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import yaml
from tqdm import tqdm


SHOWN = {
    "reward": "reward",
    "dynamic_sampling/acceptance_rate": "acceptance",
    "entropy": "entropy",
    "completions/mean_length": "length",
}


class TrainingFailedError(RuntimeError):
    """The training command ended with an error."""


def training_command(recipe: Path, options: dict[str, object]) -> list[str]:
    """`accelerate launch` of `dapo_trl.train` with a recipe; `options` beat the recipe's values."""
    launcher = [sys.executable, "-m", "accelerate.commands.launch"]
    one_process = ["--num_processes=1", "--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no"]
    overrides = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return [*launcher, *one_process, "-m", "dapo_trl.train", "--config", str(recipe), *overrides]


def train(recipe: Path, options: dict[str, object], log_path: Path) -> None:
    """
    Trains in a process of its own and shows its progress; all it prints goes to `log_path`.

    Args:
        recipe (`Path`): YAML file; its `max_steps` and `logging_steps` give the length of the progress bar.
        options (`dict[str, object]`): fields that beat the recipe's.
        log_path (`Path`): file for the output of the training command.

    Raises:
        TrainingFailedError: if the command fails; the message ends with the last lines it printed.
    """
    settings = yaml.safe_load(recipe.read_text(encoding="utf-8")) | options
    command = training_command(recipe, {**options, "disable_tqdm": True})
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false"}
    with (
        subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        ) as process,
        open(log_path, "w", encoding="utf-8") as log,
        tqdm(total=int(settings["max_steps"]), desc="DAPO", unit="step") as progress,
    ):
        lines = show_progress(process.stdout, progress, int(settings["logging_steps"]))
        log.writelines(lines)
    if process.returncode != 0:
        tail = "".join(log_path.read_text(encoding="utf-8").splitlines(keepends=True)[-20:])
        raise TrainingFailedError(
            f"Training ended with code {process.returncode}; see {log_path}. Its last lines:\n{tail}"
        )


def show_progress(lines: Iterable[str], progress: tqdm, logging_steps: int) -> Iterable[str]:
    """Passes `lines` on, and moves the progress bar by `logging_steps` at each line that is a record of metrics."""
    for line in lines:
        record = parse_record(line)
        if "reward" in record:
            progress.set_postfix({name: record[key] for key, name in SHOWN.items() if key in record}, refresh=False)
            progress.update(min(logging_steps, progress.total - progress.n))
        yield line


def parse_record(line: str) -> dict:
    """The metrics in a line that the trainer printed as a Python dict; empty for any other line."""
    if not line.startswith("{"):
        return {}
    try:
        return ast.literal_eval(line)
    except (SyntaxError, ValueError):
        return {}
