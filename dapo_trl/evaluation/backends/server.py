"""Completions from an OpenAI-compatible server (vLLM, SGLang, llama.cpp, ...): a request for each, many at a time."""

import asyncio
import os
from collections.abc import Iterator, Sequence
from typing import Any

import httpx

from ...data.prompts import as_messages
from ...generation.vllm.claim import check_unused
from ..completions import Completion, Request, Save
from ..config import EvaluateConfig


_MAX_DELAY = 60.0


def sample_from_server(config: EvaluateConfig, requests: Sequence[Request], save: Save) -> None:
    """Samples all requests, with `OPENAI_API_KEY`; a ConnectionError if one fails for good."""
    assert config.server_url is not None  # checked with the settings
    check_unused(config.server_url.rstrip("/").removesuffix("/v1"))
    try:
        asyncio.run(_sample_all(config, iter(requests), save))
    except ExceptionGroup as group:
        raise group.exceptions[0] from None


async def _sample_all(config: EvaluateConfig, requests: Iterator[Request], save: Save) -> None:
    async def work() -> None:
        for request in requests:  # shared by all workers
            save(request, await _sample(config, client, request))

    key = os.environ.get("OPENAI_API_KEY")
    client = httpx.AsyncClient(
        base_url=str(config.server_url),
        headers={"Authorization": f"Bearer {key}"} if key else {},
        timeout=config.server_timeout,
        limits=httpx.Limits(max_connections=config.server_requests),
    )
    async with client, asyncio.TaskGroup() as group:
        for _ in range(config.server_requests):
            group.create_task(work())


async def _sample(config: EvaluateConfig, client: httpx.AsyncClient, request: Request) -> Completion:
    path = "chat/completions" if config.server_api == "chat" else "completions"
    for attempt in range(config.server_retries + 1):
        if attempt > 0:
            await asyncio.sleep(min(2.0 ** (attempt - 1), _MAX_DELAY))
        # By hand, because the retries of `httpx.HTTPTransport` are of connections alone.
        try:
            response = await client.post(path, json=_body(config, request))
            if response.is_success:
                return _completion(response.json(), client.base_url)
            reason = f"status {response.status_code}: {response.text[:500]}"
            if response.status_code != 429 and response.status_code < 500:
                break
        except (httpx.TransportError, ValueError) as error:  # no connection, time-out; an answer that is not JSON
            reason = f"{type(error).__name__}: {error}"
    raise ConnectionError(
        f"{client.base_url.join(path)} did not answer ({reason}). Check that the server runs, serves model "
        f"{config.model!r}, and that the address ends where the API begins (usually `/v1`)."
    )


def _body(config: EvaluateConfig, request: Request) -> dict[str, Any]:
    body: dict[str, Any] = {"model": config.model, "max_tokens": config.max_completion_length}
    body |= {"temperature": config.temperature, "top_p": config.top_p, "seed": request.seed}
    if config.server_api == "completions":
        body["prompt"] = request.prompt_ids or request.prompt  # a server makes tokens of a text itself
    else:
        body["messages"] = as_messages(request.prompt)
        if config.chat_template_kwargs:
            body["chat_template_kwargs"] = config.chat_template_kwargs
    assert isinstance(config.server_extra, dict)  # set with the settings
    return body | config.server_extra


def _completion(answer: dict[str, Any], url: httpx.URL) -> Completion:
    if not answer.get("choices") or not answer.get("usage"):
        raise ConnectionError(
            f"{url} answered without choices or usage: {str(answer)[:500]}. Check that server_url is an "
            "OpenAI-compatible server that reports usage, such as `vllm serve`."
        )
    choice = answer["choices"][0]
    text = choice["text"] if "text" in choice else choice["message"]["content"]
    return Completion(text or "", answer["usage"]["completion_tokens"], choice["finish_reason"] == "length")
