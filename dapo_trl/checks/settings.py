"""
Values and combinations of the fields of `DAPOConfig`: what would fail, or train wrongly, after a rollout.

The functions take the configuration untyped, because it is the configuration that calls them.
"""

import math
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any
from urllib.parse import urlparse


TOKEN_LOSS_TYPES = ("dapo", "cispo")
"""Losses that sum over tokens and divide by a count of them."""

ROW_LOSS_TYPES = ("grpo", "dr_grpo")
"""Losses that average over completions."""

OWN_LOSS_TYPES = (*TOKEN_LOSS_TYPES, *ROW_LOSS_TYPES)
"""Losses whose micro-batches this project can partition without changing the gradient."""

CLIPPED_LOSS_TYPES = ("grpo", "bnpo", "dr_grpo", "dapo", "luspo")
"""Losses whose ratio is held between 1 - epsilon and 1 + epsilon_high."""

CISPO_BOUND = 5.0
"""Upper bound of the importance weight in the ScaleRL paper, which TRL recommends."""

LARGEST_SEQUENCE_BOUND = 0.01
"""Ratios of sequences are means over many tokens. The GSPO paper clips them at 3e-4 and 4e-4."""

LONG_COMPLETION = 1024
"""Tokens from which correcting the sampler's mismatch by whole sequences masks a sizeable share of them."""

LATE_ANSWERS = 60
"""Seconds that the main process may need, beside the time it waits for the server, to find the server gone."""


# Single fields


@dataclass(frozen=True)
class Range:
    """What a field of numbers may be: from `least` (or `above` it) to `most`, `whole`, and perhaps None."""

    least: float = -math.inf
    most: float = math.inf
    whole: bool = False
    optional: bool = False
    above: bool = False

    def problem(self, value: Any) -> str | None:
        """What is wrong with a value, and what to set instead; None if nothing is."""
        if value is None and self.optional:
            return None
        kind = "a whole number" if self.whole else "a finite number"
        null = ", or to null" if self.optional else ""
        is_number = isinstance(value, Integral if self.whole else Real) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value):
            return f"is not {kind}. Set {{name}} to one{null}."
        if self.above and value <= self.least:
            return f"is not above {self.least}. Set {{name}} to more than {self.least}{null}."
        if value < self.least:
            return f"is below {self.least}. Set {{name}} to {self.least} or more{null}."
        if value > self.most:
            return f"is above {self.most}. Set {{name}} to {self.most} or less{null}."
        return None


RANGES = {
    Range(0): ("epsilon", "beta", "max_grad_norm", "num_train_epochs"),
    Range(0, optional=True): ("epsilon_high",),
    Range(0, 1): ("top_entropy_quantile", "ref_model_mixup_alpha"),
    Range(0, 1, above=True): ("top_p",),
    Range(0, 1, optional=True): ("min_p",),
    Range(0, above=True): ("repetition_penalty",),
    Range(1): ("max_oversampling", "vllm_request_timeout"),
    Range(): ("temperature",),
    Range(-1, whole=True): ("max_steps",),
    Range(0, whole=True): ("warmup_rollouts", "vllm_max_retries", "seed"),
    Range(1, whole=True): (
        *("updates_per_rollout", "max_rounds", "gradient_accumulation_steps", "per_device_train_batch_size"),
        *("per_device_eval_batch_size", "num_iterations", "ref_model_sync_steps"),
    ),
    Range(2, whole=True): ("num_generations",),
    Range(1, whole=True, optional=True): ("eval_rollouts", "num_generations_eval", "max_completion_length"),
    Range(whole=True, optional=True): ("soft_punish_cache",),
    Range(optional=True): ("correct_threshold",),
}
"""Fields of numbers. What Trainer reads from texts, such as `learning_rate`, and checks itself is left to it."""

CHOICES: dict[str, tuple[Any, ...]] = {
    "on_shortage": ("train_partial", "raise"),
    "token_normalization": ("step", "group"),
    "on_alarm": ("warn", "stop"),
    "loss_type": ("grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo"),
    "scale_rewards": ("group", "batch", "none", True, False),
    "multi_objective_aggregation": ("sum_then_normalize", "normalize_then_sum"),
    "importance_sampling_level": ("token", "sequence"),
    "vllm_importance_sampling_mode": ("token_truncate", "token_mask", "sequence_truncate", "sequence_mask"),
}
"""Fields with a few values. TRL finds an unknown one when it first computes with it, after a rollout."""


