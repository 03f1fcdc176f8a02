"""Completions from an OpenAI-compatible server: a request for each, with its own seed, many at a time."""

from collections.abc import Sequence
from typing import Any

from ...data.prompts import as_messages
from ...generation.openai_client import OpenAIServer
from ...generation.vllm.claim import check_unused
from ..completions import Completion, Request, Save
from ..config import EvaluateConfig


def sample_from_server(config: EvaluateConfig, requests: Sequence[Request], save: Save) -> None:
    """
    Samples a completion for every request.

    Raises:
        ConnectionError: if the server does not answer, or a request fails for good; what is done is saved.
        ServerInUseError: if a run trains with it.
    """
    assert config.server_url is not None  # checked with the settings
    server = OpenAIServer(
        config.server_url,
        config.model,
        num_requests=config.server_requests,
        timeout=config.server_timeout,
        num_retries=config.server_retries,
        retry_delay=1.0,
    )
    check_unused(config.server_url.rstrip("/").removesuffix("/v1"))
    path = "chat/completions" if config.server_api == "chat" else "completions"
    server.post_all(
        ((path, _body(config, request)) for request in requests),
        lambda number, answer: save(requests[number], _completion(server.url, answer)),
    )


def _body(config: EvaluateConfig, request: Request) -> dict[str, Any]:
    body: dict[str, Any] = {"max_tokens": config.max_completion_length, "temperature": config.temperature}
    body |= {"top_p": config.top_p, "seed": request.seed}
    if config.server_api == "completions":
        body["prompt"] = request.prompt_ids or request.prompt  # a server makes tokens of a text itself
    else:
        body["messages"] = as_messages(request.prompt)
        if config.chat_template_kwargs:
            body["chat_template_kwargs"] = config.chat_template_kwargs
    assert isinstance(config.server_extra, dict)  # set with the settings
    return body | config.server_extra


def _completion(url: str, answer: dict[str, Any]) -> Completion:
    if not answer.get("choices") or not answer.get("usage"):
        raise ConnectionError(
            f"{url} answered without choices or usage: {str(answer)[:500]}. Check that server_url is an "
            "OpenAI-compatible server that reports usage, such as `vllm serve`."
        )
    choice = answer["choices"][0]
    text = choice["text"] if "text" in choice else choice["message"]["content"]
    return Completion(text or "", answer["usage"]["completion_tokens"], choice["finish_reason"] == "length")
