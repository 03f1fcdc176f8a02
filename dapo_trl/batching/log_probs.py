"""Log-probabilities of a whole rollout, without computing on needless padding."""

import contextlib
from collections.abc import Callable, Iterator

import torch
from trl.kernels import chunked_logprob

from .micro_batches import Lengths, partition_balanced


CPU_CHUNK = 256
"""Tokens that the LM head takes at once on a CPU. TRL takes 4,096, as suits a GPU, whose kernel works in place."""


def score_in_chunks(
    score: Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor],
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    num_completion_columns: int,
    num_chunks: int,
) -> torch.Tensor:
    """
    Scores the tokens of completions in chunks of nearly equal cost, each as wide as its own longest row.

    Takes prompts padded left and completions padded right, `(B, P + T)`, T being `num_completion_columns`; `score`
    takes ids and mask of a chunk and its number T' of completion columns and returns `(B', T')`. Returns `(B, T)`, 0
    for padding that was trimmed.
    """
    num_prompt_columns = input_ids.size(1) - num_completion_columns
    prompts = attention_mask[:, :num_prompt_columns].sum(dim=1)
    completions = attention_mask[:, num_prompt_columns:].sum(dim=1).clamp(min=1)
    lengths = [Lengths(*row) for row in zip(prompts.tolist(), completions.tolist(), strict=True)]
    scores = None
    for rows in partition_balanced(lengths, num_processes=1, num_micro_batches=num_chunks)[0]:
        positions, longest = _positions([lengths[row] for row in rows])
        positions, row = positions.to(input_ids.device), torch.tensor(rows, device=input_ids.device).unsqueeze(1)
        columns = num_prompt_columns + positions
        of_chunk = score(input_ids[row, columns], attention_mask[row, columns], longest)
        if scores is None:
            scores = of_chunk.new_zeros(len(lengths), num_completion_columns)
        scored = positions[:, -longest:]
        is_completion = scored >= 0
        scores[row.expand_as(scored)[is_completion], scored[is_completion]] = of_chunk[is_completion]
    assert scores is not None  # there are rows
    return scores


def _positions(lengths: list[Lengths]) -> tuple[torch.Tensor, int]:
    """
    Which tokens of each row make a chunk, counted from the first of the completion, `(B', P' + T')`; and T'.

    As in [`pad_rows`]: the longest completion has T' columns, prompts have what it leaves of the longest row, and a
    prompt that needs more begins in the same column but pushes its completion to the right.
    """
    width, longest = max(map(sum, lengths)), max(length.completion for length in lengths)
    num_pushed = [max(0, length.prompt - (width - longest)) for length in lengths]
    return torch.arange(longest - width, longest) - torch.tensor(num_pushed).unsqueeze(1), longest


@contextlib.contextmanager
def small_lm_head_chunks(device: torch.device) -> Iterator[None]:
    """
    Inside, on a CPU, TRL's fused LM head takes [`CPU_CHUNK`] tokens at once, in both directions: off the GPU each
    chunk has half a dozen temporary tensors of `(tokens, vocabulary)`. Results differ by rounding.
    """
    usual = chunked_logprob.TOKEN_CHUNK_SIZE
    if device.type == "cpu":
        chunked_logprob.TOKEN_CHUNK_SIZE = min(CPU_CHUNK, usual)
    try:
        yield
    finally:
        chunked_logprob.TOKEN_CHUNK_SIZE = usual
