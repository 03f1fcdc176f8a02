"""Processes of one launcher notice each other's end, and do not hide each other's errors."""

import os
import subprocess
import sys
import time

import pytest

from dapo_trl.distributed import failed_rank
from dapo_trl.distributed.failed_rank import LAUNCHER_SECONDS, failing_after_other_ranks, is_accelerate
from tests.distributed.launcher import ENVIRONMENT


@pytest.mark.parametrize(
    ("env", "is_lost"),
    [
        ({}, False),  # no launcher
        ({"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}, False),
        ({"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}, True),
    ],
)
def test_the_other_ranks_are_those_of_the_launcher(env, is_lost):
    check = f"from dapo_trl.distributed.failed_rank import has_failed_rank; assert has_failed_rank() is {is_lost}"
    clean = {name: value for name, value in os.environ.items() if name not in ("LOCAL_RANK", "LOCAL_WORLD_SIZE")}
    finished = subprocess.run([sys.executable, "-c", check], env=clean | ENVIRONMENT | env)
    assert finished.returncode == 0


def test_the_first_process_of_a_container_has_no_parent(monkeypatch):
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    monkeypatch.setattr(failed_rank.psutil.Process, "parent", lambda self: None)
    assert not failed_rank.has_failed_rank()


@pytest.mark.parametrize(
    ("num_started", "is_lost", "is_held_back"), [(2, True, True), (2, False, False), (1, True, False)]
)
def test_an_error_waits_for_the_launcher_only_after_another_process_is_gone(
    num_started, is_lost, is_held_back, monkeypatch
):
    pauses = []
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(num_started))
    monkeypatch.setattr(failed_rank, "has_failed_rank", lambda: is_lost)
    monkeypatch.setattr(failed_rank, "NOTICE_SECONDS", 0.0)
    monkeypatch.setattr(failed_rank.time, "sleep", pauses.append)
    with pytest.raises(RuntimeError, match="connection closed by peer"), failing_after_other_ranks():
        raise RuntimeError("connection closed by peer")
    assert (LAUNCHER_SECONDS in pauses) == is_held_back


@pytest.mark.parametrize(
    ("command", "is_launcher"),
    [
        ("/venv/bin/python3.11 /venv/bin/accelerate launch -m dapo_trl.train", True),
        ("/venv/bin/python -u /venv/bin/accelerate launch -m dapo_trl.train", True),
        ("python /venv/bin/accelerate-launch -m dapo_trl.train", True),
        ("python -m accelerate.commands.launch -m dapo_trl.train", True),
        ("python -m accelerate.commands.accelerate_cli launch -m dapo_trl.train", True),
        ("bash train_with_accelerate.sh", False),
        ("bash -c accelerate launch -m dapo_trl.train", False),
        ("sh accelerate", False),
        ("python sweep.py --launcher accelerate", False),
        ("-bash", False),
        ("", False),
    ],
)
def test_which_parents_are_followed(command, is_launcher):
    assert is_accelerate(command.split()) == is_launcher


def test_a_run_outlives_the_shell_that_started_it(tmp_path):
    """`nohup python -m dapo_trl.train ... &`, and the shell is closed."""
    worker = tmp_path / "accelerate.py"
    worker.write_text(
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from dapo_trl.distributed import failed_rank\n"
        "failed_rank.NOTICE_SECONDS = 0.05\n"
        "shell = os.getppid()\n"
        "failed_rank.follow_launcher()\n"
        "Path(sys.argv[1]).touch()\n"
        "while os.getppid() == shell: time.sleep(0.05)\n"
        "time.sleep(0.5)\n"
        "Path(sys.argv[2]).touch()\n"
    )
    started, survived = tmp_path / "started", tmp_path / "survived"
    # -P: the worker, whose name is to look like a launcher's, is not what libraries import as accelerate.
    script = f'nohup "{sys.executable}" -P "{worker}" "{started}" "{survived}" > /dev/null 2>&1 & '
    script += f'while [ ! -e "{started}" ]; do sleep 0.1; done'
    subprocess.run(["bash", "-c", script], env=os.environ | ENVIRONMENT, check=True, timeout=120)
    deadline = time.monotonic() + 60
    while not survived.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert survived.exists()
