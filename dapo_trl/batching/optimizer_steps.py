"""Which rows of a rollout form which optimizer step, and what its summed token losses are divided by."""

import torch


def assign_rows(num_rows: int, num_steps: int, seed: int) -> list[list[int]]:
    """A seeded permutation of the rows, split into equal optimizer steps; the first ones get the odd rows."""
    if num_rows < num_steps:
        raise ValueError(f"{num_rows} rows cannot fill {num_steps} optimizer steps: every step needs a row.")
    permutation = torch.randperm(num_rows, generator=torch.Generator().manual_seed(seed))
    return [rows.tolist() for rows in permutation.tensor_split(num_steps)]


def step_denominators(
    steps: list[list[int]], trained_tokens: list[int], token_normalization: str, num_groups: int
) -> list[float]:
    r"""
    Denominator of each optimizer step's summed token losses, from the rows of each step and their trained tokens.

    `"step"` (DAPO Eq. 12, https://huggingface.co/papers/2503.14476): the trained tokens of the step, so that every
    token of the step weighs the same.

    $$ \mathcal{L} = \frac{1}{\sum_i |o_i|} \sum_i \sum_t \ell_{i,t} $$

    `"group"` (Eq. 8 read literally): rows are weighted by [`group_weights`] and a step divides by its share of the
    rollout's groups, so that the mean over the steps is the mean over the groups.
    """
    if token_normalization == "group":
        return [num_groups / len(steps)] * len(steps)
    return [float(max(1, sum(trained_tokens[row] for row in rows))) for rows in steps]


def group_weights(trained_tokens: torch.Tensor, num_generations: int) -> torch.Tensor:
    """`(P * G,)`: weights of Eq. 8 read literally, one over the trained tokens of a row's group (0 if none)."""
    group_tokens = trained_tokens.view(-1, num_generations).sum(dim=1)
    weights = torch.where(group_tokens > 0, 1 / group_tokens.clamp(min=1).float(), 0.0)
    return weights.repeat_interleave(num_generations)
