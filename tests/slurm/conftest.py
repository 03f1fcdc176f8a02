"""A fake scheduler on this machine."""

import os
import socket
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from .fakes.log import read


ROOT = Path(__file__).resolve().parents[2]
COMMANDS = ("sbatch", "srun", "scontrol", "vllm", "accelerate", "python")


@dataclass
class Cluster:
    """
    The fake commands of one test.

    Args:
        directory (`Path`): their files; the run's output directory is `out` in it.
        port (`int`): of the server.
    """

    directory: Path
    port: int

    @property
    def recipe(self) -> Path:
        """A recipe."""
        return self.directory / "recipe.yaml"

    def submit(self, *arguments: str, num_nodes: int = 3, **environment: str) -> subprocess.CompletedProcess:
        """Submits the job and waits for its end."""
        settings = {
            "PATH": f"{self.directory / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "FAKE_DIRECTORY": str(self.directory),
            "FAKE_SERVER": "healthy",
            "FAKE_TRAINER": "succeeds",
            "SERVER_NODES": "2",
            "SERVER_PORT": str(self.port),
            "SERVER_TIMEOUT": "120",
            "POLL_SECONDS": "0.2",
        }
        command = ["sbatch", f"--nodes={num_nodes}", "recipes/slurm/train.sbatch", *arguments]
        return subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | settings | environment,
            capture_output=True,
            text=True,
            timeout=300,
        )

    def events(self, what: str) -> list[dict]:
        """What the fakes recorded."""
        return read(self.directory, what)

    def serves(self) -> bool:
        """Whether the server still runs."""
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0


def make_cluster(directory: Path) -> Cluster:
    """Writes the fake commands and a recipe."""
    (directory / "bin").mkdir()
    (directory / "out").mkdir()
    for name in COMMANDS:
        path = directory / "bin" / name
        path.write_text(f'#!/bin/sh\nexec {sys.executable} -S -m tests.slurm.fakes.{name} "$@"\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    cluster = Cluster(directory, port)
    cluster.recipe.write_text(f"output_dir: {directory / 'out'}\n")
    return cluster


@pytest.fixture
def cluster(tmp_path) -> Cluster:
    """A fresh one."""
    return make_cluster(tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Cluster:
    """One whose job has run on two nodes for the server and two for the trainer."""
    cluster = make_cluster(tmp_path_factory.mktemp("finished"))
    job = cluster.submit(str(cluster.recipe), "--learning_rate", "1e-5", num_nodes=4)
    assert job.returncode == 0, job.stderr
    return cluster
