"""The command that starts the server of a recipe."""

import shlex
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlparse

from datasets import Dataset
from transformers import AutoConfig, PreTrainedTokenizerBase
from trl import ModelConfig
from trl.data_utils import is_conversational

from ...config import DAPOConfig


WEIGHT_TRANSFER = '{"backend": "nccl"}'
"""How the trainer sends weights to the server."""

THIS_MACHINE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Addresses that reach this machine, but make a server listen on every interface; and those that do not."""


def longest_prompt(datasets: Iterable[Any], processing_class: Any, template_kwargs: dict[str, Any] | None) -> int:
    """
    Tokens of the longest prompt, encoded as the trainer does.

    Args:
        datasets (iterable): training and evaluation data; what is no `Dataset` with prompts is passed over.
        processing_class (`PreTrainedTokenizerBase` or `ProcessorMixin`): the trainer's.
        template_kwargs (`dict`, *optional*): further arguments of the chat template.

    Returns:
        `int`: 0 without prompts.
    """
    tokenizer = getattr(processing_class, "tokenizer", processing_class)
    longest = 0
    for dataset in datasets:
        if not isinstance(dataset, Dataset) or "prompt" not in dataset.column_names:
            continue
        for batch in dataset.select_columns("prompt").iter(1000):
            ids = encode(batch["prompt"], tokenizer, template_kwargs or {})
            longest = max(longest, *map(len, ids))
    return longest


def encode(prompts: list, tokenizer: PreTrainedTokenizerBase, template_kwargs: dict[str, Any]) -> list[list[int]]:
    """Token ids of prompts, as the trainer has them: texts, or messages through the chat template."""
    if not is_conversational({"prompt": prompts[0]}):
        return tokenizer(text=prompts)["input_ids"]
    return tokenizer.apply_chat_template(
        prompts, add_generation_prompt=True, tokenize=True, return_dict=True, **template_kwargs
    )["input_ids"]


def computing_dtype(args: DAPOConfig, model_dtype: str) -> str:
    """
    Type of the numbers the trainer computes log-probabilities with, which the server should use too.

    Args:
        args (`DAPOConfig`): whether training is in mixed precision.
        model_dtype (`str`): type of the weights, such as `"float32"`.
    """
    if args.bf16:
        return "bfloat16"
    return "float16" if args.fp16 else model_dtype


def server_command(
    args: DAPOConfig, model_args: ModelConfig, num_prompt_tokens: int, data_parallel_size: int
) -> list[str]:
    """
    The words of the command that starts the server of a recipe, its environment first.

    Args:
        args (`DAPOConfig`): the recipe.
        model_args (`ModelConfig`): its model.
        num_prompt_tokens (`int`): tokens of the longest prompt; does not matter with `vllm_max_model_length`.
        data_parallel_size (`int`): copies of the model, each on `vllm_tensor_parallel_size` GPUs.

    Returns:
        `list[str]`.
    """
    host, port = address(args)
    options = {
        "--dtype": computing_dtype(args, _dtype_of_weights(args, model_args)),
        "--max-model-len": args.vllm_max_model_length or num_prompt_tokens + args.max_completion_length,
        "--tensor-parallel-size": args.vllm_tensor_parallel_size,
        "--data-parallel-size": data_parallel_size,
        "--logprobs-mode": "processed_logprobs",
        "--max-logprobs": -1,
        "--weight-transfer-config": WEIGHT_TRANSFER,
        "--host": host,
        "--port": port,
    }
    if model_args.model_revision not in (None, "main"):
        options["--revision"] = model_args.model_revision
    if args.vllm_model_impl != "vllm":
        options["--model-impl"] = args.vllm_model_impl
    words = [str(word) for option in options.items() for word in option]
    trusting = ["--trust-remote-code"] if args.trust_remote_code else []
    return ["VLLM_SERVER_DEV_MODE=1", "vllm", "serve", model_args.model_name_or_path, *words, *trusting]


def format_command(words: Sequence[str]) -> str:
    """A command to paste into a shell, one option a line; a variable assignment comes first."""
    lines = [" ".join([words[0], *map(shlex.quote, words[1:4])])]
    for word in words[4:]:
        if word.startswith("--"):
            lines.append(word)
        else:
            lines[-1] += f" {shlex.quote(word)}"
    return " \\\n    ".join(lines)


def address(args: DAPOConfig) -> tuple[str, int]:
    """
    Host and port to listen on, so that the trainer finds the server.

    Its endpoints take weights from anyone: for a trainer on the same machine it listens on no other interface.
    """
    host, port = args.vllm_server_host, args.vllm_server_port
    if args.vllm_server_base_url is not None:
        url = urlparse(args.vllm_server_base_url)
        host, port = url.hostname, url.port or (443 if url.scheme == "https" else 80)
    return THIS_MACHINE.get(host, host), port


def _dtype_of_weights(args: DAPOConfig, model_args: ModelConfig) -> str:
    """Type that the trainer loads the model in: float32 unless the recipe says otherwise."""
    dtype = (args.model_init_kwargs or {}).get("dtype", model_args.dtype)
    if dtype == "auto":
        config = AutoConfig.from_pretrained(
            model_args.model_name_or_path,
            revision=model_args.model_revision,
            trust_remote_code=args.trust_remote_code,
        )
        dtype = config.dtype
    return str(dtype or "float32").removeprefix("torch.")
