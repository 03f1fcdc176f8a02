"""A trainer that succeeds or fails, or is preempted or killed on SIGTERM: FAKE_TRAINER, a word for each start."""

import os
import signal
import sys
import time
import urllib.request
from pathlib import Path

from .log import directory, read, record


def run(arguments: list[str]) -> int:
    """What one node of the trainer does; returns its status."""
    restart, node = int(os.environ["SLURM_RESTART_COUNT"]), int(os.environ["SLURM_NODEID"])
    fate = os.environ["FAKE_TRAINER"].split(",")[restart]
    told = []
    signal.signal(signal.SIGTERM, lambda *_: told.append(True))
    record(
        "trainer",
        node=node,
        arguments=arguments,
        health=health(arguments),
        shutdown_timeout=os.environ["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"],
        has_marker=marker().exists(),
    )
    if fate == "succeeds":
        return 0
    if fate == "fails":
        return 3
    while not told:
        if len(read(directory(), "trainer")) >= int(arguments[arguments.index("--num_machines") + 1]):
            (directory() / "trainer_started").touch()
        time.sleep(0.05)
    if fate == "is_preempted" and node == 0:
        marker().write_text("Ended on SIGTERM\n")
    return 1  # a launcher reports failure


def marker() -> Path:
    """The file that the trainer leaves when it has been told to end."""
    return directory() / "out" / "PREEMPTED"


def health(arguments: list[str]) -> int | None:
    """What the server answers at this moment."""
    if "--vllm_server_base_url" not in arguments:
        return None
    url = arguments[arguments.index("--vllm_server_base_url") + 1]
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return opener.open(f"{url}/health", timeout=60).status


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
