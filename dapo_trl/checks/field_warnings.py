"""Settings that work, but probably not as meant."""

import warnings
from dataclasses import fields
from typing import TYPE_CHECKING

from .field_combinations import CLIPPED_LOSS_TYPES


if TYPE_CHECKING:
    from ..config import DAPOConfig


LARGEST_SEQUENCE_BOUND = 0.01
"""Ratios of sequences are means over many tokens. The GSPO paper clips them at 3e-4 and 4e-4."""

LONG_COMPLETION = 1024
"""Tokens from which correcting the sampler's mismatch by whole sequences masks a sizeable share of them."""


def warn_about(config: "DAPOConfig") -> None:
    """
    Warns of a checked configuration's oddities, on the main process.

    Args:
        config (`DAPOConfig`): the configuration, at the end of its `__post_init__`.
    """
    if config.process_index == 0:
        for message in _oddities(config) + _without_effect(config):
            # 4: this function, `__post_init__`, the generated `__init__`, and the caller.
            warnings.warn(message, UserWarning, stacklevel=4)


def _without_effect(config: "DAPOConfig") -> list[str]:
    """Fields that have been changed, but are not read because of another one."""
    loss_type = config.loss_type
    is_one_step = config.updates_per_rollout * config.num_iterations == 1
    loss_fields = {
        kind: [field.name for field in fields(config) if field.name.startswith(f"{kind}_")]
        for kind in ("sapo", "vespo")
    }
    # Names of fields, whether they are not read, and because of what.
    unread = [
        (["epsilon", "delta"], loss_type not in CLIPPED_LOSS_TYPES, f"loss_type={loss_type!r}"),
        (loss_fields["sapo"], loss_type != "sapo", f"loss_type={loss_type!r}"),
        (loss_fields["vespo"], loss_type != "vespo", f"loss_type={loss_type!r}"),
        (["overlong_weight"], config.soft_punish_cache is None, "soft_punish_cache=None"),
        (["max_rounds", "max_oversampling", "on_shortage"], not config.dynamic_sampling, "dynamic_sampling=False"),
        (["ref_model_mixup_alpha", "ref_model_sync_steps"], not config.sync_ref_model, "sync_ref_model=False"),
        (
            ["off_policy_mask_threshold"],
            is_one_step and not config.use_vllm,
            "one optimizer step per rollout and no vLLM: the policy that trains is the one that generated",
        ),
        (["data_seed"], True, "rollouts, whose prompts are drawn by seed"),
        (["train_sampling_strategy"], True, "rollouts, whose prompts are drawn at random"),
        (["include_num_input_tokens_seen"], True, "TRL, which counts tokens itself (num_tokens)"),
    ]
    defaults = {field.name: field.default for field in fields(config)}
    return [
        f"{name}={getattr(config, name)} has no effect with {reason}. Leave out {name}, or change the other."
        for names, is_unread, reason in unread
        for name in names
        if is_unread and getattr(config, name) != defaults[name]
    ]


