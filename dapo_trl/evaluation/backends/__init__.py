"""What samples completions: Transformers, vLLM in this process, or a server."""

from ..config import EvaluateConfig
from ..model import ModelFiles
from ..samples import Backend
from .prompts import PromptEncoder, check_length
from .server import ServerBackend
from .transformers import TransformersBackend
from .vllm import VLLMBackend


def make_backend(config: EvaluateConfig, files: ModelFiles | None, encoder: PromptEncoder | None) -> Backend:
    """
    The backend that the settings name.

    Args:
        config ([`EvaluateConfig`]): the settings.
        files ([`ModelFiles`], *optional*): the model's files; a server needs none.
        encoder ([`PromptEncoder`], *optional*): makes tokens of prompts; not needed for a server's chat.
    """
    if config.backend == "server":
        return ServerBackend(config, encoder)
    backends = {"transformers": TransformersBackend, "vllm": VLLMBackend}
    return backends[config.backend](config, files, encoder)


__all__ = ["PromptEncoder", "ServerBackend", "TransformersBackend", "VLLMBackend", "check_length", "make_backend"]