def check_values(config: Any) -> None:
    """Checks every field on its own, at the beginning of `__post_init__`."""
    for name, allowed in [(name, allowed) for allowed, names in RANGES.items() for name in names]:
        problem = allowed.problem(getattr(config, name))
        if problem:
            raise ValueError(f"{name}={getattr(config, name)!r} {problem.format(name=name)}")
    for name, choices in CHOICES.items():
        if getattr(config, name) not in choices:
            raise ValueError(f"{name}={getattr(config, name)!r} is unknown. Set {name} to one of {list(choices)}.")
    for name in ("generation_kwargs", "chat_template_kwargs"):
        value = getattr(config, name)
        is_json = isinstance(value, str) and value.startswith("{")  # as on the command line
        if value is not None and not isinstance(value, dict) and not is_json:
            raise ValueError(f"{name}={value!r} is not a dictionary. Set {name} to one, or to null.")
    for field in fields(config):
        value = getattr(config, field.name)
        # By the default: a parser of the command line writes into the types.
        if isinstance(field.default, bool) and isinstance(value, str):
            raise ValueError(
                f"{field.name}={value!r} is a text, and every text but an empty one counts as true. Set {field.name} "
                "to True or False."
            )
    _refuse(_wrong_values(config))


def _wrong_values(config: Any) -> Iterator[tuple[Any, str]]:
    cache = config.soft_punish_cache
    yield (
        config.push_to_hub and config.hub_token is not None and not config.hub_token.strip(),
        "hub_token is empty, and push_to_hub needs one. Set hub_token to a token (is the variable that it comes from "
        "set?), or leave it out: then it is HF_TOKEN, or the login of this machine.",
    )
    yield (
        cache is not None and not 0 < cache <= (config.max_completion_length or 0),
        f"soft_punish_cache={cache} tokens must be above 0 and at most max_completion_length="
        f"{config.max_completion_length} tokens, the end of the interval in which the punishment grows. Set "
        "soft_punish_cache accordingly (a fifth in the paper), or to null for no soft overlong punishment.",
    )


def _refuse(cases: Iterable[tuple[Any, str]]) -> None:
    """Raises the first message whose condition holds."""
    for is_wrong, message in cases:
        if is_wrong:
            raise ValueError(message)


# Combinations


def check_combinations(config: Any) -> None:
    """
    Refuses what cannot be combined, because the gradient would not be the one asked for, at the end of
    `__post_init__`.
    """
    _refuse(_wrong_losses(config))
    _refuse(_wrong_bounds(config))
    _refuse(_wrong_trainer_fields(config))
    if config.use_vllm and config.vllm_mode == "server":
        _refuse(_wrong_addresses(config))
        check_waits(config, config.ddp_timeout)


