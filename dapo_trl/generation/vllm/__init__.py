"""Generation by vLLM: checks before the start, faults of the server, adapters without drift."""

from .claim import ReleaseCallback, ServerInUseError
from .command import format_command, longest_prompt, server_command
from .comparison import score_text, usual_difference
from .generation import Generation, ServerError, generating_with
from .preflight import ServerMismatchError, UnreachableError, check_weight_transfer


__all__ = [
    "Generation",
    "ReleaseCallback",
    "ServerError",
    "ServerInUseError",
    "ServerMismatchError",
    "UnreachableError",
    "check_weight_transfer",
    "format_command",
    "generating_with",
    "longest_prompt",
    "score_text",
    "server_command",
    "usual_difference",
]
