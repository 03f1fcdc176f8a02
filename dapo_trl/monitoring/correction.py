"""How often the correction of the difference between vLLM and the trainer bites."""

import torch


def count_corrected(
    scored: dict[str, torch.Tensor], is_trained: torch.Tensor, mode: str, lower: float | None, upper: float | None
) -> torch.Tensor:
    r"""
    Trained tokens whose importance ratio was truncated or masked.

    The ratio is $\pi_{\mathrm{trainer}} / \pi_{\mathrm{vLLM}}$ of a token, or in the modes `sequence_*` its product
    over the sequence.

    Args:
        scored (`dict[str, torch.Tensor]`): holds `old_per_token_logps` and `sampling_per_token_logps`, of shape
            `(B, T)`, in nats; NaN where vLLM did not tell.
        is_trained (`torch.Tensor` of shape `(B, T)`): bool.
        mode (`str`): `vllm_importance_sampling_mode`.
        lower, upper (`float`, *optional*): bounds of the ratio; None: unbounded.

    Returns:
        `torch.Tensor` of shape `(2,)`: tokens whose ratio was out of bounds, and all trained tokens.
    """
    difference = scored["old_per_token_logps"] - scored["sampling_per_token_logps"]
    difference = (difference * is_trained).nan_to_num(nan=0.0)
    if mode.startswith("sequence"):
        difference = difference.sum(dim=1, keepdim=True).expand_as(difference)
    ratio = difference.exp()
    is_out = torch.zeros_like(is_trained)
    if lower is not None:
        is_out |= ratio < lower
    if upper is not None:
        is_out |= ratio > upper
    return torch.stack([(is_out & is_trained).sum(), is_trained.sum()])
