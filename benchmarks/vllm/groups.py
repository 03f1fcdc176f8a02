"""
What it costs that every group is a request with a seed: the same completions by one request and by one per group.

Both ways in turns, on one server. Beside seconds, which other work on the machine disturbs, the processor time of the
server and of the client. Needs the environment of `make test-vllm`:

    .venv-vllm/bin/python -m benchmarks.vllm.groups
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from dapo_trl.generation.vllm.claim import Claim
from dapo_trl.generation.vllm.client import GuardedClient, group_seed
from tests.helpers import FIRST_CHARACTER
from tests.real_vllm.client import FileClient
from tests.real_vllm.models import save_tiny
from tests.real_vllm.server import running


NUM_TURNS = 15
NUM_GROUPS = 32
SAMPLING = {"n": 16, "max_tokens": 48, "generation_kwargs": {"ignore_eos": True}}
PROMPTS = [[FIRST_CHARACTER + i, FIRST_CHARACTER] for i in range(NUM_GROUPS)]


def server_seconds(group: int) -> float:
    """Processor time of the server's processes so far."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        fields = path.read_text().rpartition(")")[2].split()
        if int(fields[2]) == group:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def measure(ask: Callable[[], object], group: int) -> dict[str, float]:
    before = time.perf_counter(), server_seconds(group), time.process_time()
    ask()
    after = time.perf_counter(), server_seconds(group), time.process_time()
    names = ("seconds", "server's processor seconds", "client's processor seconds")
    return {name: end - start for name, start, end in zip(names, before, after, strict=True)}


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        model = save_tiny(Path(directory, "tied"), is_tied=True)
        with running(model, Path(directory, "log")) as server:
            client = GuardedClient(FileClient(base_url=server.url), 600.0, Claim(server.url))
            generate, group = partial(client.generate, prompts=PROMPTS, **SAMPLING), os.getpgid(server.process.pid)

            def ask(is_grouped: bool) -> None:
                client.group_seed = partial(group_seed, 42) if is_grouped else None
                assert generate()["completion_ids"], client.take_fault()

            for is_grouped in (False, True):
                ask(is_grouped)
            turns = [[measure(partial(ask, way), group) for way in (False, True)] for _ in range(NUM_TURNS)]
    for name in turns[0][0]:
        ratios = [grouped[name] / single[name] for single, grouped in turns]
        means = [statistics.mean(turn[way][name] for turn in turns) for way in (0, 1)]
        print(f"{name}: {means[0]:.2f} in one request, {means[1]:.2f} in {NUM_GROUPS}, median of the ratios ", end="")
        print(f"{statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    sys.exit(main())
