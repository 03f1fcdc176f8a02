"""Settings that work, but probably not as meant."""

import warnings
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from .config import DAPOConfig


LONG_COMPLETION = 1024
"""Tokens from which correcting the sampler's mismatch by whole sequences masks a sizeable share of them."""


def warn_about(config: "DAPOConfig") -> None:
    """
    Warns of a checked configuration's oddities.

    Args:
        config (`DAPOConfig`): the configuration, at the end of its `__post_init__`.
    """
    if config.updates_per_rollout * config.num_iterations == 1 and config.epsilon_high != config.epsilon:
        _warn_user(
            f"Clip-higher (epsilon_high={config.epsilon_high}) has no effect: with one optimizer step per rollout "
            "the policy that trains is the one that generated, and every ratio is 1. Raise updates_per_rollout "
            "(16 in the paper)."
        )
    if config.mask_truncated_completions and config.soft_punish_cache is not None:
        _warn_user(
            "mask_truncated_completions=True takes truncated completions out of the loss, so that the largest "
            f"punishment of soft_punish_cache={config.soft_punish_cache} never trains them. The paper's best runs "
            "use the soft punishment alone: set mask_truncated_completions to false."
        )
    is_by_sequence = config.vllm_importance_sampling_mode.startswith("sequence")
    is_corrected = config.use_vllm and config.vllm_importance_sampling_correction
    if is_corrected and is_by_sequence and config.max_completion_length >= LONG_COMPLETION:
        _warn_user(
            f"vllm_importance_sampling_mode={config.vllm_importance_sampling_mode!r} with "
            f"max_completion_length={config.max_completion_length}: the ratio of a whole sequence leaves its "
            "bounds from the rounding of many tokens alone, so that long completions are masked or truncated. "
            "Set vllm_importance_sampling_mode to 'token_truncate' and vllm_importance_sampling_clip_max to 2."
        )
    if config.balance_micro_batches and config.gradient_accumulation_steps == 1:
        _warn_user(
            "balance_micro_batches=True with gradient_accumulation_steps=1: an optimizer step is one micro-batch, "
            "so there is nothing to balance; micro-batches are only trimmed to their longest row. Lower "
            "per_device_train_batch_size and raise gradient_accumulation_steps to save padding."
        )


def _warn_user(message: str) -> None:
    # 5: this function, `warn_about`, `__post_init__`, the generated `__init__`, and the caller.
    warnings.warn(message, UserWarning, stacklevel=5)
