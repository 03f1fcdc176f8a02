"""Does the server fit the run? Asked before the first generation, and whenever the server may be another one."""

import json
import logging
import os
import re
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import requests


logger = logging.getLogger(__name__)

PROBE_TIMEOUT = 30
"""Seconds that one question to the server may take."""

GLANCE_TIMEOUT = 5
"""The same where the server need not be up yet."""

NEWS_SECONDS = 30
"""Seconds between two messages that the server is still waited for."""

NO_ENDPOINTS = (
    "It does not offer the endpoints that take new weights. Start it with VLLM_SERVER_DEV_MODE=1 in its environment."
)

HINT = "`dapo-trl vllm-command --config <recipe>` prints a command that does all of it."


class ServerMismatchError(ValueError):
    """The server that answers does not fit the run."""


class UnreachableError(ConnectionError):
    """No server answers."""


@dataclass(frozen=True)
class Requirements:
    """
    What a run needs of its server.

    Args:
        model (`str`): name or path of the model that is trained; empty if it has none.
        vocab_size (`int`): tokens that the trainer's model knows.
        dtype (`str`): type the trainer computes with, such as `"bfloat16"`.
        num_prompt_tokens (`int`): tokens of the longest prompt.
        num_completion_tokens (`int`): `max_completion_length`.
        needs_processed_logprobs (`bool`): sampling log-probabilities are used.
        gpus (`tuple[str]`): the trainer's GPUs on this machine; empty without any.
    """

    model: str
    vocab_size: int
    dtype: str
    num_prompt_tokens: int
    num_completion_tokens: int
    needs_processed_logprobs: bool
    gpus: tuple[str, ...]


def wait_for_server(url: str, timeout: float) -> None:
    """
    Returns when the server answers. While it does not, the log says so every [`NEWS_SECONDS`].

    Args:
        url (`str`): where it is.
        timeout (`float`): seconds to wait for it.

    Raises:
        UnreachableError: if it does not answer in time.
    """
    deadline, next_news = time.monotonic() + timeout, time.monotonic()
    while True:
        try:
            response = requests.get(f"{url}/health", timeout=min(PROBE_TIMEOUT, max(timeout, 1)))
            if response.ok:
                return
            reason = f"/health answers {response.status_code}"
        except requests.RequestException as error:
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


def check_server(url: str, requirements: Requirements) -> None:
    """
    Fails if the server does not fit the run.

    Raises:
        ServerMismatchError: naming everything that is wrong, and the flag that mends it.
    """
    _refuse(url, find_problems(url, requirements))


def check_running_server(url: str) -> None:
    """
    Fails if a server that is up takes no weights, which can be told before the run has loaded anything.

    Raises:
        ServerMismatchError: as [`check_server`], which asks for everything else later.
    """
    try:
        response = requests.get(f"{url}/server_info", params={"config_format": "json"}, timeout=GLANCE_TIMEOUT)
        if response.status_code == 404 and requests.get(f"{url}/health", timeout=GLANCE_TIMEOUT).ok:
            _refuse(url, [NO_ENDPOINTS])
        if response.ok and response.json()["vllm_config"]["weight_transfer_config"] is None:
            _refuse(url, [_transfer_problem(None)])
    except requests.RequestException:
        return  # it is waited for when the run needs it


def _refuse(url: str, problems: list[str]) -> None:
    if problems:
        listed = "".join(f"\n- {problem}" for problem in problems)
        raise ServerMismatchError(f"The vLLM server at {url} does not fit this run:{listed}\n{HINT}")


def find_problems(url: str, requirements: Requirements) -> list[str]:
    """One sentence or two for each thing that is wrong."""
    served = _get(url, "/v1/models")["data"][0]
    problems = [_name_problem(served, requirements), _length_problem(served["max_model_len"], requirements)]
    problems.append(_vocabulary_problem(url, served["id"], requirements))
    response = requests.get(f"{url}/server_info", params={"config_format": "json"}, timeout=PROBE_TIMEOUT)
    if response.status_code == 404:
        problems.append(NO_ENDPOINTS)
    else:
        response.raise_for_status()
        problems += _configuration_problems(url, response.json(), requirements)
    return [problem for problem in problems if problem]


def _get(url: str, path: str) -> Any:
    response = requests.get(url + path, timeout=PROBE_TIMEOUT)
    response.raise_for_status()
    return response.json()


def _name_problem(served: dict, requirements: Requirements) -> str | None:
    names = {served["id"], served.get("root") or served["id"]}
    wanted = requirements.model
    # One model may lie in different directories on the server's machine and on the trainer's.
    if not wanted or wanted in names or Path(wanted).name in {Path(name).name for name in names}:
        return None
    return (
        f"It serves {' alias '.join(sorted(names))!r}, but the run trains {wanted!r}. Start it with `vllm serve "
        f"{wanted}`; if it is the same model by another name, add `--served-model-name {wanted}`."
    )


