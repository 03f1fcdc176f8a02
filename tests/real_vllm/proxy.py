"""A proxy before a server that lets requests through, loses them, or spoils them."""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

from .server import reserved_port


Harm = Callable[[BaseHTTPRequestHandler], bool]
"""Does something to a request; true if that was its answer, false to let it through."""


class Listener(ThreadingHTTPServer):
    """Takes the requests of a round, which come together."""

    request_queue_size = 512


class Proxy:
    """
    Forwards HTTP requests to a server on this machine.

    Args:
        target (`str`): address of the server.

    Attributes:
        harms (`dict[str, list[Harm]]`): for a path, what is done to the next requests for it, in turn.
        paths (`list[str]`): of all requests so far, in order.
        num_waited_for (`int`): hanging requests that were answered in the end, because the client would not go.
    """

    def __init__(self, target: str):
        self.target = target
        self.harms: dict[str, list[Harm]] = {}
        self.paths: list[str] = []
        self._is_closed, self._lock = threading.Event(), threading.Lock()
        self.num_waited_for = 0
        self._client = httpx.Client(timeout=120, limits=httpx.Limits(max_keepalive_connections=0))
        self.port, self._holder = reserved_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def open(self) -> None:
        """Starts to listen."""
        self._server = Listener(("127.0.0.1", self.port), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Ends listening; requests that hang are given up."""
        self._is_closed.set()
        self._server.shutdown()
        self._server.server_close()
        self._holder.close()

    def harm(self, path: str, *harms: Harm) -> None:
        """Does these to the next requests for a path, in turn."""
        self.harms[path] = list(harms)

    def fail(self, status: int) -> Harm:
        """The request is answered with this status."""

        def harm(handler):
            _answer(handler, status, b'{"error": "made by the test"}')
            return True

        return harm

    def hang(self, handler: BaseHTTPRequestHandler) -> bool:
        """The request is not answered, but for a test that would never end."""
        self.num_waited_for += not self._is_closed.wait(300)
        handler.close_connection = True
        return True

    def drop(self, handler: BaseHTTPRequestHandler) -> bool:
        """The connection is closed without an answer."""
        handler.close_connection = True
        return True

    def run(self, action: Callable[[], None]) -> Harm:
        """Something happens first; then the request goes through."""

        def harm(handler):
            action()
            return False

        return harm

    def _handler(proxy) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                proxy._handle(self)

            do_POST = do_GET

            def log_message(self, *args):
                pass

        return Handler

    def _handle(self, handler: BaseHTTPRequestHandler) -> None:
        path = handler.path.partition("?")[0]
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        self.paths.append(path)
        with self._lock:
            harms = self.harms.get(path)
            harm = harms.pop(0) if harms else let_through
        if harm(handler):
            return
        headers = {"Content-Type": handler.headers.get("Content-Type", "application/json")}
        try:
            response = self._client.request(handler.command, self.target + handler.path, content=body, headers=headers)
        except httpx.TransportError:
            self.drop(handler)
            return
        _answer(handler, response.status_code, response.content)


def _answer(handler: BaseHTTPRequestHandler, status: int, content: bytes) -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


def let_through(handler: BaseHTTPRequestHandler) -> bool:
    """No harm: the request goes through."""
    return False