def _oddities(config: "DAPOConfig") -> list[str]:
    """Settings that do something else than meant, probably."""
    messages = []
    if config.updates_per_rollout * config.num_iterations == 1 and config.epsilon_high != config.epsilon:
        messages.append(
            f"Clip-higher (epsilon_high={config.epsilon_high}) has no effect: with one optimizer step per rollout "
            "the policy that trains is the one that generated, and every ratio is 1. Raise updates_per_rollout "
            "(16 in the paper)."
        )
    if config.learning_rate == 0:
        messages.append("learning_rate=0: nothing is trained. Set learning_rate to 1e-6 (the paper's value), say.")
    if config.mask_truncated_completions and config.soft_punish_cache is not None:
        messages.append(
            "mask_truncated_completions=True takes truncated completions out of the loss, so that the largest "
            f"punishment of soft_punish_cache={config.soft_punish_cache} never trains them. The paper's best runs "
            "use the soft punishment alone: set mask_truncated_completions to false."
        )
    is_by_sequence = config.vllm_importance_sampling_mode.startswith("sequence")
    is_corrected = config.use_vllm and config.vllm_importance_sampling_correction
    if is_corrected and is_by_sequence and config.max_completion_length >= LONG_COMPLETION:
        messages.append(
            f"vllm_importance_sampling_mode={config.vllm_importance_sampling_mode!r} with "
            f"max_completion_length={config.max_completion_length}: the ratio of a whole sequence leaves its "
            "bounds from the rounding of many tokens alone, so that long completions are masked or truncated. "
            "Set vllm_importance_sampling_mode to 'token_truncate' and vllm_importance_sampling_clip_max to 2."
        )
    if config.balance_micro_batches and config.gradient_accumulation_steps == 1:
        messages.append(
            "balance_micro_batches=True with gradient_accumulation_steps=1: an optimizer step is one micro-batch, "
            "so there is nothing to balance; micro-batches are only trimmed to their longest row. Lower "
            "per_device_train_batch_size and raise gradient_accumulation_steps to save padding."
        )
    upper = config.epsilon if config.epsilon_high is None else config.epsilon_high
    if config.loss_type in CLIPPED_LOSS_TYPES:
        messages += _odd_bounds(config, upper)
    if config.multi_objective_aggregation == "normalize_then_sum" and config.soft_punish_cache is not None:
        messages.append(
            f"multi_objective_aggregation='normalize_then_sum' with soft_punish_cache={config.soft_punish_cache}: the "
            "soft overlong punishment is scaled to the spread of its group like every other reward, so that a slight "
            "punishment weighs as much as a full one. Set multi_objective_aggregation to 'sum_then_normalize'."
        )
    narrowed = {
        name: value
        for name, neutral in {"top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}.items()
        if (value := getattr(config, name)) not in (neutral, None)
    }
    if narrowed and not (config.use_vllm and config.vllm_importance_sampling_correction):
        messages.append(
            f"{', '.join(f'{name}={value}' for name, value in narrowed.items())}: completions are drawn from another "
            "distribution than the one whose probabilities are trained, and nothing corrects it. Set top_p to 1, "
            "top_k to 0, min_p to null and repetition_penalty to 1 (as in the paper)."
        )
    strategy = getattr(config.logging_strategy, "value", config.logging_strategy)
    if strategy != "steps":
        messages.append(
            f"logging_strategy={strategy!r}: rollouts are not logged one by one, so that alarms, metrics.jsonl and "
            "the line per rollout miss them. Set logging_strategy to 'steps'."
        )
    return messages


def _odd_bounds(config: "DAPOConfig", upper: float) -> list[str]:
    messages = []
    if upper < config.epsilon:
        messages.append(
            f"epsilon_high={upper} is below epsilon={config.epsilon}: the reverse of clip-higher, which holds back "
            "unlikely tokens even more than GRPO does. Set epsilon_high above epsilon (0.28 and 0.2 in the paper)."
        )
    if config.epsilon >= 1:
        messages.append(
            f"epsilon={config.epsilon}: the ratio is never below 1 - epsilon, so that nothing is clipped there. Set "
            "epsilon to 0.2 (the paper's value)."
        )
    if config.importance_sampling_level == "sequence" and max(upper, config.epsilon) > LARGEST_SEQUENCE_BOUND:
        messages.append(
            f"epsilon={config.epsilon} and epsilon_high={upper} with importance_sampling_level='sequence': the ratio "
            "of a sequence is a mean over its tokens and hardly leaves 1, so that nothing is clipped. Set epsilon to "
            "3e-4 and epsilon_high to 4e-4 (the GSPO paper's values)."
        )
    if config.delta is not None and config.delta <= 1 + upper:
        messages.append(
            f"delta={config.delta} is not above 1 + epsilon_high={1 + upper:g}: it takes the place of epsilon_high. "
            "Set delta higher, or to null."
        )
    return messages