def _length_problem(max_model_len: int, requirements: Requirements) -> str | None:
    needed = requirements.num_prompt_tokens + requirements.num_completion_tokens
    if max_model_len >= needed:
        return None
    return (
        f"It takes at most {max_model_len} tokens, but the longest prompt has {requirements.num_prompt_tokens} and "
        f"max_completion_length is {requirements.num_completion_tokens}. Start it with `--max-model-len {needed}` or "
        "more."
    )


def _vocabulary_problem(url: str, model: str, requirements: Requirements) -> str | None:
    size = _vocabulary_size(url, model)
    if size is None or size == requirements.vocab_size:
        return None
    return (
        f"Its model has a vocabulary of {size} tokens, but the trainer's has {requirements.vocab_size}. Start it with "
        f"`vllm serve {requirements.model or '<the model of the run>'}`, the very files that the trainer loads."
    )


def _vocabulary_size(url: str, model: str) -> int | None:
    """
    The size, which no endpoint tells: it stands in the refusal of a token far outside. None if it does not.

    Nothing is generated, because a server in the middle of a weight transfer would not survive it.
    """
    request = {"model": model, "prompt": [[0]], "max_tokens": 1, "logit_bias": {str(10**9): 0}}
    response = requests.post(f"{url}/v1/completions", json=request, timeout=PROBE_TIMEOUT)
    size = re.search(r"[Vv]ocabulary size: (\d+)", response.text)
    return int(size.group(1)) if response.status_code == 400 and size else None


def _configuration_problems(url: str, info: dict, requirements: Requirements) -> list[str | None]:
    config = info["vllm_config"]
    transfer = config["weight_transfer_config"]
    dtype = config["model_config"]["dtype"].removeprefix("torch.")
    logprobs_mode = config["model_config"]["logprobs_mode"]
    problems = []
    if dtype != requirements.dtype:
        problems.append(
            f"It computes in {dtype}, but the trainer in {requirements.dtype}. Start it with `--dtype "
            f"{requirements.dtype}`."
        )
    if requirements.needs_processed_logprobs and logprobs_mode != "processed_logprobs":
        problems.append(
            f"Its log-probabilities are {logprobs_mode!r}, not those that tokens were sampled with. Start it with "
            "`--logprobs-mode processed_logprobs`."
        )
    if transfer is None or (requirements.gpus and transfer["backend"] != "nccl"):
        problems.append(_transfer_problem(transfer))
    problems.append(_gpu_problem(url, info, requirements))
    return problems


def _transfer_problem(transfer: dict | None) -> str:
    return (
        f"Its weight transfer is {json.dumps(transfer)}. Start it with "
        """`--weight-transfer-config '{"backend": "nccl"}'`."""
    )


def _gpu_problem(url: str, info: dict, requirements: Requirements) -> str | None:
    """On this machine, the trainer and the server need GPUs of their own."""
    if not requirements.gpus or info["vllm_config"]["device_config"]["device"] == "cpu" or not is_local(url):
        return None
    lines = dict(line.partition("=")[::2] for line in (info["system_env"].get("env_vars") or "").splitlines())
    parallel = info["vllm_config"]["parallel_config"]
    count = parallel["tensor_parallel_size"] * parallel["pipeline_parallel_size"] * parallel["data_parallel_size"]
    shared = sorted(set(visible_gpus(lines.get("CUDA_VISIBLE_DEVICES"), count)) & set(requirements.gpus))
    if not shared:
        return None
    return (
        f"It runs on GPU {', '.join(shared)}, which the trainer uses too. Set CUDA_VISIBLE_DEVICES to other GPUs for "
        "the server than for the trainer."
    )


def visible_gpus(visible: str | None, count: int) -> tuple[str, ...]:
    """
    The first GPUs that a program sees.

    Args:
        visible (`str`, *optional*): its `CUDA_VISIBLE_DEVICES`; None: all.
        count (`int`): how many it uses.
    """
    if visible is None:
        return tuple(str(i) for i in range(count))
    return tuple(gpu.strip() for gpu in visible.split(",") if gpu.strip())[:count]


def trainer_gpus(device_type: str, num_processes: int) -> tuple[str, ...]:
    """GPUs of the trainer on this machine."""
    if device_type != "cuda":
        return ()
    count = int(os.environ.get("LOCAL_WORLD_SIZE", num_processes))
    return visible_gpus(os.environ.get("CUDA_VISIBLE_DEVICES"), count)


def is_local(url: str) -> bool:
    """Whether the server runs on this machine."""
    host = urlparse(url).hostname or ""
    return host in ("localhost", "0.0.0.0", "::1", socket.gethostname()) or host.startswith("127.")
