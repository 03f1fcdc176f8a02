"""How vLLM's client takes weights: it holds views of what it is handed, and copies when enough is collected."""

from collections.abc import Iterable

import torch


BUFFER_SIZE = 1024**3
"""Bytes that vLLM collects before it copies; all weights of a tiny model."""


def receive_packed(
    metadata: list[tuple[str, str, list[int]]],
    named_params: Iterable[tuple[str, torch.Tensor]],
    buffer_size: int = BUFFER_SIZE,
) -> dict[str, torch.Tensor]:
    """
    What arrives at a server.

    As vLLM's `pack_tensors` does (`tests/real_vllm` compares the two), so that a value that changes after it was
    handed out arrives changed; and as in vLLM's `unpack_tensor`, names, types and shapes are those announced.

    Args:
        metadata (`list[tuple[str, str, list[int]]]`): name, type and shape of each weight.
        named_params (`Iterable[tuple[str, torch.Tensor]]`): name and value of each.
        buffer_size (`int`): bytes that are collected.
    """
    packed, views, size = [], [], 0
    for _, value in named_params:
        views.append(value.detach().contiguous().view(torch.uint8).view(-1))
        size += views[-1].numel()
        if size > buffer_size:
            packed.append(torch.cat(views))
            views, size = [], 0
    received, content = {}, torch.cat([*packed, *views])
    for name, dtype, shape in metadata:
        kind = getattr(torch, dtype)
        num_bytes = torch.Size(shape).numel() * kind.itemsize
        received[name] = content[:num_bytes].clone().view(kind).view(shape)
        content = content[num_bytes:]
    assert not content.numel()
    return received