def _wrong_losses(config: Any) -> Iterator[tuple[Any, str]]:
    loss_type, beta = config.loss_type, config.beta
    own = " and ".join(name for name in ("dynamic_sampling", "balance_micro_batches") if getattr(config, name))
    yield (
        own and loss_type not in OWN_LOSS_TYPES,
        f"loss_type={loss_type!r} cannot be combined with {own}: only {list(OWN_LOSS_TYPES)} can. Change loss_type, "
        f"or set {own} to false.",
    )
    is_by_group = config.token_normalization == "group"
    yield (
        is_by_group and beta != 0,
        f"token_normalization='group' cannot be combined with beta={beta}: its weights multiply the advantages and "
        "would not reach the KL term. Set beta to 0 (the paper's value), or token_normalization to 'step'.",
    )
    yield (
        is_by_group and loss_type not in TOKEN_LOSS_TYPES,
        f"token_normalization='group' needs a loss that sums over tokens, but loss_type={loss_type!r} averages in its "
        f"own way. Set loss_type to one of {list(TOKEN_LOSS_TYPES)}, or token_normalization to 'step'.",
    )
    is_partial = config.dynamic_sampling and config.on_shortage == "train_partial"
    yield (
        is_partial and loss_type in ROW_LOSS_TYPES and beta != 0,
        f"loss_type={loss_type!r} with beta={beta} cannot train on a partial rollout: row weights multiply the "
        "advantages, not the KL term. Set on_shortage to 'raise', beta to 0, or loss_type to 'dapo'.",
    )
    for name, neutral in {"top_entropy_quantile": 1.0, "entropy_coef": 0.0, "use_adaptive_entropy": False}.items():
        yield (
            config.balance_micro_batches and getattr(config, name) != neutral,
            f"{name}={getattr(config, name)} cannot be combined with balance_micro_batches: it is computed per "
            f"micro-batch, so micro-batches of other rows would change the gradient. Set {name} to {neutral}, or "
            "balance_micro_batches to false.",
        )
    yield (
        loss_type == "dr_grpo" and config.max_completion_length is None,
        "loss_type='dr_grpo' divides by max_completion_length, which is None. Set max_completion_length to a number "
        "of tokens, or loss_type to 'dapo'.",
    )
    yield (
        config.neftune_noise_alpha is not None,
        f"neftune_noise_alpha={config.neftune_noise_alpha} adds noise in training, but not in generation: the policy "
        "that is trained would not be the one that generated. Set neftune_noise_alpha to null.",
    )


def _wrong_bounds(config: Any) -> Iterator[tuple[Any, str]]:
    """Bounds of ratios, which are 1 where nothing has changed, and other numbers that would make the loss constant."""
    upper, delta = _upper_bound(config), config.delta
    yield (
        config.loss_type == "cispo" and upper < 1,
        f"epsilon_high={config.epsilon_high} cannot be combined with loss_type='cispo': there it bounds the "
        f"importance weight itself, so that nearly every weight would be the constant {upper}. Set epsilon_high to "
        f"{CISPO_BOUND}, or loss_type to 'dapo'.",
    )
    yield (
        delta is not None and delta <= 1 and config.loss_type in CLIPPED_LOSS_TYPES,
        f"delta={delta} must be above 1: it bounds the ratio from above, and a bound below 1 leaves tokens with a "
        f"positive advantage without gradient. Set delta above 1 + epsilon_high={1 + upper}, or to null.",
    )
    lower, upper = config.vllm_importance_sampling_clip_min, config.vllm_importance_sampling_clip_max
    yield (
        _is_corrected(config) and ((upper is not None and upper < 1) or (lower is not None and lower > 1)),
        f"vllm_importance_sampling_clip_min={lower} and vllm_importance_sampling_clip_max={upper} do not enclose 1, "
        "the ratio of a server that computes what the trainer computes: all tokens would be truncated to a constant, "
        "or masked. Set them below and above 1 (null and 2.0 by default).",
    )
    yield (
        config.temperature <= 0,
        f"temperature={config.temperature} must be above 0: log-probabilities are those of the logits divided by it, "
        "and without sampling all completions of a prompt are equal. Set temperature to 1.0 (the paper's value).",
    )
    threshold = config.off_policy_mask_threshold
    yield (
        threshold is not None and threshold <= 0,
        f"off_policy_mask_threshold={threshold} must be above 0: completions with a negative advantage are masked "
        "where the divergence is larger. Set it to 0.5, say, or to null.",
    )


def _wrong_trainer_fields(config: Any) -> Iterator[tuple[Any, str]]:
    """Fields of Trainer that would be ignored, or contradict how TRL distributes prompts."""
    batches = config.accelerator_config
    yield (
        config.label_smoothing_factor,
        f"label_smoothing_factor={config.label_smoothing_factor} is not supported: there are no labels to smooth, and "
        "it would have no effect. Set label_smoothing_factor to 0.",
    )
    yield (
        batches.split_batches,
        "accelerator_config.split_batches=True is not supported: every process would get a part of its groups. "
        "Set accelerator_config.split_batches to false.",
    )
    yield (
        batches.dispatch_batches,
        "accelerator_config.dispatch_batches=True is not supported: prompts are texts, and the main process can send "
        "tensors only. Set accelerator_config.dispatch_batches to null.",
    )


