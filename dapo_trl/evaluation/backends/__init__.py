"""What samples completions: Transformers, vLLM in this process, or a server."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from ..completions import Request, Save
from ..config import EvaluateConfig
from ..model import ModelFiles
from .server import sample_from_server
from .transformers import TransformersSampler
from .vllm import sample_with_vllm


def sample(
    config: EvaluateConfig,
    files: ModelFiles | None,
    tokenizer: PreTrainedTokenizerBase | None,
    requests: Sequence[Request],
    save: Save,
) -> None:
    """Samples a completion for every request, in any order, and hands each to `save` as soon as it is there."""
    if config.backend == "server":
        sample_from_server(config, requests, save)
        return
    assert files is not None and tokenizer is not None  # found for every backend that needs them
    if config.backend == "vllm":
        sample_with_vllm(config, files, tokenizer.name_or_path, requests, save)
    else:
        TransformersSampler(config, files, tokenizer).sample(requests, save)
