"""Requests to an OpenAI-compatible server: many at a time, repeated if the connection or the server fails."""

import asyncio
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx


_MAX_DELAY = 60.0
_QUOTED_CHARS = 500


@dataclass(frozen=True)
class OpenAIServer:
    """
    A server with the OpenAI API (vLLM, SGLang, llama.cpp, ...).

    The environment variable `OPENAI_API_KEY` is sent if it is set.

    Args:
        url (`str`):
            Base address, such as `http://localhost:8000/v1`.
        model (`str`):
            Name of the model on the server.
        num_requests (`int`, *optional*, defaults to 32):
            Requests under way at the same time.
        timeout (`float`, *optional*, defaults to 600.0):
            Seconds to wait for an answer.
        num_retries (`int`, *optional*, defaults to 3):
            Further attempts after an error of the connection or the server (status 429 or 5xx).
        retry_delay (`float`, *optional*, defaults to 2.0):
            Seconds before the first of them; doubled each time, up to a minute.
    """

    url: str
    model: str
    num_requests: int = 32
    timeout: float = 600.0
    num_retries: int = 3
    retry_delay: float = 2.0

    def get(self, path: str) -> dict[str, Any] | None:
        """
        Answer to one GET request; None if the server has no such path.

        Raises:
            ConnectionError: if the request fails for good.
        """

        async def ask() -> dict[str, Any] | None:
            async with self._client() as client:
                return await self._request(client, "GET", path)

        return asyncio.run(ask())

    def post_all(self, requests: Iterable[tuple[str, dict[str, Any]]], on_answer: Callable[[int, dict], None]) -> None:
        """
        Sends POST requests and hands every answer over as soon as it is there.

        Args:
            requests (iterable of `(path, body)`): read as they are sent.
            on_answer (`Callable[[int, dict], None]`): called with the number of the request, from 0, and its answer.

        Raises:
            ConnectionError: if a request fails for good, with the address and the server's answer; the requests under
                way are then dropped.
        """
        try:
            asyncio.run(self._post_all(enumerate(requests), on_answer))
        except ExceptionGroup as group:
            raise group.exceptions[0] from None

    async def _post_all(self, requests: Iterator[tuple[int, tuple[str, dict]]], on_answer: Callable) -> None:
        async def work() -> None:
            for number, (path, body) in requests:  # shared by all workers
                on_answer(number, await self._request(client, "POST", path, {"model": self.model, **body}))

        async with self._client() as client, asyncio.TaskGroup() as group:
            for _ in range(self.num_requests):
                group.create_task(work())

    async def _request(
        self, client: httpx.AsyncClient, method: str, path: str, body: dict | None = None
    ) -> dict | None:
        for attempt in range(self.num_retries + 1):
            try:
                response = await client.request(method, path, json=body)
                if response.is_success:
                    return response.json()
                if method == "GET" and response.status_code == 404:
                    return None
                reason = f"status {response.status_code}: {response.text[:_QUOTED_CHARS]}"
                if response.status_code != 429 and response.status_code < 500:
                    break
            except (httpx.TransportError, ValueError) as error:  # no connection, time-out; an answer that is not JSON
                reason = f"{type(error).__name__}: {error}"
            if attempt < self.num_retries:
                await asyncio.sleep(min(self.retry_delay * 2**attempt, _MAX_DELAY))
        raise self._error(path, reason)

    def _client(self) -> httpx.AsyncClient:
        key = os.environ.get("OPENAI_API_KEY")
        return httpx.AsyncClient(
            base_url=self.url.rstrip("/") + "/",
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=self.timeout,
            limits=httpx.Limits(max_connections=self.num_requests),
        )

    def _error(self, path: str, reason: str) -> ConnectionError:
        return ConnectionError(
            f"{self.url.rstrip('/')}/{path} did not answer ({reason}). Check that the server runs, serves model "
            f"{self.model!r}, and that the address ends where the API begins (usually `/v1`)."
        )
