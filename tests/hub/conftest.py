"""One launch of all runs, which the tests look at."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from .server import hub_environment, running_hub
from .store import Store


@dataclass
class Runs:
    store: Store  # what the Hub holds
    url: str  # of the Hub
    directory: Path  # of the output directories
    ends: dict[str, str | None]  # what each run ended with, None for success
    log: str  # what was written to stderr

    def start(self, module: str, *arguments: str) -> subprocess.CompletedProcess:
        """Runs a module with an empty cache, logged in to the Hub."""
        environment = hub_environment(self.url, self.directory / f"cache of {module}")
        command = [sys.executable, "-m", module, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """See [`~tests.hub.pushing_worker`]: of `flaky`, four commits are refused; of `refusing`, all."""
    directory = tmp_path_factory.mktemp("hub")
    with running_hub() as (store, url):
        store.refusals = {"tester/flaky": 4, "tester/refusing": 1000}
        runs = Runs(store, url, directory, {}, "")
        finished = runs.start("tests.hub.pushing_worker", str(directory))
        assert finished.returncode == 0, finished.stderr[-5000:]
        runs.ends, runs.log = json.loads((directory / "ends.json").read_text()), finished.stderr
        yield runs
