"""The command that starts the server of a recipe."""

import shlex
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlparse

from datasets import Dataset
from transformers import AutoConfig
from trl import ModelConfig

from ...config import DAPOConfig
from ...data.tokens import prompt_ids


# Addresses that reach this machine, but make a server listen on every interface; and those that do not.
THIS_MACHINE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def longest_prompt(datasets: Iterable[Any], processing_class: Any, template_kwargs: dict[str, Any] | None) -> int:
    """Tokens of the longest prompt, encoded as the trainer does; 0 without prompts."""
    tokenizer = getattr(processing_class, "tokenizer", processing_class)
    longest = 0
    for dataset in datasets:
        if isinstance(dataset, Dataset) and "prompt" in dataset.column_names:
            for batch in dataset.select_columns("prompt").iter(1000):
                longest = max(longest, *map(len, prompt_ids(batch["prompt"], tokenizer, template_kwargs)))
    return longest


def server_command(
    args: DAPOConfig, model_args: ModelConfig, num_prompt_tokens: int, data_parallel_size: int
) -> list[str]:
    """The words of a recipe's command, its environment first; prompts do not matter with `vllm_max_model_length`."""
    host, port = address(args)
    options = {
        "--dtype": _computing_dtype(args, model_args),
        "--max-model-len": args.vllm_max_model_length or num_prompt_tokens + (args.max_completion_length or 0),
        "--tensor-parallel-size": args.vllm_tensor_parallel_size,
        "--data-parallel-size": data_parallel_size,
        "--logprobs-mode": "processed_logprobs",
        "--max-logprobs": -1,
        "--weight-transfer-config": '{"backend": "nccl"}',
        "--host": host,
        "--port": port,
    }
    if model_args.model_revision not in (None, "main"):
        options["--revision"] = model_args.model_revision
    if args.vllm_model_impl != "vllm":
        options["--model-impl"] = args.vllm_model_impl
    words = [str(word) for option in options.items() for word in option]
    trusting = ["--trust-remote-code"] if args.trust_remote_code else []
    return ["VLLM_SERVER_DEV_MODE=1", "vllm", "serve", str(model_args.model_name_or_path), *words, *trusting]


def format_command(words: Sequence[str]) -> str:
    """A command to paste into a shell, one option a line."""
    return shlex.join(words).replace(" --", " \\\n    --")


def address(args: DAPOConfig) -> tuple[str, int]:
    """Host and port to listen on: of this machine only, if the trainer runs on it, since anyone may send weights."""
    host, port = args.vllm_server_host, args.vllm_server_port
    if args.vllm_server_base_url is not None:
        url = urlparse(args.vllm_server_base_url)
        host, port = url.hostname or "", url.port or (443 if url.scheme == "https" else 80)
    return THIS_MACHINE.get(host, host), port


def _computing_dtype(args: DAPOConfig, model_args: ModelConfig) -> str:
    """The type of mixed precision, or of the trainer's weights: float32 unless the recipe says otherwise."""
    if args.bf16:
        return "bfloat16"
    if args.fp16:
        return "float16"
    assert not isinstance(args.model_init_kwargs, str)  # DAPOConfig reads it
    dtype = (args.model_init_kwargs or {}).get("dtype", model_args.dtype)
    if dtype == "auto":
        dtype = AutoConfig.from_pretrained(
            str(model_args.model_name_or_path),
            revision=model_args.model_revision,
            trust_remote_code=args.trust_remote_code,
        ).dtype
    return str(dtype or "float32").removeprefix("torch.")
