"""TRL's client of a vLLM server, whose failures wait until all processes react to them."""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

import requests
from accelerate.logging import get_logger
from requests.adapters import HTTPAdapter
from torch.distributed.constants import default_pg_timeout
from trl.generation import vllm_generation
from trl.generation.vllm_client import VLLMClient

from ...checks.field_combinations import check_waits
from ...config import DAPOConfig
from .claim import Claim, ServerInUseError
from .groups import MAX_REQUESTS, generate_groups
from .preflight import PROBE_TIMEOUT, check_running_server


logger = get_logger(__name__)

Result = TypeVar("Result")

NOTHING_GENERATED = {"prompt_ids": [], "completion_ids": [], "logprobs": None}


def check_weight_transfer(args: DAPOConfig) -> None:
    """
    Refuses a run with a server that TRL's client could not send weights to, before anything is loaded.

    Raises:
        ImportError: if vLLM, whose code sends them, is not installed.
        ValueError: if the trainer has no GPU with CUDA, which TRL's client sends them from; or if its processes do not
            wait for as long as the server may take.
        ServerMismatchError: if the server is up already and takes no weights.
    """
    # A client with a transfer of its own, in the place where TRL takes it from, has needs of its own.
    is_trls = vllm_generation.VLLMClient.init_communicator is VLLMClient.init_communicator
    if not (args.use_vllm and args.vllm_mode == "server"):
        return
    if args.use_cpu:  # `ddp_timeout` is ignored then
        check_waits(args, default_pg_timeout.total_seconds())
    if is_trls and args.device.type != "cuda":
        raise ValueError(
            f"vllm_mode='server' cannot train on the device {args.device.type!r}: weights are sent to the server over "
            "NCCL, from a GPU with CUDA. Run the trainer on one (use_cpu: false), or set use_vllm to false."
        )
    if is_trls and not vllm_generation.is_vllm_available():
        raise ImportError(
            "use_vllm=True with vllm_mode='server' needs vLLM where the trainer runs too, because its code sends the "
            "weights. Install it with `pip install trl[vllm]`, or set use_vllm to false."
        )
    if args.process_index == 0:
        check_running_server(server_url(args))


def server_url(args: DAPOConfig) -> str:
    """Where the trainer looks for its server."""
    return args.vllm_server_base_url or f"http://{args.vllm_server_host}:{args.vllm_server_port}"


