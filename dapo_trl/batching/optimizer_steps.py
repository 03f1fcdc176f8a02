"""Which rows of a rollout form which optimizer step."""

import torch


def assign_rows(num_rows: int, num_steps: int, seed: int) -> list[list[int]]:
    """
    A seeded permutation of the rows, cut into optimizer steps of equal size; the first ones get the odd rows.

    The rows are numbered in draw order, so the deal is the same for any number of processes and micro-batches.

    Args:
        num_rows (`int`): rows of the rollout, on all processes.
        num_steps (`int`): optimizer steps of one pass over the rollout.
        seed (`int`): seed of the permutation.

    Returns:
        `list[list[int]]`: row numbers of each step.

    Raises:
        ValueError: if there are fewer rows than steps.
    """
    if num_rows < num_steps:
        raise ValueError(f"{num_rows} rows cannot fill {num_steps} optimizer steps: every step needs a row.")
    permutation = torch.randperm(num_rows, generator=torch.Generator().manual_seed(seed))
    return [rows.tolist() for rows in permutation.tensor_split(num_steps)]
