"""Processes of one launcher notice each other's end, and do not hide each other's errors."""

import os
import subprocess
import sys

import pytest

from dapo_trl import peers
from dapo_trl.peers import LAUNCHER_SECONDS, failing_after_peers
from tests.distributed.launcher import ENVIRONMENT


@pytest.mark.parametrize(
    ("env", "is_lost"),
    [
        ({}, False),  # no launcher
        ({"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}, False),
        ({"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}, True),
    ],
)
def test_peers_are_those_of_the_launcher(env, is_lost):
    check = f"from dapo_trl.peers import has_lost_peers; assert has_lost_peers() is {is_lost}"
    clean = {name: value for name, value in os.environ.items() if name not in ("LOCAL_RANK", "LOCAL_WORLD_SIZE")}
    finished = subprocess.run([sys.executable, "-c", check], env=clean | ENVIRONMENT | env)
    assert finished.returncode == 0


def test_the_first_process_of_a_container_has_no_parent(monkeypatch):
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    monkeypatch.setattr(peers.psutil.Process, "parent", lambda self: None)
    assert not peers.has_lost_peers()


@pytest.mark.parametrize(
    ("num_started", "is_lost", "is_held_back"), [(2, True, True), (2, False, False), (1, True, False)]
)
def test_an_error_waits_for_the_launcher_only_after_another_process_is_gone(
    num_started, is_lost, is_held_back, monkeypatch
):
    pauses = []
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(num_started))
    monkeypatch.setattr(peers, "has_lost_peers", lambda: is_lost)
    monkeypatch.setattr(peers, "NOTICE_SECONDS", 0.0)
    monkeypatch.setattr(peers.time, "sleep", pauses.append)
    with pytest.raises(RuntimeError, match="connection closed by peer"), failing_after_peers():
        raise RuntimeError("connection closed by peer")
    assert (LAUNCHER_SECONDS in pauses) == is_held_back
