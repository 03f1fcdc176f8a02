"""Settings that cannot be combined."""

import re
from typing import TYPE_CHECKING
from urllib.parse import urlparse

from ..batching import TOKEN_LOSS_TYPES


if TYPE_CHECKING:
    from ..config import DAPOConfig


OWN_LOSS_TYPES = ("dapo", "cispo", "grpo", "dr_grpo")
"""Losses whose micro-batches this project knows how to cut without changing the gradient."""

CLIPPED_LOSS_TYPES = ("grpo", "bnpo", "dr_grpo", "dapo", "luspo")
"""Losses whose ratio is held between 1 - epsilon and 1 + epsilon_high."""

CISPO_BOUND = 5.0
"""Upper bound of the importance weight in the ScaleRL paper, which TRL recommends."""

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
    _check_bounds(config)
    _check_trainer_fields(config)
    is_row_mean = config.loss_type in OWN_LOSS_TYPES and config.loss_type not in TOKEN_LOSS_TYPES
    if config.dynamic_sampling and is_row_mean and config.beta != 0 and config.on_shortage == "train_partial":
        raise ValueError(
            f"loss_type={config.loss_type!r} with beta={config.beta} cannot train on a partial rollout: the weights "
            "of the rows ride on the advantages and would not reach the KL term. Set on_shortage to 'raise', beta "
            "to 0, or loss_type to 'dapo'."
        )
    if config.use_vllm and config.vllm_mode == "server":
        _check_address(config)
        check_waits(config, config.ddp_timeout)


def _check_address(config: "DAPOConfig") -> None:
    host, port, url = config.vllm_server_host, config.vllm_server_port, config.vllm_server_base_url
    if url is None:
        if not re.fullmatch(r"[\w.-]+", host) or not 0 < port < 2**16:
            raise ValueError(
                f"vllm_server_host={host!r} and vllm_server_port={port} must be the name or IPv4 address of a "
                "machine, such as localhost, and the number of a port. Correct them, or set vllm_server_base_url to "
                "the whole address, such as http://localhost:8000."
            )
        return
    if not _is_root(url):
        raise ValueError(
            f"vllm_server_base_url={url!r} must be the root of the server, such as http://localhost:8000, with its "
            "scheme and without /v1 or a slash at its end. Correct it, or set vllm_server_host and vllm_server_port."
        )


def _is_root(url: str) -> bool:
    try:
        parts = urlparse(url)
        has_port = parts.port != 0
    except ValueError:  # no number, too large a number, or half an IPv6 address
        return False
    is_bare = not (parts.path.endswith(("/", "/v1")) or parts.query or parts.fragment)
    return parts.scheme in ("http", "https") and bool(parts.hostname) and has_port and is_bare


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


def _check_bounds(config: "DAPOConfig") -> None:
    """Bounds of ratios, which are 1 where nothing has changed, and other numbers that would make the loss constant."""
    upper = config.epsilon if config.epsilon_high is None else config.epsilon_high
    if config.loss_type == "cispo" and upper < 1:
        raise ValueError(
            f"epsilon_high={config.epsilon_high} cannot be combined with loss_type='cispo': there it bounds the "
            f"importance weight itself, not its distance from 1, so that nearly every weight would be the constant "
            f"{upper}. Set epsilon_high to {CISPO_BOUND}, or loss_type to 'dapo'."
        )
    if config.delta is not None and config.delta <= 1 and config.loss_type in CLIPPED_LOSS_TYPES:
        raise ValueError(
            f"delta={config.delta} must be above 1: it bounds the ratio from above, and a bound below 1 leaves tokens "
            f"with a positive advantage without gradient. Set delta above 1 + epsilon_high={1 + upper}, or to null."
        )
    if config.use_vllm and config.vllm_importance_sampling_correction:
        lower, upper = config.vllm_importance_sampling_clip_min, config.vllm_importance_sampling_clip_max
        if (upper is not None and upper < 1) or (lower is not None and lower > 1):
            raise ValueError(
                f"vllm_importance_sampling_clip_min={lower} and vllm_importance_sampling_clip_max={upper} do not "
                "enclose 1, the ratio of a server that computes what the trainer computes: all tokens would be "
                "truncated to a constant, or masked. Set them below and above 1 (null and 2.0 by default)."
            )
    if config.temperature <= 0:
        raise ValueError(
            f"temperature={config.temperature} must be above 0: log-probabilities are those of the logits divided by "
            "it, and without sampling all completions of a prompt are equal. Set temperature to 1.0 (the paper's "
            "value)."
        )
    if config.off_policy_mask_threshold is not None and config.off_policy_mask_threshold <= 0:
        raise ValueError(
            f"off_policy_mask_threshold={config.off_policy_mask_threshold} must be above 0: completions with a "
            "negative advantage are masked where the divergence is larger. Set it to 0.5, say, or to null."
        )
    if config.loss_type == "dr_grpo" and config.max_completion_length is None:
        raise ValueError(
            "loss_type='dr_grpo' divides by max_completion_length, which is None. Set max_completion_length to a "
            "number of tokens, or loss_type to 'dapo'."
        )


def _check_trainer_fields(config: "DAPOConfig") -> None:
    """Fields of Trainer that would be passed over, or contradict how TRL deals out prompts."""
    accelerator = config.accelerator_config
    refused = {
        "label_smoothing_factor": (
            config.label_smoothing_factor,
            "there are no labels to smooth, and it would have no effect",
            "0",
        ),
        "accelerator_config.split_batches": (
            accelerator.split_batches,
            "TRL's batches are those of one process, so that every process would get a part of its groups",
            "false",
        ),
        "accelerator_config.dispatch_batches": (
            accelerator.dispatch_batches,
            "prompts are texts, and the main process can send tensors only",
            "null",
        ),
    }
    for name, (value, reason, remedy) in refused.items():
        if value:
            raise ValueError(f"{name}={value} is not supported: {reason}. Set {name} to {remedy}.")
