"""Checks that the server fits the run: before the first generation, and whenever the server may be another one."""

import functools
import json
import logging
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

import httpx
from torch.distributed.constants import default_pg_timeout
from trl.generation import vllm_generation
from trl.generation.vllm_client import VLLMClient

from ...checks.settings import check_waits
from ...config import DAPOConfig


logger = logging.getLogger(__name__)

PROBE_TIMEOUT = 30  # seconds that one question to the server may take
NEWS_SECONDS = 30  # between two messages that the server is still waited for

BAD_ANSWERS = (httpx.HTTPError, json.JSONDecodeError)  # if there is no server, or no proper answer

HINT = "`dapo-trl vllm-command --config <recipe>` prints a command that does all of it."


class ServerMismatchError(ValueError):
    """The server that answers does not fit the run."""


class UnreachableError(ConnectionError):
    """No server answers."""


@dataclass(frozen=True)
class Requirements:
    """What a run needs of its server."""

    model: str  # name or path of the model that is trained; empty if it has none
    dtype: str  # type the trainer computes with, such as "bfloat16"
    num_prompt_tokens: int  # of the longest prompt
    num_completion_tokens: int
    needs_processed_logprobs: bool
    gpus: tuple[str, ...]  # the trainer's on this machine


@functools.cache
def http() -> httpx.Client:
    """For questions: made once, because it reads certificates; without connections that a restart would break."""
    return httpx.Client(timeout=PROBE_TIMEOUT, limits=httpx.Limits(max_keepalive_connections=0))


def check_weight_transfer(args: DAPOConfig) -> None:
    """Refuses a run with a server that TRL's client could not send weights to, before anything is loaded."""
    if not (args.use_vllm and args.vllm_mode == "server"):
        return
    if args.use_cpu:  # `ddp_timeout` is ignored then
        check_waits(args, default_pg_timeout.total_seconds())
    # A client with a transfer of its own, in the place where TRL takes it from, has needs of its own.
    is_trls = vllm_generation.VLLMClient.init_communicator is VLLMClient.init_communicator
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


def wait_for_server(url: str, timeout: float) -> None:
    """Returns when the server answers, and logs while it does not; [`UnreachableError`] after `timeout` seconds."""
    deadline, next_news = time.monotonic() + timeout, time.monotonic()
    while True:
        try:
            response = http().get(f"{url}/health", timeout=min(PROBE_TIMEOUT, max(timeout, 1)))
            if response.is_success:
                return
            reason = f"/health answers {response.status_code}"
        except httpx.HTTPError as error:
            reason = type(error).__name__
        now = time.monotonic()
        if now >= deadline:
            raise UnreachableError(
                f"The vLLM server at {url} was not up after {timeout:g} seconds ({reason}). Start it, correct "
                "vllm_server_base_url (or vllm_server_host and vllm_server_port), or raise vllm_server_timeout. "
                f"{HINT}"
            )
        if now >= next_news:
            logger.warning(
                f"Waiting for the vLLM server at {url} ({reason}): {deadline - now:.0f} seconds are left of "
                "vllm_server_timeout."
            )
            next_news = now + NEWS_SECONDS
        time.sleep(min(2, timeout))


def check_server(url: str, needed: Requirements) -> None:
    """Raises [`ServerMismatchError`], naming everything that does not fit the run, and the flag that mends it."""
    served = http().get(f"{url}/v1/models").raise_for_status().json()["data"][0]
    problems = _model_problems(served, needed)
    response = http().get(f"{url}/server_info?config_format=json")
    if response.status_code == 404:
        problems.append(
            "It offers no endpoints for new weights. Start it with VLLM_SERVER_DEV_MODE=1 in its environment."
        )
    else:
        problems += _configuration_problems(url, response.raise_for_status().json(), needed)
    if problems:
        listed = "".join(f"\n- {problem}" for problem in problems)
        raise ServerMismatchError(f"The vLLM server at {url} does not fit this run:{listed}\n{HINT}")


def _model_problems(served: dict, needed: Requirements) -> list[str]:
    problems = []
    names = {served["id"], served.get("root") or served["id"]}
    # One model may lie in different directories on the server's machine and on the trainer's.
    if needed.model and Path(needed.model).name not in {Path(name).name for name in names}:
        problems.append(
            f"It serves {' alias '.join(sorted(names))!r}, but the run trains {needed.model!r}. Start it with "
            f"`vllm serve {needed.model}`; if it is the same model by another name, add `--served-model-name "
            f"{needed.model}`."
        )
    num_tokens = needed.num_prompt_tokens + needed.num_completion_tokens
    if served["max_model_len"] < num_tokens:
        problems.append(
            f"It takes at most {served['max_model_len']} tokens, but the longest prompt has "
            f"{needed.num_prompt_tokens} and max_completion_length is {needed.num_completion_tokens}. Start it with "
            f"`--max-model-len {num_tokens}` or more."
        )
    return problems


def _configuration_problems(url: str, info: dict, needed: Requirements) -> list[str]:
    problems, config = [], info["vllm_config"]
    dtype = config["model_config"]["dtype"].removeprefix("torch.")
    if dtype != needed.dtype:
        problems.append(
            f"It computes in {dtype}, but the trainer in {needed.dtype}. Start it with `--dtype {needed.dtype}`."
        )
    logprobs_mode = config["model_config"]["logprobs_mode"]
    if needed.needs_processed_logprobs and logprobs_mode != "processed_logprobs":
        problems.append(
            f"Its log-probabilities are {logprobs_mode!r}, not those that tokens were sampled with. Start it with "
            "`--logprobs-mode processed_logprobs`."
        )
    transfer = config["weight_transfer_config"]
    if transfer is None or (needed.gpus and transfer["backend"] != "nccl"):
        problems.append(
            f"Its weight transfer is {json.dumps(transfer)}. Start it with "
            """`--weight-transfer-config '{"backend": "nccl"}'`."""
        )
    if shared := _shared_gpus(url, info, needed.gpus):
        problems.append(
            f"It runs on GPU {', '.join(shared)}, which the trainer uses too. Set CUDA_VISIBLE_DEVICES to other GPUs "
            "for the server than for the trainer."
        )
    return problems


def _shared_gpus(url: str, info: dict, gpus: tuple[str, ...]) -> list[str]:
    config = info["vllm_config"]
    host = urlparse(url).hostname or ""
    is_local = host in ("localhost", "0.0.0.0", "::1", socket.gethostname()) or host.startswith("127.")
    if not gpus or config["device_config"]["device"] == "cpu" or not is_local:
        return []
    lines = dict(line.partition("=")[::2] for line in (info["system_env"].get("env_vars") or "").splitlines())
    parallel = config["parallel_config"]
    count = parallel["tensor_parallel_size"] * parallel["pipeline_parallel_size"] * parallel["data_parallel_size"]
    return sorted(set(visible_gpus(lines.get("CUDA_VISIBLE_DEVICES"), count)) & set(gpus))


def visible_gpus(visible: str | None, count: int) -> tuple[str, ...]:
    """The first `count` GPUs that a program sees with this `CUDA_VISIBLE_DEVICES`; None: all."""
    if visible is None:
        return tuple(str(i) for i in range(count))
    return tuple(gpu.strip() for gpu in visible.split(",") if gpu.strip())[:count]


def trainer_gpus(device_type: str, num_processes: int) -> tuple[str, ...]:
    if device_type != "cuda":
        return ()
    count = int(os.environ.get("LOCAL_WORLD_SIZE", num_processes))
    return visible_gpus(os.environ.get("CUDA_VISIBLE_DEVICES"), count)
