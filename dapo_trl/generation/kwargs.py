"""`generation_kwargs`: what of it is honoured wherever completions are counted, and what is refused."""

import contextlib
import copy
from collections.abc import Collection, Iterator
from typing import Any

from peft import PeftModel
from torch import nn
from transformers import GenerationConfig


# Keys that a field of the configuration decides, and the field.
FIELDS = {
    "max_new_tokens": "max_completion_length",
    "max_tokens": "max_completion_length",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
}

# Keys that say how tokens are drawn, when a completion ends, or how that is computed: nothing else changes.
SAMPLING_KEYS = {
    "transformers": {
        *("eos_token_id", "pad_token_id", "bos_token_id", "min_length", "min_new_tokens", "typical_p", "top_h"),
        *("epsilon_cutoff", "eta_cutoff", "no_repeat_ngram_size", "bad_words_ids", "suppress_tokens"),
        *("begin_suppress_tokens", "sequence_bias", "exponential_decay_length_penalty", "renormalize_logits"),
        *("remove_invalid_values", "use_cache", "cache_implementation", "cache_config", "max_cache_len"),
        *("prefill_chunk_size", "compile_config"),
    },
    "vllm": {
        *("stop_token_ids", "min_tokens", "bad_words", "logit_bias", "allowed_token_ids", "presence_penalty"),
        *("frequency_penalty", "structured_outputs", "skip_special_tokens", "include_stop_str_in_output"),
        *("spaces_between_special_tokens", "extra_args", "vllm_xargs", "priority"),
    },
}

BY_TEXT = (
    "completions that end with a text have no end token, so that they would count as cut off, and the policy would "
    "not learn to end. Name tokens instead: "
)

# Keys that would make training wrong, the value that does nothing, and the reason.
REFUSED = {
    "transformers": {
        "stop_strings": (None, f"{BY_TEXT}eos_token_id takes one or several"),
        "stop_token_ids": (None, "this is vLLM's name. Generation with Transformers calls it eos_token_id"),
        "do_sample": (True, "all completions of a prompt would be the same, so that no group carries a gradient"),
        "num_beams": (1, "completions would be searched for instead of sampled from the policy"),
        "num_return_sequences": (1, "TRL repeats every prompt itself, num_generations times"),
        "max_length": (None, "max_completion_length bounds completions"),
        "max_time": (None, "the clock would cut completions off before max_completion_length, which rewards go by"),
        "forced_eos_token_id": (None, "a completion that is cut off would look like one that has ended"),
        "guidance_scale": (None, "tokens would be drawn from another distribution than the policy's"),
    },
    "vllm": {
        "stop": (None, f"{BY_TEXT}stop_token_ids takes them"),
        "eos_token_id": (None, "this is Transformers' name. vLLM calls further end tokens stop_token_ids"),
        "ignore_eos": (False, "completions would go on behind their end, and be trained on there"),
        "n": (None, "TRL asks for num_generations completions itself"),
        "seed": (None, "equal prompts would get equal completions. Groups of a server get theirs from the field seed"),
        "logprobs": (0, "TRL takes the first value for that of the sampled token"),
    },
}


def check_generation_kwargs(config: Any) -> None:
    """Refuses keys of `generation_kwargs` that the trainer does not know of where it counts, scores and trains."""
    backend = "vllm" if config.use_vllm else "transformers"
    allowed, refused = SAMPLING_KEYS[backend], REFUSED[backend]
    for name, value in (config.generation_kwargs or {}).items():
        given = f"generation_kwargs={{{name!r}: {value!r}}}"
        if name in FIELDS:
            field = FIELDS[name]
            decided = getattr(config, field)
            if value != decided and not (name == "min_p" and not value and not decided):
                raise ValueError(
                    f"{given} contradicts {field}={decided!r}, which scoring, rewards and metrics go by. Set {field} "
                    f"to {value!r} instead, and take {name} out of generation_kwargs."
                )
        elif name in refused:
            neutral, reason = refused[name]
            if value not in (neutral, None) and value != []:
                raise ValueError(
                    f"{given} cannot be used in training: {reason}. Take {name} out of generation_kwargs."
                )
        elif name not in allowed:
            raise ValueError(
                f"{given} is unknown, or not made for training. Take {name} out of generation_kwargs. With "
                f"use_vllm={config.use_vllm} these can be given: {sorted(allowed)}."
            )
        elif name in ("eos_token_id", "stop_token_ids"):
            _check_tokens(given, name, value)


def _check_tokens(given: str, name: str, value: Any) -> None:
    tokens = value if isinstance(value, list | tuple) else [value]
    are_ids = all(isinstance(token, int) and not isinstance(token, bool) and token >= 0 for token in tokens)
    if not (tokens and are_ids):
        raise ValueError(
            f"{given}: completions must end somewhere, at tokens that are given by number. Set {name} to a list of "
            "token ids, or take it out for the model's own end tokens."
        )


def end_tokens(config: Any, own: Collection[int], vocab_size: int) -> list[int]:
    """vLLM adds `stop_token_ids` to `own`, of tokenizer and model; with Transformers, `eos_token_id` replaces them."""
    name = "stop_token_ids" if config.use_vllm else "eos_token_id"
    given = (config.generation_kwargs or {}).get(name)
    if given is None:
        return list(own)
    tokens = list(given) if isinstance(given, list | tuple) else [given]
    if max(tokens) >= vocab_size:
        raise ValueError(
            f"generation_kwargs={{{name!r}: {given!r}}}: the model has no token {max(tokens)}, only {vocab_size} "
            f"tokens, counted from 0. Set {name} to tokens of this model."
        )
    return list(dict.fromkeys([*own, *tokens] if config.use_vllm else tokens))


# Fields of a generation configuration that change nothing of what is drawn.
COMPUTING_KEYS = {
    *("use_cache", "cache_implementation", "cache_config", "max_cache_len", "prefill_chunk_size", "compile_config"),
    *("disable_compile", "continuous_batching_config", "transformers_version"),
    *("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id"),  # known to the trainer
}

# Fields by which a model's own generation configuration would change what is drawn, wherever TRL gives none.
DRAWING_KEYS = {name for name in vars(GenerationConfig()) if not name.startswith("_")} - COMPUTING_KEYS


def own_settings(generation_config: GenerationConfig, given: dict[str, Any]) -> dict[str, Any]:
    """What the model's own configuration would add to `given`, and that is known to change what is drawn."""
    known = SAMPLING_KEYS["transformers"] | REFUSED["transformers"].keys() | {"min_p"}
    names = (known & DRAWING_KEYS) - {"max_length"}  # which says nothing beside max_new_tokens
    values = {name: getattr(generation_config, name, None) for name in sorted(names) if given.get(name) is None}
    return {name: value for name, value in values.items() if value not in (None, False, 0, 1) and value != []}


@contextlib.contextmanager
def without_own_settings(model: nn.Module) -> Iterator[None]:
    """Inside, what is drawn depends on what is given to `generate` alone; the model is saved as it is."""
    model = model.get_base_model() if isinstance(model, PeftModel) else model
    original = model.generation_config
    model.generation_config = copy.deepcopy(original)
    for name in DRAWING_KEYS:
        setattr(model.generation_config, name, None)
    try:
        yield
    finally:
        model.generation_config = original