def _wrong_addresses(config: Any) -> Iterator[tuple[Any, str]]:
    host, port, url = config.vllm_server_host, config.vllm_server_port, config.vllm_server_base_url
    yield (
        url is None and not (re.fullmatch(r"[\w.-]+", host) and 0 < port < 2**16),
        f"vllm_server_host={host!r} and vllm_server_port={port} must be the name or IPv4 address of a machine and the "
        "number of a port. Correct them, or set vllm_server_base_url to the address, such as http://localhost:8000.",
    )
    yield (
        url is not None and not _is_root(url),
        f"vllm_server_base_url={url!r} must be the root of the server, such as http://localhost:8000, with its scheme "
        "and without /v1 or a slash at its end. Correct it, or set vllm_server_host and vllm_server_port.",
    )


def _is_root(url: str) -> bool:
    try:
        parts = urlparse(url)
        has_port = parts.port != 0
    except ValueError:  # no number, too large a number, or half an IPv6 address
        return False
    is_bare = not (parts.path.endswith(("/", "/v1")) or parts.query or parts.fragment)
    return parts.scheme in ("http", "https") and bool(parts.hostname) and has_port and is_bare


def check_waits(config: Any, seconds: float) -> None:
    """
    Refuses waits for the vLLM server that are longer than the `seconds` for which processes wait for each other: the
    others would end the run before the main process can repeat a request.

    Each wait counts by itself: the processes meet after every attempt, and pause together.
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


def _upper_bound(config: Any) -> float:
    return config.epsilon if config.epsilon_high is None else config.epsilon_high


def _is_corrected(config: Any) -> bool:
    return config.use_vllm and config.vllm_importance_sampling_correction


# Warnings


def warn_about(config: Any) -> None:
    """Warns of settings that work, but probably not as meant; on the main process, at the end of `__post_init__`."""
    if config.process_index != 0:
        return
    oddities = [*_odd_settings(config), *_odd_bounds(config)]
    for message in [message for is_odd, message in oddities if is_odd] + _without_effect(config):
        # 4: this function, `__post_init__`, the generated `__init__`, and the caller.
        warnings.warn(message, UserWarning, stacklevel=4)


def _is_one_step(config: Any) -> bool:
    """Whether each rollout is trained on once: the policy that trains is the one that generated."""
    return config.updates_per_rollout * config.num_iterations == 1


def _odd_settings(config: Any) -> Iterator[tuple[Any, str]]:
    cache, length = config.soft_punish_cache, config.max_completion_length
    yield (
        _is_one_step(config) and config.epsilon_high != config.epsilon,
        f"Clip-higher (epsilon_high={config.epsilon_high}) has no effect: with one optimizer step per rollout every "
        "ratio is 1. Raise updates_per_rollout (16 in the paper).",
    )
    yield (
        config.learning_rate == 0,
        ("learning_rate=0: nothing is trained. Set learning_rate to 1e-6 (the paper's value), say."),
    )
    yield (
        config.mask_truncated_completions and cache is not None,
        "mask_truncated_completions=True takes truncated completions out of the loss, so that the largest punishment "
        f"of soft_punish_cache={cache} never trains them. Set mask_truncated_completions to false.",
    )
    mode = config.vllm_importance_sampling_mode
    yield (
        _is_corrected(config) and mode.startswith("sequence") and (length is None or length >= LONG_COMPLETION),
        f"vllm_importance_sampling_mode={mode!r} with max_completion_length={length}: the ratio of a whole sequence "
        "leaves its bounds from the rounding of many tokens alone, so that long completions are masked or truncated. "
        "Set vllm_importance_sampling_mode to 'token_truncate' and vllm_importance_sampling_clip_max to 2.",
    )
    yield (
        config.balance_micro_batches and config.gradient_accumulation_steps == 1,
        "balance_micro_batches=True with gradient_accumulation_steps=1: an optimizer step is one micro-batch, and "
        "there is nothing to balance. Lower per_device_train_batch_size and raise gradient_accumulation_steps.",
    )
    yield (
        config.multi_objective_aggregation == "normalize_then_sum" and cache is not None,
        f"multi_objective_aggregation='normalize_then_sum' with soft_punish_cache={cache}: a slight punishment would "
        "weigh as much as a full one. Set multi_objective_aggregation to 'sum_then_normalize'.",
    )
    neutral = {"top_p": (1.0,), "top_k": (0,), "min_p": (0.0, None), "repetition_penalty": (1.0,)}
    narrowed = [f"{name}={getattr(config, name)}" for name in neutral if getattr(config, name) not in neutral[name]]
    yield (
        narrowed and not _is_corrected(config),
        f"{', '.join(narrowed)}: completions are drawn from another distribution than the one that is trained, and "
        "nothing corrects it. Set top_p to 1, top_k to 0, min_p to null and repetition_penalty to 1.",
    )
    strategy = getattr(config.logging_strategy, "value", config.logging_strategy)
    yield (
        strategy != "steps",
        f"logging_strategy={strategy!r}: rollouts are not logged one by one, so that alarms, metrics.jsonl and the "
        "line per rollout miss them. Set logging_strategy to 'steps'.",
    )


def _odd_bounds(config: Any) -> Iterator[tuple[Any, str]]:
    if config.loss_type not in CLIPPED_LOSS_TYPES:
        return
    lower, upper, delta = config.epsilon, _upper_bound(config), config.delta
    yield (
        upper < lower,
        f"epsilon_high={upper} is below epsilon={lower}: the reverse of clip-higher, which holds back unlikely tokens "
        "even more than GRPO does. Set epsilon_high above epsilon (0.28 and 0.2 in the paper).",
    )
    yield (
        lower >= 1,
        f"epsilon={lower}: the ratio is never below 1 - epsilon, so that nothing is clipped there. Set epsilon to 0.2 "
        "(the paper's value).",
    )
    yield (
        config.importance_sampling_level == "sequence" and max(upper, lower) > LARGEST_SEQUENCE_BOUND,
        f"epsilon={lower} and epsilon_high={upper} with importance_sampling_level='sequence': the ratio of a sequence "
        "hardly leaves 1, so that nothing is clipped. Set epsilon to 3e-4 and epsilon_high to 4e-4 (GSPO's values).",
    )
    yield (
        delta is not None and delta <= 1 + upper,
        f"delta={delta} is not above 1 + epsilon_high={1 + upper:g}: it takes the place of epsilon_high. Set delta "
        "higher, or to null.",
    )


def _without_effect(config: Any) -> list[str]:
    """Fields that have been changed, but are not read because of another one."""
    loss_type, defaults = config.loss_type, {field.name: field.default for field in fields(config)}
    loss = f"loss_type={loss_type!r}"
    # Names of fields, whether they are not read, and because of what.
    unread = [
        ("epsilon delta", loss_type not in CLIPPED_LOSS_TYPES, loss),
        ("sapo_temperature_neg sapo_temperature_pos", loss_type != "sapo", loss),
        ("vespo_k_pos vespo_lambda_pos vespo_k_neg vespo_lambda_neg", loss_type != "vespo", loss),
        ("overlong_weight", config.soft_punish_cache is None, "soft_punish_cache=None"),
        ("max_rounds max_oversampling on_shortage", not config.dynamic_sampling, "dynamic_sampling=False"),
        ("ref_model_mixup_alpha ref_model_sync_steps", not config.sync_ref_model, "sync_ref_model=False"),
        (
            "off_policy_mask_threshold",
            _is_one_step(config) and not config.use_vllm,
            "one optimizer step per rollout and no vLLM: the policy that trains is the one that generated",
        ),
        ("data_seed train_sampling_strategy", True, "rollouts, whose prompts are drawn at random by seed"),
        ("include_num_input_tokens_seen", True, "TRL, which counts tokens itself (num_tokens)"),
    ]
    return [
        f"{name}={getattr(config, name)} has no effect with {reason}. Leave out {name}, or change the other."
        for names, is_unread, reason in unread
        for name in names.split()
        if is_unread and getattr(config, name) != defaults[name]
    ]
