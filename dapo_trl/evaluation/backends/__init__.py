"""What samples completions: Transformers, vLLM in this process, or a server."""

from collections.abc import Sequence
from typing import Protocol

from ..completions import Request, Save
from ..config import EvaluateConfig
from ..model import ModelFiles
from ..prompts import PromptEncoder
from .server import ServerBackend
from .transformers import TransformersBackend
from .vllm import VLLMBackend


class Backend(Protocol):
    """Anything that samples completions."""

    def sample(self, requests: Sequence[Request], save: Save) -> None:
        """Samples a completion for every request, in any order, and hands each over as soon as it is there."""


def make_backend(config: EvaluateConfig, files: ModelFiles | None, encoder: PromptEncoder | None) -> Backend:
    """The backend that the settings name. A server needs no files, and a server's chat no encoder."""
    if config.backend == "server":
        return ServerBackend(config, encoder)
    assert files is not None and encoder is not None  # what the other backends are prepared with
    return (VLLMBackend if config.backend == "vllm" else TransformersBackend)(config, files, encoder)


__all__ = ["Backend", "ServerBackend", "TransformersBackend", "VLLMBackend", "make_backend"]
