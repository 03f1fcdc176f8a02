"""SIGTERM ends a run with a checkpoint; the resumed run is the uninterrupted one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from dapo_trl.run.early_end import PREEMPTED
from dapo_trl.run.preemption import MARKER
from tests.command import save_model, write_problems, write_recipe
from tests.distributed.launcher import ENVIRONMENT, ROOT, assert_success, run


POINTS = {
    "during an optimizer step": ("loss", 5),  # in the third step, in the middle of a rollout
    "during a generation round": ("generation", 3),
    "during the last round of a rollout": ("generation", 2),
    "before the first step": ("generation", 1),
    "just after a checkpoint": ("deleting old checkpoints", 2),
}
CHECKPOINTS = dict(zip(POINTS, (3, 4, 0, 0, 2), strict=True))


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Runs that receive SIGTERM at each point, resumed; and one in peace."""
    directory = tmp_path_factory.mktemp("preemption")
    jobs = [
        {
            "output_dir": str(directory / name),
            "is_scripted": False,
            "points": [POINTS[name]] if name in POINTS else [],
            "signum": int(signal.SIGTERM),
        }
        for name in (*POINTS, "in peace")
    ]
    (directory / "jobs.json").write_text(json.dumps(jobs))
    assert_success(run([sys.executable, "-m", "tests.kill_worker", directory / "jobs.json", directory / "out.json"]))
    results = json.loads((directory / "out.json").read_text())
    for result, job in zip(results, jobs, strict=True):
        result["weights"] = torch.load(Path(job["output_dir"]) / "weights.pt")
    return dict(zip((*POINTS, "in peace"), results, strict=True))


@pytest.mark.parametrize("name", POINTS)
def test_same_weights_after_sigterm(name, outcomes):
    outcome = outcomes[name]
    assert outcome["exit_codes"] == [PREEMPTED, 0]
    assert outcome["checkpoints"] == [f"checkpoint-{CHECKPOINTS[name]}", "checkpoint-7"]
    assert torch.equal(outcome["weights"], outcomes["in peace"]["weights"])


# As a cluster does it


@pytest.fixture
def command(tmp_path):
    """A recipe that takes a second for every reward, and the command that runs it."""
    recipe = write_recipe(
        tmp_path / "recipe.yaml",
        {
            "model_name_or_path": save_model(tmp_path / "model"),
            "dataset_name": write_problems(tmp_path / "problems.jsonl"),
            "output_dir": str(tmp_path / "out"),
            "reward_funcs": ["tests.slow_rewards.starts_low"],
            "optim": "sgd",
            "max_steps": 6,
            "save_steps": 100,
            "resume_from_checkpoint": True,
        },
    )
    return ["-m", "dapo_trl.train", "--config", recipe]


def signal_while_training(command: list[str], output_dir: Path, signum: int = signal.SIGTERM) -> tuple[int, list]:
    """Runs the command, sends it a signal when it scores its second rollout; returns its exit code and children."""
    scoring = output_dir.parent / "scoring"
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | ENVIRONMENT | {"SCORING": str(scoring)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not scoring.exists():
        assert process.poll() is None, "ended before it scored anything"
        time.sleep(0.1)
    children = psutil.Process(process.pid).children()
    process.send_signal(signum)
    return process.wait(timeout=120), children


def is_running(process: psutil.Process) -> bool:
    """Not so if it waits for a parent that reaps it, which an orphan in a container may not have."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def final_step(output_dir: Path) -> int:
    return json.loads((output_dir / "checkpoint-6" / "trainer_state.json").read_text())["global_step"]


def test_one_process_exits_with_143(command, tmp_path):
    output_dir = tmp_path / "out"
    assert signal_while_training([sys.executable, *command], output_dir)[0] == 143
    assert (output_dir / MARKER).read_text() == "Ended on SIGTERM after optimizer step 2; resume to go on.\n"


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_one_process_ends_with_accelerate_launch(signum, command, tmp_path):
    """Which passes no signal on to a single process."""
    output_dir = tmp_path / "out"
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1", "--num_machines", "1"]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "--cpu", *command]
    exit_code, (trainer,) = signal_while_training(launch, output_dir, signum)
    assert exit_code != 0
    deadline = time.monotonic() + 120
    while is_running(trainer):
        assert time.monotonic() < deadline, "left behind"
        time.sleep(0.1)
    assert (output_dir / MARKER).read_text() == "Ended on SIGTERM after optimizer step 2; resume to go on.\n"


def test_a_launcher_leaves_the_marker(command, tmp_path):
    output_dir = tmp_path / "out"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", *command]
    launch += ["--ddp_backend", "gloo", "--gradient_accumulation_steps", "1"]
    assert signal_while_training(launch, output_dir)[0] != 0
    assert (output_dir / MARKER).read_text() == "Ended on SIGTERM after optimizer step 2; resume to go on.\n"
    finished = run(launch)
    assert_success(finished)
    assert not (output_dir / MARKER).exists()
    assert final_step(output_dir) == 6
    before = {path: path.stat().st_mtime_ns for path in output_dir.rglob("*")}
    finished = run(launch)
    assert_success(finished)
    assert finished.stdout.count("is finished and its model saved: nothing is done") == 1
    assert {path: path.stat().st_mtime_ns for path in output_dir.rglob("*")} == before
