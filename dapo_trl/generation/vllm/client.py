"""TRL's client of a vLLM server, whose failures wait until all processes react to them."""

import contextlib
import hashlib
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from accelerate.logging import get_logger

from .claim import Claim, ServerInUseError
from .preflight import BAD_ANSWERS, PROBE_TIMEOUT, http


logger = get_logger(__name__)

Result = TypeVar("Result")

MAX_REQUESTS = 512  # under way at the same time: more would come near the usual limit of open files (1024)

NOTHING_GENERATED: dict[str, Any] = {"prompt_ids": [], "completion_ids": [], "logprobs": None}


class GuardedClient:
    """
    TRL's `VLLMClient`, whose failures wait until all processes react to them: after one, calls do nothing until it is
    taken (`take_fault`). While `group_seed` is set, every prompt is a request with its own seed.
    """

    def __init__(self, client: Any, request_timeout: float, claim: Claim):
        self._client = client
        self._claim = claim
        self._fault: str | None = None
        self._is_sending = False
        self.group_seed: Callable[[int], int] | None = None
        limit_requests(client.session, request_timeout)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def generate(self, **kwargs) -> dict[str, Any]:
        def generate():
            if self.group_seed is None:
                output = self._client.generate(**kwargs)
            else:
                output = generate_groups(self._client.generate, self.group_seed, **kwargs)
            self._check_mark()
            return output

        return self.attempt("Generation", generate) or NOTHING_GENERATED

    def update_named_params(self, metadata: list, named_params: Iterator) -> None:
        """Sends the weights. All of them are walked in any case, because other processes help to gather them."""

        def send():
            self._claim.hold()
            self._check_mark()
            self._is_sending = True
            self._client.update_named_params(metadata, named_params)
            self._is_sending = False

        self.attempt("Sending weights", send)
        for _ in named_params:
            pass

    def reset_prefix_cache(self) -> None:
        self.attempt("Resetting the prefix cache", self._client.reset_prefix_cache)

    def mark_weights(self) -> None:
        self.attempt("Marking weights", self._claim.mark_weights)

    def score(self, ids: list[int]) -> tuple[list[int], list[list[float]]] | None:
        """The tokens that the server takes, and each engine's log-probabilities (nats) of all but the first."""

        def score():
            info = self._client.get_server_info()
            text = ids[: info["model_config"]["max_model_len"] - 1]
            if len(text) < 2:
                return None
            # Sequences that come together are spread over the engines.
            num_engines = info["parallel_config"]["data_parallel_size"]
            try:
                answer = self._client.get_sequence_logprobs([text] * num_engines, [1] * num_engines, top_logprobs=1)
            except Exception as error:
                if not str(error).startswith("Request failed: 4"):
                    raise
                logger.warning_once(
                    "The vLLM server does not tell log-probabilities of a given text, so that it is not known whether "
                    "it computes what the trainer does. Watch sampling/sampling_logp_difference. Its answer: "
                    f"{str(error):.200}"
                )
                return None
            self._check_mark()
            return text, [[logp for (logp,) in logps] for logps in answer["actual_logprobs"]]

        return self.attempt("Scoring a text", score)

    def reconnect(self, device: Any) -> None:
        """Makes the server ready to take weights, whether it is the same process as before or a new one."""

        def connect():
            if self._is_sending:
                # A server that has lived through a transfer that was broken off still waits for its end.
                with contextlib.suppress(*BAD_ANSWERS):
                    http().post(f"{self._client.base_url}/finish_weight_update", json={})
                self._is_sending = False
            if not (self._claim.has_weights and self._claim.is_on_server()):
                self._client.model = self._client._get(f"{self._client.base_url}/v1/models")["data"][0]["id"]
                self._client.close_communicator()
                self._client.init_communicator(device=device)
                self._claim.has_weights = False

        self.attempt("Connecting", connect)

    def take_fault(self) -> str | None:
        fault, self._fault = self._fault, None
        return fault

    def attempt(self, what: str, function: Callable[[], Result]) -> Result | None:
        """The function's result; None after a fault, earlier or now. `what` begins the sentence that tells of it."""
        if self._fault is not None:
            return None
        try:
            return function()
        except Exception as error:
            # Besides errors of the connection, TRL raises nothing more specific.
            is_the_servers = isinstance(error, (OSError, *BAD_ANSWERS, ServerInUseError))
            if not is_the_servers and type(error) not in (Exception, RuntimeError):
                raise
            self._fault = f"{what} failed at {self._client.base_url}: {type(error).__name__}: {error}."
            return None

    def _check_mark(self) -> None:
        if self._claim.is_marked and not self._claim.is_on_server():
            raise ConnectionResetError(
                "the server holds other weights than it was sent: it has been restarted, or another run uses it"
            )


def limit_requests(session: Any, seconds: float) -> None:
    """Ends requests after a time, questions sooner; TRL's own retries would repeat half of a weight transfer."""
    for prefix, adapter in list(session.adapters.items()):
        session.mount(prefix, type(adapter)(pool_maxsize=MAX_REQUESTS))
    request = session.request

    def limited(method: str, url: str, **kwargs) -> Any:
        longest = PROBE_TIMEOUT if method == "GET" else seconds
        return request(method, url, **{"timeout": (PROBE_TIMEOUT, longest)} | kwargs)

    session.request = limited


def group_seed(*draw: str | int) -> int:
    """
    Seed of a group of completions, from what tells it from all others: 62 bits, since vLLM gives the i-th completion
    the seed plus i, and draws from nothing else. Without a seed, all engines of a server draw the same.
    """
    digest = hashlib.blake2b(" ".join(map(str, draw)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 2


def generate_groups(
    generate: Callable[..., dict[str, Any]],
    seed_of: Callable[[int], int],
    *,
    prompts: list[list[int]],
    generation_kwargs: dict[str, Any] | None = None,
    **sampling: Any,
) -> dict[str, Any]:
    """TRL's `generate` once per prompt: with one seed for all, equal prompts would get equal completions."""

    def ask(number: int) -> dict[str, Any]:
        return generate(
            prompts=[prompts[number]],
            generation_kwargs={**(generation_kwargs or {}), "seed": seed_of(number)},
            **sampling,
        )

    with ThreadPoolExecutor(min(MAX_REQUESTS, len(prompts))) as executor:
        answers = list(executor.map(ask, range(len(prompts))))
    joined: dict[str, list | None] = {}
    for name in answers[0]:
        parts = [answer[name] for answer in answers]
        joined[name] = None if parts[0] is None else list(itertools.chain.from_iterable(parts))
    return joined
