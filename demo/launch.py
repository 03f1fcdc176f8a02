"""Runs the training command as a user would, behind a progress bar."""

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm


SHOWN = ("rollout ", "evaluation ")
"""How the lines begin with which the trainer tells of its progress."""

ROLLOUT = re.compile(r"rollout +(?P<number>\d+)/(?P<total>\d+)")


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
        recipe (`Path`): YAML file.
        options (`dict[str, object]`): fields that beat the recipe's.
        log_path (`Path`): file for the output of the training command.

    Raises:
        TrainingFailedError: if the command fails; the message ends with the last lines it printed.
    """
    command = training_command(recipe, {**options, "disable_tqdm": True})
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false"}
    with (
        subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        ) as process,
        open(log_path, "w", encoding="utf-8") as log,
        tqdm(desc="DAPO", unit="rollout") as progress,
    ):
        log.writelines(show_progress(process.stdout, progress))
    if process.returncode != 0:
        tail = "".join(log_path.read_text(encoding="utf-8").splitlines(keepends=True)[-20:])
        raise TrainingFailedError(
            f"Training ended with code {process.returncode}; see {log_path}. Its last lines:\n{tail}"
        )


def show_progress(lines: Iterable[str], progress: tqdm) -> Iterable[str]:
    """Passes `lines` on, shows those of a rollout or an evaluation, and moves the progress bar by one per rollout."""
    for line in lines:
        rollout = ROLLOUT.match(line)
        if rollout:
            progress.total = int(rollout["total"])
            progress.update(int(rollout["number"]) - progress.n)
        if line.startswith(SHOWN):
            progress.write(line.rstrip())
        yield line
