"""Settings that cannot be combined, and settings that work, but probably not as meant."""

import warnings
from typing import TYPE_CHECKING
from urllib.parse import urlparse


if TYPE_CHECKING:
    from .config import DAPOConfig


OWN_LOSS_TYPES = ("dapo", "cispo", "grpo", "dr_grpo")
"""Losses whose micro-batches this project knows how to cut without changing the gradient."""

TOKEN_LOSS_TYPES = ("dapo", "cispo")
"""Losses that sum over tokens and divide by a count of them."""

LONG_COMPLETION = 1024
"""Tokens from which correcting the sampler's mismatch by whole sequences masks a sizeable share of them."""

LATE_ANSWERS = 60
"""Seconds that the main process may need, beside the time it waits for the server, to find the server gone."""


def check_combinations(config: "DAPOConfig") -> None:
    """
    Refuses what cannot be combined, because the gradient would not be the one asked for.

    Args:
        config (`DAPOConfig`): the configuration, at the end of its `__post_init__`.

    Raises:
        ValueError: the message says what to change.
    """
    own = [name for name in ("dynamic_sampling", "balance_micro_batches") if getattr(config, name)]
    if own and config.loss_type not in OWN_LOSS_TYPES:
        raise ValueError(
            f"loss_type={config.loss_type!r} cannot be combined with {' and '.join(own)}: only "
            f"{list(OWN_LOSS_TYPES)} can. Change loss_type, or set {' and '.join(own)} to false."
        )
    if config.token_normalization == "group" and config.beta != 0:
        raise ValueError(
            f"token_normalization='group' cannot be combined with beta={config.beta}: its weights ride on the "
            "advantages and would not reach the KL term. Set beta to 0 (the paper's value), or "
            "token_normalization to 'step'."
        )
    if config.token_normalization == "group" and config.loss_type not in TOKEN_LOSS_TYPES:
        raise ValueError(
            f"token_normalization='group' needs a loss that sums over tokens, but loss_type={config.loss_type!r} "
            f"averages in its own way. Set loss_type to one of {list(TOKEN_LOSS_TYPES)}, or token_normalization "
            "to 'step'."
        )
    if config.neftune_noise_alpha is not None:
        raise ValueError(
            f"neftune_noise_alpha={config.neftune_noise_alpha} adds noise to the embeddings in training, but not in "
            "generation: the policy that is trained would not be the one that generated. Set neftune_noise_alpha to "
            "null; it is meant for supervised training."
        )
    if config.balance_micro_batches:
        _check_balancing(config)
    is_row_mean = config.loss_type in OWN_LOSS_TYPES and config.loss_type not in TOKEN_LOSS_TYPES
    if config.dynamic_sampling and is_row_mean and config.beta != 0 and config.on_shortage == "train_partial":
        raise ValueError(
            f"loss_type={config.loss_type!r} with beta={config.beta} cannot train on a partial rollout: the weights "
            "of the rows ride on the advantages and would not reach the KL term. Set on_shortage to 'raise', beta "
            "to 0, or loss_type to 'dapo'."
        )
    if config.use_vllm and "seed" in (config.generation_kwargs or {}):
        raise ValueError(
            f"generation_kwargs holds seed={config.generation_kwargs['seed']}, with which vLLM would give equal "
            "prompts equal completions, in every round and rollout. With a server every group of completions has a "
            "seed of its own, made from the run's: leave it out of generation_kwargs, and set seed instead."
        )
    if config.use_vllm and config.vllm_mode == "server":
        _check_address(config.vllm_server_base_url)
        check_waits(config, config.ddp_timeout)


def _check_address(url: str | None) -> None:
    if url is None:
        return
    parts = urlparse(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.endswith(("/", "/v1")):
        raise ValueError(
            f"vllm_server_base_url={url!r} must be the root of the server, such as http://localhost:8000, with its "
            "scheme and without /v1 or a slash at its end. Correct it, or set vllm_server_host and vllm_server_port."
        )


def check_waits(config: "DAPOConfig", seconds: float) -> None:
    """
    With several processes, the others must wait for longer than the main one waits for the server, or they end the run
    before it can repeat a request.

    Each wait counts by itself: the processes meet after every attempt, and pause together.

    Args:
        config (`DAPOConfig`): the configuration of a run with a server.
        seconds (`float`): how long processes wait for each other.

    Raises:
        ValueError: the message says what to change.
    """
    if config.world_size == 1:
        return
    limit, remedy = f"ddp_timeout={config.ddp_timeout}", ", or raise ddp_timeout to {} or more"
    if seconds != config.ddp_timeout:
        limit, remedy = f"the {seconds:g} seconds of use_cpu, under which ddp_timeout has no effect", ""
    for name in ("vllm_request_timeout", "vllm_server_timeout"):
        value, longest = getattr(config, name), seconds - LATE_ANSWERS
        if value > longest:
            raise ValueError(
                f"{name}={value:g} is too long for {limit}: while the main one of {config.world_size} processes waits "
                "for the vLLM server, the others wait for it, and would end the run before it tries again. The rule "
                f"is {name} + {LATE_ANSWERS} <= ddp_timeout: lower {name} to {longest:g} or less"
                f"{remedy.format(f'{value + LATE_ANSWERS:g}')}."
            )


def _check_balancing(config: "DAPOConfig") -> None:
    per_micro_batch = {
        "top_entropy_quantile": (config.top_entropy_quantile, 1.0),
        "entropy_coef": (config.entropy_coef, 0.0),
        "use_adaptive_entropy": (config.use_adaptive_entropy, False),
    }
    for name, (value, neutral) in per_micro_batch.items():
        if value != neutral:
            raise ValueError(
                f"{name}={value} cannot be combined with balance_micro_batches: it is computed per micro-batch, "
                f"so micro-batches of other rows would change the gradient. Set {name} to {neutral}, or "
                "balance_micro_batches to false."
            )


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
