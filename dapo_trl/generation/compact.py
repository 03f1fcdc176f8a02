"""Generation with Transformers in which completions that have ended leave the batch."""

import contextlib
import functools
import math
from collections.abc import Iterator
from typing import Any

import torch
from peft import PeftModel
from transformers import (
    DynamicCache,
    GenerationConfig,
    GenerationMixin,
    LogitsProcessorList,
    PreTrainedModel,
    StoppingCriteriaList,
)
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer
from transformers.generation import GenerationMode


ENDED_SHARE = 1 / 8  # of a batch's rows must have ended before they are dropped, which copies the cache once
REDUCIBLE_LAYERS = (DynamicLayer, DynamicSlidingWindowLayer)  # layers with keys and values only: rows can go

ROW_INPUTS = {"attention_mask", "position_ids"}
# What a language model is given beside tokens. Anything else (images, a state-space model's cache) may hold rows.
KNOWN_INPUTS = ROW_INPUTS | {"past_key_values", "use_cache", "logits_to_keep"}


@contextlib.contextmanager
def dropping_ended_rows(model: PreTrainedModel | PeftModel, generation_config: GenerationConfig) -> Iterator[None]:
    """Inside, `model.generate` drops ended rows; beam search and the like, and virtual tokens, are left alone."""
    modes = {config.get_generation_mode() for config in (generation_config, model.generation_config)}
    has_virtual_tokens = isinstance(model, PeftModel) and model.active_peft_config.is_prompt_learning
    if has_virtual_tokens or not modes <= {GenerationMode.SAMPLE, GenerationMode.GREEDY_SEARCH}:
        yield
        return
    generate: Any = model.generate
    replaced = {name: value for name, value in vars(model).items() if name == "generate"}
    vars(model)["generate"] = functools.partial(generate, custom_generate=sample_without_ended_rows)
    try:
        yield
    finally:
        del vars(model)["generate"]
        vars(model).update(replaced)


class EndWhenWorthwhile(StoppingCriteriaList):
    """Ends a batch early, as soon as [`ENDED_SHARE`] of its rows have ended: `has_ended`, of shape `(B,)`."""

    def __init__(self, criteria: StoppingCriteriaList, num_rows: int, device: torch.device):
        super().__init__(criteria)
        self.has_ended = torch.zeros(num_rows, dtype=torch.bool, device=device)
        self._enough = math.ceil(ENDED_SHARE * num_rows)

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs) -> torch.Tensor:
        self.has_ended |= super().__call__(input_ids, scores, **kwargs)
        # No look at the value: the device is not waited for.
        return self.has_ended | (self.has_ended.sum() >= self._enough)


def sample_without_ended_rows(
    model: Any,
    input_ids: torch.Tensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    generation_config: GenerationConfig,
    **model_kwargs,
) -> torch.Tensor:
    """
    A `custom_generate` of `generate`: prompts `(B, T)`, padded on the left, become `(B, T + L)`, padded on the right.
    Transformers' sampling is interrupted whenever enough rows have ended, and continued with the others. The
    distribution of a row's tokens is that of the whole batch, up to rounding; the random numbers are others.
    """
    sample = functools.partial(model._sample, logits_processor=logits_processor, generation_config=generation_config)
    if not can_drop_rows(model, input_ids, generation_config, model_kwargs):
        return sample(input_ids, stopping_criteria=stopping_criteria, **model_kwargs)
    if model_kwargs["attention_mask"] is None:  # newer Transformers leave it out where there is no padding
        model_kwargs["attention_mask"] = torch.ones_like(input_ids)
    sequences, rows = input_ids, torch.arange(len(input_ids), device=input_ids.device)
    while True:
        criteria = EndWhenWorthwhile(stopping_criteria, len(rows), input_ids.device)
        num_before = input_ids.shape[1]
        input_ids = sample(input_ids, stopping_criteria=criteria, **model_kwargs)
        num_new = input_ids.shape[1] - num_before
        sequences = torch.nn.functional.pad(sequences, (0, num_new), value=generation_config.pad_token_id)
        sequences[rows] = input_ids
        kept = (~criteria.has_ended).nonzero().squeeze(1)
        if len(kept) == 0:
            return sequences
        # An empty output: the cache has been extended in place, masks and positions have not.
        model_kwargs = model._update_model_kwargs_for_generation({}, model_kwargs, num_new_tokens=num_new)
        for name in ROW_INPUTS:
            if model_kwargs.get(name) is not None:
                model_kwargs[name] = model_kwargs[name][kept]
        for layer in model_kwargs["past_key_values"].layers:
            if layer.get_seq_length() > 0:
                layer.batch_select_indices(kept.to(layer.keys.device))  # a model may be spread over devices
        keep_rows_of_processors(logits_processor, kept)
        input_ids, rows = input_ids[kept], rows[kept]


def keep_rows_of_processors(processors: LogitsProcessorList, kept: torch.Tensor) -> None:
    """Takes rows out of processors that hold something for each: a penalty of repetitions, those with `keep_rows`."""
    for processor in processors:
        lengths = getattr(processor, "prompt_ignore_length", None)
        if isinstance(lengths, torch.Tensor):
            processor.prompt_ignore_length = lengths[kept.to(lengths.device)]
        if hasattr(processor, "keep_rows"):
            processor.keep_rows(kept)


def can_drop_rows(
    model: Any, input_ids: torch.Tensor, generation_config: GenerationConfig, model_kwargs: dict[str, Any]
) -> bool:
    """Whether everything that holds an entry for each row is known, and rows can be taken out of it."""
    cache = model_kwargs.get("past_key_values")
    given = {name: value for name, value in model_kwargs.items() if value is not None}
    return (
        type(model)._sample is GenerationMixin._sample
        and type(cache) is DynamicCache
        and not cache.offloading
        and all(type(layer) in REDUCIBLE_LAYERS for layer in cache.layers)
        and "attention_mask" in model_kwargs
        and given.keys() <= KNOWN_INPUTS
        and all(given[name].shape == input_ids.shape for name in ROW_INPUTS & given.keys())
        and generation_config.pad_token_id is not None
        and generation_config.prefill_chunk_size is None
        and not generation_config.return_dict_in_generate
        and input_ids.device.type != "mps"  # where Transformers decides one token late whether to stop
    )
