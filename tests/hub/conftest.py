"""One launch of all runs, which the tests look at."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from .server import TOKEN, running_hub
from .store import Store


@dataclass
class Runs:
    """
    Attributes:
        store ([`Store`]): what the Hub holds.
        url (`str`): address of the Hub.
        directory (`Path`): where the output directories are.
        ends (`dict`): what each run ended with, None for success.
        log (`str`): what was written to stderr.
    """

    store: Store
    url: str
    directory: Path
    ends: dict[str, str | None]
    log: str

    def start(self, module: str, *arguments: str) -> subprocess.CompletedProcess:
        """Runs a module with an empty cache, logged in to the Hub."""
        environment = os.environ | {
            "HF_ENDPOINT": self.url,
            "HF_TOKEN": TOKEN,
            "HF_HOME": str(self.directory / f"cache of {module}"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_UPDATE_DOWNLOAD_COUNTS": "false",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1",
        }
        del environment["HF_HUB_OFFLINE"]
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
