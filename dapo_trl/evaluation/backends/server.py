"""Completions from an OpenAI-compatible server."""

import logging
from collections.abc import Sequence
from typing import Any

from ...data.prompts import as_messages
from ...generation.openai_client import OpenAIServer
from ...generation.vllm.claim import check_unused
from ..config import EvaluateConfig
from ..samples import Completion, Request, Save
from .prompts import PromptEncoder, check_length


logger = logging.getLogger(__name__)

_QUOTED_CHARS = 500
_PATHS = {"completions": "completions", "chat": "chat/completions"}


class ServerBackend:
    """
    Samples by one request per completion, each with its own seed, many at a time.

    Args:
        config ([`EvaluateConfig`]): the settings.
        encoder ([`PromptEncoder`], *optional*): makes tokens of prompts; not needed for a server's chat.

    Raises:
        ConnectionError: if the server does not answer.
        ValueError: if it serves other models, or shorter sequences than may be needed, or a run trains with it.
    """

    def __init__(self, config: EvaluateConfig, encoder: PromptEncoder | None):
        self.config = config
        self.encoder = encoder
        self.server = OpenAIServer(
            config.server_url,
            config.model,
            num_requests=config.server_requests,
            timeout=config.server_timeout,
            num_retries=config.server_retries,
            retry_delay=1.0,
        )
        self.max_length = self._check_model()
        check_unused(config.server_url.rstrip("/").removesuffix("/v1"))

    def sample(self, requests: Sequence[Request], save: Save) -> None:
        """
        Samples a completion for every request.

        Raises:
            ConnectionError: if a request fails for good; what is done is saved.
        """
        self._check_length(requests)
        path = _PATHS[self.config.server_api]
        self.server.post_all(
            ((path, self._body(request)) for request in requests),
            lambda number, answer: save(requests[number], self._completion(answer)),
        )

    def _check_model(self) -> int | None:
        """Is the model there? Returns its longest sequence in tokens, if the server tells."""
        listing = self.server.get("models")
        if listing is None:
            logger.info("%s does not list its models; asking for %r anyway.", self.server.url, self.config.model)
            return None
        models = {model.get("id"): model for model in listing.get("data", [])}
        if self.config.model not in models:
            raise ValueError(
                f"model={self.config.model!r} is not served by {self.server.url}, which serves: "
                f"{', '.join(map(str, models)) or 'nothing'}. Give one of these names with --model."
            )
        return models[self.config.model].get("max_model_len")

    def _check_length(self, requests: Sequence[Request]) -> None:
        if self.max_length is None or self.encoder is None:
            return
        longest = self.encoder.longest((request.problem_id, request.prompt) for request in requests)
        names = ("the server's max_model_len", "start the server with a larger one")
        check_length(longest, self.config.max_completion_length, self.max_length, *names)

    def _body(self, request: Request) -> dict[str, Any]:
        body = {
            "max_tokens": self.config.max_completion_length,
            "temperature": self.config.temperature,
            "top_p": self.config.top_p,
            "seed": request.seed,
        }
        if self.config.server_api == "completions":
            # A server makes tokens of a text itself.
            body["prompt"] = self.encoder(request.problem_id, request.prompt) if self.encoder else request.prompt
        else:
            body["messages"] = as_messages(request.prompt)
            if self.config.chat_template_kwargs:
                body["chat_template_kwargs"] = self.config.chat_template_kwargs
        return {**body, **self.config.server_extra}

    def _completion(self, answer: dict[str, Any]) -> Completion:
        if not answer.get("choices") or not answer.get("usage"):
            raise ConnectionError(
                f"{self.server.url} answered without choices or usage: {str(answer)[:_QUOTED_CHARS]}. Check that "
                "server_url is an OpenAI-compatible server that reports usage, such as `vllm serve`."
            )
        choice = answer["choices"][0]
        text = choice["text"] if "text" in choice else choice["message"]["content"]
        return Completion(text or "", answer["usage"]["completion_tokens"], choice["finish_reason"] == "length")
