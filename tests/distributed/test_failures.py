"""A process that raises or dies ends the job at once and is named; one that is slow does not, within the time-out."""

import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.command import save_model, write_problems, write_recipe
from tests.distributed.launcher import assert_success, run


ACCELERATE_CONFIG = {
    "compute_environment": "LOCAL_MACHINE",
    "distributed_type": "MULTI_GPU",
    "use_cpu": True,
    "num_processes": 2,
    "num_machines": 1,
    "machine_rank": 0,
    "mixed_precision": "no",
}


@pytest.fixture
def arguments(tmp_path):
    """Writes a recipe with a reward of [`tests.distributed.misbehaving`], and returns what trains it."""

    def write(reward: str, **fields) -> list[str]:
        of_two = {"ddp_backend": "gloo", "per_device_train_batch_size": 4, "gradient_accumulation_steps": 1}
        paths = {
            "model_name_or_path": save_model(tmp_path / "model"),
            "dataset_name": write_problems(tmp_path / "problems.jsonl"),
            "output_dir": str(tmp_path / "out"),
        }
        reward_funcs = [f"tests.distributed.misbehaving.{reward}"]
        settings = {"updates_per_rollout": 1, "save_strategy": "no", "reward_funcs": reward_funcs}
        recipe = write_recipe(tmp_path / "recipe.yaml", of_two | paths | settings | fields)
        return ["-m", "dapo_trl.train", "--config", recipe]

    return write


def torchrun() -> list[str]:
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]


def accelerate_launch(directory: Path) -> list[str]:
    config = directory / "accelerate.yaml"
    config.write_text(yaml.safe_dump(ACCELERATE_CONFIG))
    # The launcher looks so rarely that a process which fails as a consequence could be over too when it looks.
    options = ["--config_file", str(config), "--monitor_interval", "3"]
    return [sys.executable, "-m", "accelerate.commands.launch", *options]


def run_failing(command: list[str], **env: str) -> str:
    """Runs a command that must fail within a minute; returns what the launcher says about the first failure."""
    # Time to write a checkpoint after SIGTERM is no reason to wait when a process has failed.
    env = {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "600"} | env
    start = time.monotonic()
    finished = run(command, env=env)
    assert finished.returncode != 0
    assert time.monotonic() - start < 60
    return finished.stderr.split("Root Cause (first observed failure)")[1]


def test_a_reward_that_raises_under_torchrun(arguments):
    cause = run_failing([*torchrun(), *arguments("raises")])
    assert "rank      : 1" in cause
    assert "RuntimeError: the verifier of the second process is broken" in cause


@pytest.mark.parametrize("reward", ["dies", "dies_alone"])
def test_a_process_that_dies_under_accelerate_launch(reward, arguments, tmp_path):
    cause = run_failing([*accelerate_launch(tmp_path), *arguments(reward)])
    assert "rank      : 1" in cause
    assert "Signal 9 (SIGKILL) received" in cause


def test_a_slow_process_within_the_time_out(arguments):
    """The second process is late by 4 seconds every time, by 16 in all: each collective has the time-out to itself."""
    command = [*torchrun(), "-m", "tests.distributed.with_timeout", *arguments("is_slow", max_steps=4)[2:]]
    assert_success(run(command, env={"SLOW_SECONDS": "4", "TIMEOUT_SECONDS": "12"}))


def test_a_slow_process_beyond_the_time_out(arguments):
    command = [*torchrun(), "-m", "tests.distributed.with_timeout", *arguments("is_slow", max_steps=4)[2:]]
    cause = run_failing(command, SLOW_SECONDS="60", TIMEOUT_SECONDS="12")
    assert "rank      : 0" in cause
    assert "Timed out waiting 12000ms" in cause