class GuardedClient:
    """
    TRL's client, whose failures wait until all processes react to them.

    After a failure, calls do nothing until the fault is taken.

    Args:
        client (`VLLMClient`): TRL's client, used as it is; only its session's own retries are switched off, which
            would repeat half of a weight transfer, and its requests end after a time.
        request_timeout (`float`): that time in seconds.
        claim (`Claim`, *optional*): the run's hold on the server.

    Attributes:
        group_seed (`Callable[[int], int]`, *optional*): while set, every prompt is a request with its own seed.
    """

    def __init__(self, client: Any, request_timeout: float, claim: Claim | None = None):
        self._client = client
        self._claim = claim or Claim(getattr(client, "base_url", ""))
        self._fault: str | None = None
        self._is_sending = False
        self._mark: str | None = None  # how the mark of the weights that were sent begins
        self.group_seed: Callable[[int], int] | None = None
        for scheme in ("http://", "https://"):
            client.session.mount(scheme, _TimeoutAdapter(request_timeout))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def generate(self, **kwargs) -> dict[str, Any]:
        """Completions, or none at all after a fault."""

        def generate():
            if self.group_seed is None:
                output = self._client.generate(**kwargs)
            else:
                output = generate_groups(self._client.generate, self.group_seed, **kwargs)
            self._check_mark()
            return output

        return self.attempt("Generation", generate) or NOTHING_GENERATED

    def image_features(self, images: list, **kwargs) -> list:
        """Features of images, None for each after a fault."""
        features = self.attempt("Processing images", partial(self._client.image_features, images, **kwargs))
        return features or [None] * len(images)

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
        """Lets the server forget what it computed with older weights."""
        self.attempt("Resetting the prefix cache", self._client.reset_prefix_cache)

    def mark_weights(self) -> None:
        """Marks the weights that the server holds as those of this run and moment."""

        def mark():
            try:
                self._claim.mark_weights(self._write_mark)
            except NotImplementedError as error:
                logger.warning_once(str(error))
                return
            self._mark = self._claim.prefix

        self.attempt("Marking weights", mark)

    def score(self, ids: list[int]) -> tuple[list[int], list[list[float]]] | None:
        """
        Log-probabilities of a text at temperature 1, by each of the server's engines.

        Args:
            ids (`list[int]`): the text.

        Returns:
            `tuple`: as much of the text as the server takes, and lists of the log-probabilities from its second token
            on. None after a fault, or if the server does not score texts.
        """

        def score():
            info = self._client.get_server_info()
            text = ids[: info["model_config"]["max_model_len"] - 1]
            if len(text) < 2:
                return None
            # Requests that come together are spread over the engines.
            prompts = [text] * info["parallel_config"]["data_parallel_size"]
            request = {"model": self._client.model, "prompt": prompts, "max_tokens": 1, "prompt_logprobs": 0}
            response = self._client.session.post(f"{self._client.base_url}/v1/completions", json=request)
            if 400 <= response.status_code < 500:
                logger.warning_once(
                    "The vLLM server does not tell log-probabilities of a given text, so that it is not known whether "
                    "it computes what the trainer does. Watch sampling/sampling_logp_difference. Its answer: "
                    f"{response.text[:200]}"
                )
                return None
            if response.status_code != 200:
                raise ConnectionError(f"Request failed: {response.status_code}, {response.text[:500]}")
            self._check_mark()
            answers = [choice["prompt_logprobs"][1:] for choice in response.json()["choices"]]
            return text, [
                [entry[str(token)]["logprob"] for entry, token in zip(answer, text[1:], strict=True)]
                for answer in answers
            ]

        return self.attempt("Scoring a text", score)

    def reconnect(self, device: Any) -> None:
        """Makes the server ready to take weights, whether it is the same process as before or a new one."""

        def connect():
            if self._is_sending:
                # A server that has lived through a transfer that was broken off still waits for its end.
                with contextlib.suppress(requests.RequestException):
                    requests.post(f"{self._client.base_url}/finish_weight_update", json={}, timeout=PROBE_TIMEOUT)
                self._is_sending = False
            if self._mark is None or not self._bears(self._mark):
                self._client.model = self._client._get(f"{self._client.base_url}/v1/models")["data"][0]["id"]
                self._client.close_communicator()
                self._client.init_communicator(device=device)
                self._mark = None

        self.attempt("Connecting", connect)

    def release(self) -> None:
        """Lets the next run have the server at once."""
        self._claim.release()

    def take_fault(self) -> str | None:
        """What failed since the last call, if anything."""
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
            if not isinstance(error, (OSError, ServerInUseError)) and type(error) not in (Exception, RuntimeError):
                raise
            self._fault = f"{what} failed at {self._client.base_url}: {type(error).__name__}: {error}."
            return None

    def _write_mark(self, mark: str) -> None:
        url = f"{self._client.base_url}/update_weight_version"
        response = self._client.session.post(url, json={"new_version": mark})
        if response.status_code == 404:
            raise NotImplementedError(
                "This version of vLLM cannot mark its weights: if the server is restarted between two requests, or "
                "another run uses it, that goes unnoticed until the next optimizer step. Update vLLM."
            )
        response.raise_for_status()

    def _check_mark(self) -> None:
        expected = self._mark or (self._claim.prefix if self._claim.is_taken else None)
        if expected is not None and not self._bears(expected):
            raise ConnectionResetError(
                "the server holds other weights than it was sent: it has been restarted, or another run uses it"
            )

    def _bears(self, mark: str) -> bool:
        return self._client._get(f"{self._client.base_url}/weight_info")["weight_version"].startswith(mark)


class _TimeoutAdapter(HTTPAdapter):
    """Requests without retries that end after a time, questions sooner than work."""

    def __init__(self, timeout: float):
        self._timeout = timeout
        super().__init__(pool_maxsize=MAX_REQUESTS)

    def send(self, request, timeout=None, **kwargs):
        longest = PROBE_TIMEOUT if request.method == "GET" else self._timeout
        return super().send(request, timeout=timeout or (PROBE_TIMEOUT, longest), **kwargs)
