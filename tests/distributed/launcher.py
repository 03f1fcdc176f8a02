"""Several processes of a worker of ours, and what they leave behind."""

import faulthandler
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch


ROOT = Path(__file__).parents[2]
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def watch(seconds: float) -> None:
    """Prints the stacks of all threads and ends the process if it still runs then."""
    faulthandler.dump_traceback_later(seconds, exit=True)


def torchrun(module: str, *arguments: str | Path, num_processes: int = 2, **options) -> subprocess.CompletedProcess:
    """
    Runs a module under `torchrun`, with its output captured.

    Args:
        module (`str`): the module.
        *arguments: its arguments.
        num_processes (`int`): R.
        **options: of [`subprocess.run`]; `env` adds to the environment.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={num_processes}"]
    return run([*command, "-m", module, *map(str, arguments)], **options)


def results_of(module: str, directory: Path) -> Any:
    """What two processes of [`tests.distributed.worker`] write. One launch for all runs: imports take most of it."""
    assert_success(torchrun("tests.distributed.worker", module, directory / "results.pt", directory))
    return torch.load(directory / "results.pt", weights_only=False)


def run(command: list[str], *, env: dict[str, str] | None = None, **options) -> subprocess.CompletedProcess:
    """[`subprocess.run`] in the root of the repository, with the output as text."""
    options = {"timeout": 300, "text": True, "capture_output": True} | options
    return subprocess.run(command, cwd=ROOT, env=os.environ | ENVIRONMENT | (env or {}), **options)


def assert_success(finished: subprocess.CompletedProcess) -> None:
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-12000:]
