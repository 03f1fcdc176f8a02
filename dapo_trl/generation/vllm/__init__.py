"""Generation by vLLM: checks before the start, faults of the server, adapters without drift."""

from .claim import ReleaseCallback, ServerInUseError
from .client import check_weight_transfer
from .command import format_command, longest_prompt, server_command
from .comparison import score_text, usual_difference
from .generation import Generation, ServerError, ServerSettings, generating_with, server_settings
from .preflight import Requirements, ServerMismatchError, UnreachableError, check_server, wait_for_server


__all__ = [
    "Generation",
    "ReleaseCallback",
    "Requirements",
    "ServerError",
    "ServerInUseError",
    "ServerMismatchError",
    "ServerSettings",
    "UnreachableError",
    "check_server",
    "check_weight_transfer",
    "format_command",
    "generating_with",
    "longest_prompt",
    "score_text",
    "server_command",
    "server_settings",
    "usual_difference",
    "wait_for_server",
]
