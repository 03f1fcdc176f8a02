"""A server that is healthy after a moment, or never, or ends: FAKE_SERVER, a word for each start of the job."""

import http.server
import os
import signal
import sys
import time

from .log import directory, read, record


def fate() -> str:
    """What becomes of this server."""
    return os.environ["FAKE_SERVER"].split(",")[int(os.environ["SLURM_RESTART_COUNT"])]


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers /health: 503 at first, then 200 if it ever gets healthy."""

    num_requests = 0

    def do_GET(self):
        Handler.num_requests += 1
        is_up = fate() == "healthy" and Handler.num_requests > 2
        self.send_response(200 if is_up else 503)
        self.end_headers()

    def log_message(self, *args):
        """Quiet."""


def run(arguments: list[str]) -> None:
    """Serves until SIGTERM; the other nodes of a server only wait for it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    record("server", node=int(os.environ["SLURM_NODEID"]), arguments=arguments)
    if len(read(directory(), "server")) >= int(os.environ["SERVER_NODES"]):
        (directory() / "server_started").touch()
    if fate() == "dies":
        sys.exit(9)
    if "--headless" in arguments:
        while True:
            time.sleep(0.1)
    host, port = (arguments[arguments.index(name) + 1] for name in ("--host", "--port"))
    http.server.HTTPServer((host, int(port)), Handler).serve_forever()


if __name__ == "__main__":
    run(sys.argv[1:])
