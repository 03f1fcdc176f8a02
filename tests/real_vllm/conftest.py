"""
Servers that the tests share. `make test-vllm` runs these tests; a plain `pytest` passes them over.

Starting a server takes a minute, so every kind is started once, the first time a test asks for it.
"""

import os
import signal
from pathlib import Path

import pytest

from .models import save_tiny
from .proxy import Proxy
from .server import Server, running


collect_ignore_glob = [] if os.environ.get("TEST_VLLM") else ["test_*.py"]

if os.environ.get("TEST_VLLM"):
    os.environ["NO_PROXY"] = "127.0.0.1"
    # On SIGTERM, the servers are ended too, as by Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> dict[str, str]:
    """Directories of saved models: `tied` and `untied`."""
    directory = tmp_path_factory.mktemp("models")
    return {name: save_tiny(directory / name, is_tied=name == "tied") for name in ("tied", "untied")}


@pytest.fixture(scope="session")
def server(models, tmp_path_factory):
    """A server of the tied model, for most of the tests."""
    with running(models["tied"], tmp_path_factory.mktemp("server") / "log") as server:
        yield server


@pytest.fixture(scope="session")
def untied_server(models, tmp_path_factory):
    """A server of the untied model."""
    with running(models["untied"], tmp_path_factory.mktemp("server") / "log") as server:
        yield server


@pytest.fixture
def proxy(server: Server):
    """A proxy before the server, which does it harm on request."""
    proxy = Proxy(server.url)
    proxy.open()
    yield proxy
    proxy.close()


@pytest.fixture
def output_dir(tmp_path: Path) -> str:
    return str(tmp_path / "out")
