"""The LM head on a CPU in small tiles, because its temporary tensors would need more memory than the activations."""

import contextlib
from collections.abc import Iterator

import torch
from trl.kernels import chunked_logprob


CPU_TILE = 256
"""Tokens that the LM head takes at once on a CPU. TRL takes 4,096, as suits a GPU, whose kernel works in place."""


@contextlib.contextmanager
def small_tiles(device: torch.device) -> Iterator[None]:
    """
    Inside, TRL's fused LM head computes log-probabilities and their gradient for [`CPU_TILE`] tokens at a time.

    Off the GPU each tile has half a dozen temporary tensors of `(tokens, vocabulary)`. Results differ by rounding.

    Args:
        device (`torch.device`): of the model; other devices than a CPU are left alone.
    """
    if device.type != "cpu":
        yield
        return
    usual = chunked_logprob.TOKEN_CHUNK_SIZE
    chunked_logprob.TOKEN_CHUNK_SIZE = min(CPU_TILE, usual)
    try:
        yield
    finally:
        chunked_logprob.TOKEN_CHUNK_SIZE = usual
