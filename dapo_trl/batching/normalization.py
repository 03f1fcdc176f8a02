"""What the summed token losses of an optimizer step are divided by (DAPO Sec. 3.3)."""

import torch


def step_denominators(
    steps: list[list[int]], trained_tokens: list[int], token_normalization: str, num_groups: int
) -> list[float]:
    r"""
    Denominator of each optimizer step's summed token losses.

    `"step"` (DAPO Eq. 12, https://huggingface.co/papers/2503.14476): the trained tokens of the step, so that every
    token of the step weighs the same.

    $$ \mathcal{L} = \frac{1}{\sum_i |o_i|} \sum_i \sum_t \ell_{i,t} $$

    `"group"` (Eq. 8 read literally): rows are weighted by [`group_weights`] and a step divides by its share of the
    rollout's groups, so that the mean over the steps is the mean over the groups.

    Args:
        steps (`list[list[int]]`): rows of each optimizer step, on all processes.
        trained_tokens (`list[int]`): tokens of each row that enter the loss.
        token_normalization (`str`): `"step"` or `"group"`.
        num_groups (`int`): groups in the rollout.

    Returns:
        `list[float]`: one denominator per step, at least one token for `"step"`.
    """
    if token_normalization == "group":
        return [num_groups / len(steps)] * len(steps)
    return [float(max(1, sum(trained_tokens[row] for row in rows))) for rows in steps]


def group_weights(trained_tokens: torch.Tensor, num_generations: int) -> torch.Tensor:
    r"""
    Weight of each row under Eq. 8 read literally: one over the trained tokens of its whole group.

    Args:
        trained_tokens (`torch.Tensor` of shape `(P * G,)`): tokens of each row that enter the loss, groups contiguous.
        num_generations (`int`): G.

    Returns:
        `torch.Tensor` of shape `(P * G,)`, float32; 0 for a group without trained tokens.
    """
    group_tokens = trained_tokens.view(-1, num_generations).sum(dim=1)
    weights = torch.where(group_tokens > 0, 1 / group_tokens.clamp(min=1).float(), 0.0)
    return weights.repeat_interleave(num_generations)
