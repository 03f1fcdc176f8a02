"""
`srun`, `vllm` and `accelerate` on this machine, where a process stands for each node. Nothing but the standard library
is imported, so that they start at once.

What becomes of server and trainer stands in FAKE_SERVER and FAKE_TRAINER, a word for each start of the job. What they
are started with is written to `log.jsonl` in FAKE_DIRECTORY.
"""

import http.server
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path


def read_log(directory: Path, what: str) -> list[dict]:
    """The events of a kind, in their order."""
    log = directory / "log.jsonl"
    events = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return [event for event in events if event["what"] == what]


def record(directory: Path, what: str, is_last_of: int, **values) -> None:
    """Writes what a node does; the file `<what>_started` appears when all nodes have."""
    node = int(os.environ["SLURM_NODEID"])
    with open(directory / "log.jsonl", "a") as log:
        log.write(json.dumps({"what": what, "node": node, "arguments": sys.argv[1:]} | values) + "\n")
    if len(read_log(directory, what)) >= is_last_of:
        (directory / f"{what}_started").touch()


def status_of(name: str) -> str:
    return os.environ[name].split(",")[int(os.environ["SLURM_RESTART_COUNT"])]


def option(name: str) -> str:
    return sys.argv[sys.argv.index(name) + 1]


def srun() -> int:
    """Runs the command once for each node, and passes SIGTERM on to all; the largest status."""
    first = next(i for i, word in enumerate(sys.argv[1:], 1) if not word.startswith("--"))
    options = dict(word.removeprefix("--").partition("=")[::2] for word in sys.argv[1:first])
    nodes = options["nodelist"].split(",")
    assert len(nodes) == int(options["nodes"]) == int(options["ntasks"]), options
    processes = [
        subprocess.Popen(sys.argv[first:], env=os.environ | {"SLURM_NODEID": str(i), "SLURMD_NODENAME": node})
        for i, node in enumerate(nodes)
    ]
    signal.signal(signal.SIGTERM, lambda *_: [process.terminate() for process in processes])
    while any(process.poll() is None for process in processes):
        if options.get("kill-on-bad-exit") == "1" and any(process.poll() for process in processes):
            for process in processes:
                process.terminate()
        time.sleep(0.05)
    return max(abs(process.returncode) for process in processes)


class Health(http.server.BaseHTTPRequestHandler):
    """Answers /health: 503 at first, then 200 if the server ever gets healthy."""

    num_requests = 0

    def do_GET(self):
        Health.num_requests += 1
        self.send_response(200 if status_of("FAKE_SERVER") == "healthy" and Health.num_requests > 2 else 503)
        self.end_headers()

    def log_message(self, *args):
        """Quiet."""


def vllm(directory: Path) -> int:
    """Serves until SIGTERM; the other nodes of a server only wait for it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    record(directory, "server", is_last_of=int(os.environ["SERVER_NODES"]))
    if status_of("FAKE_SERVER") == "dies":
        return 9
    while "--headless" in sys.argv:
        time.sleep(0.1)
    http.server.HTTPServer((option("--host"), int(option("--port"))), Health).serve_forever()


def accelerate(directory: Path) -> int:
    """A trainer that succeeds or fails, or is preempted or killed on SIGTERM."""
    received = []
    signal.signal(signal.SIGTERM, lambda *_: received.append(True))
    marker, health = directory / "out" / "PREEMPTED", None
    if "--vllm_server_base_url" in sys.argv:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        health = opener.open(f"{option('--vllm_server_base_url')}/health", timeout=60).status
    shutdown = os.environ["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"]
    values = {"health": health, "has_marker": marker.exists(), "shutdown_timeout": shutdown}
    record(directory, "trainer", is_last_of=int(option("--num_machines")), **values)
    status = status_of("FAKE_TRAINER")
    if status in ("succeeds", "fails"):
        return 3 * (status == "fails")
    while not received:
        time.sleep(0.05)
    if status == "is_preempted" and os.environ["SLURM_NODEID"] == "0":
        marker.write_text("Ended on SIGTERM\n")
    return 1  # a launcher reports failure


if __name__ == "__main__":
    command = {"srun": srun, "vllm": vllm, "accelerate": accelerate}[sys.argv.pop(1)]
    sys.exit(command() if command is srun else command(Path(os.environ["FAKE_DIRECTORY"])))
