"""What samples completions: Transformers, vLLM in this process, or a server."""

from collections.abc import Callable, Sequence
from functools import partial

from transformers import PreTrainedTokenizerBase

from ..completions import Request, Save
from ..config import EvaluateConfig
from ..model import ModelFiles
from .server import sample_from_server
from .transformers import TransformersSampler
from .vllm import sample_with_vllm


Sampler = Callable[[Sequence[Request], Save], None]
"""Samples a completion for every request, in any order, and hands each to `save` as soon as it is there."""


def make_sampler(
    config: EvaluateConfig, files: ModelFiles | None, tokenizer: PreTrainedTokenizerBase | None
) -> Sampler:
    """What samples by the backend that the settings name. A server needs neither files nor a tokenizer."""
    if config.backend == "server":
        return partial(sample_from_server, config)
    assert files is not None and tokenizer is not None  # found for every backend that needs them
    if config.backend == "vllm":
        return partial(sample_with_vllm, config, files, tokenizer.name_or_path)
    return TransformersSampler(config, files, tokenizer).sample
