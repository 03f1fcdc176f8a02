"""A real vLLM server on the CPU, in a process of its own."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx


START_TIMEOUT = 600
"""Seconds; three quarters of a minute on two idle cores. A server that ends is noticed at once."""

ENVIRONMENT = {
    "VLLM_SERVER_DEV_MODE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_HOST_IP": "127.0.0.1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "TORCHDYNAMO_DISABLE": "1",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
}

OPTIONS = {
    "--dtype": "float32",
    "--max-model-len": "64",
    "--logprobs-mode": "processed_logprobs",
    "--max-logprobs": "-1",
    "--weight-transfer-config": '{"backend": "file"}',
    "--worker-extension-cls": "tests.real_vllm.file_engine.WorkerExtension",
}


def reserved_port() -> tuple[int, socket.socket]:
    """
    A port that nobody listens on, and the socket that keeps others from getting it while it is open.

    Connections are refused until a server listens, which sockets with `SO_REUSEADDR` may.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    return holder.getsockname()[1], holder


class Server:
    """
    A server that can be started, killed and started again on the same port.

    Args:
        model (`str`): directory of a saved model.
        log (`Path`): file for what the server prints.
        **options: options that differ from [`OPTIONS`], by their name with `_` for `-`; None leaves one out.
    """

    def __init__(self, model: str, log: Path, **options: str | None):
        self.model, self.log = model, log
        self.port, self._holder = reserved_port()
        self.url = f"http://127.0.0.1:{self.port}"
        given = {f"--{name.replace('_', '-')}": value for name, value in options.items()}
        self.options = {name: value for name, value in (OPTIONS | given).items() if value is not None}
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        """Starts the process; [`wait`] tells when it serves."""
        # The `vllm` command asks for a distribution of that name, which the CPU build is not.
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", self.model]
        command += ["--host", "127.0.0.1", "--port", str(self.port), "--enforce-eager"]
        command += [word for option in self.options.items() for word in option]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                command,
                env={**os.environ, **ENVIRONMENT, "PYTHONPATH": str(Path(__file__).parents[2])},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self) -> None:
        """Until the server serves."""
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/health", timeout=5).is_success:
                    return
            time.sleep(0.5)
        raise RuntimeError(f"The vLLM server did not start:\n{self.log.read_text()[-3000:]}")

    def kill(self) -> None:
        """Ends the server and its workers at once, as a crash would."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def close(self) -> None:
        """Ends the server for good."""
        self.kill()
        self._holder.close()


@contextlib.contextmanager
def running(model: str, log: Path, **options: str | None) -> Iterator[Server]:
    """A server that serves."""
    server = Server(model, log, **options)
    server.start()
    try:
        server.wait()
        yield server
    finally:
        server.close()
