"""Requests to an OpenAI-compatible server: many at a time, repeated if the connection or the server fails."""

import asyncio
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx


_MAX_DELAY = 60.0


@dataclass(frozen=True)
class OpenAIServer:
    """
    A server with the OpenAI API (vLLM, SGLang, llama.cpp, ...). `OPENAI_API_KEY` of the environment is sent if it is
    set.
    """

    url: str  # base address, such as http://localhost:8000/v1
    model: str  # its name on the server
    num_requests: int = 32  # under way at the same time
    timeout: float = 600.0  # seconds to wait for an answer
    num_retries: int = 3  # further attempts after an error of the connection or the server (status 429 or 5xx)
    retry_delay: float = 2.0  # seconds before the first of them; doubled each time, up to a minute

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
                on_answer(number, await self._post(client, path, {"model": self.model, **body}))

        key = os.environ.get("OPENAI_API_KEY")
        client = httpx.AsyncClient(
            base_url=self.url,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=self.timeout,
            limits=httpx.Limits(max_connections=self.num_requests),
        )
        async with client, asyncio.TaskGroup() as group:
            for _ in range(self.num_requests):
                group.create_task(work())

    async def _post(self, client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
        for attempt in range(self.num_retries + 1):
            if attempt > 0:
                await asyncio.sleep(min(self.retry_delay * 2 ** (attempt - 1), _MAX_DELAY))
            # By hand, because the retries of `httpx.HTTPTransport` are of connections alone.
            try:
                response = await client.post(path, json=body)
                if response.is_success:
                    return response.json()
                reason = f"status {response.status_code}: {response.text[:500]}"
                if response.status_code != 429 and response.status_code < 500:
                    break
            except (httpx.TransportError, ValueError) as error:  # no connection, time-out; an answer that is not JSON
                reason = f"{type(error).__name__}: {error}"
        raise ConnectionError(
            f"{self.url.rstrip('/')}/{path} did not answer ({reason}). Check that the server runs, serves model "
            f"{self.model!r}, and that the address ends where the API begins (usually `/v1`)."
        )
