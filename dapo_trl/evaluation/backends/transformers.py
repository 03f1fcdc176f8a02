"""Completions from a Transformers model on this machine, in batches of prompts of similar length."""

from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftModel
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedTokenizerBase,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from ...data.records import batches
from ...generation.compact import dropping_ended_rows
from ..completions import Completion, Request, Save
from ..config import EvaluateConfig
from ..model import ModelFiles


class SeededSampling(LogitsProcessor):
    r"""
    Gumbel-max sampling (https://huggingface.co/papers/1611.01144), where every row draws from its own generator:

    $$ \arg\max_v (z_v - \log E_v) \sim \mathrm{softmax}(z), \qquad E_v \sim \mathrm{Exp}(1) $$
    """

    def __init__(self, seeds: Sequence[int], device: torch.device):
        self.generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores of shape `(B, V)`, with noise."""
        rows = zip(scores, self.generators, strict=True)
        noise = torch.stack([torch.empty_like(row).exponential_(generator=generator) for row, generator in rows])
        # A zero would lift a token that top-p took out.
        return scores - noise.clamp_min_(torch.finfo(noise.dtype).tiny).log_()

    def keep_rows(self, kept: torch.Tensor) -> None:
        """Goes on with these rows of the batch."""
        self.generators = [self.generators[row] for row in kept.tolist()]


class TransformersSampler:
    """A model that is loaded, and what its completions are sampled with."""

    def __init__(self, config: EvaluateConfig, files: ModelFiles, tokenizer: PreTrainedTokenizerBase):
        self.config = config
        self.tokenizer = tokenizer
        self.model = load_model(files, config.dtype)
        # What ends a completion: the tokenizer's token, and those of the model's generation configuration.
        ends = self.model.generation_config.eos_token_id
        ends = {*(ends if isinstance(ends, list) else [ends]), tokenizer.eos_token_id}
        self.eos_ids = sorted(ends - {None})
        # Nothing of the model's own, such as a repetition penalty, may change what is measured.
        self.model.generation_config = GenerationConfig(
            do_sample=False,
            max_new_tokens=config.max_completion_length,
            eos_token_id=self.eos_ids,
            pad_token_id=tokenizer.pad_token_id,
        )

    def sample(self, requests: Sequence[Request], save: Save) -> None:
        for batch in batches(requests, self.config.batch_size):
            for request, completion in zip(batch, self._generate(batch), strict=True):
                save(request, completion)

    @torch.inference_mode()
    def _generate(self, batch: Sequence[Request]) -> list[Completion]:
        prompts = {"input_ids": [request.prompt_ids for request in batch]}
        padded = self.tokenizer.pad(prompts, padding_side="left", return_tensors="pt").to(self.model.device)
        sampling = self._processors([request.seed for request in batch])
        with dropping_ended_rows(self.model, self.model.generation_config):
            output = self.model.generate(
                input_ids=padded["input_ids"], attention_mask=padded["attention_mask"], logits_processor=sampling
            )
        return [self._completion(ids) for ids in output[:, padded["input_ids"].shape[1] :].tolist()]

    def _processors(self, seeds: Sequence[int]) -> LogitsProcessorList:
        config, processors = self.config, LogitsProcessorList()
        if config.temperature == 0:
            return processors
        if config.temperature != 1:
            processors.append(TemperatureLogitsWarper(config.temperature))
        if config.top_k:
            processors.append(TopKLogitsWarper(config.top_k))
        if config.top_p < 1:
            processors.append(TopPLogitsWarper(config.top_p))
        processors.append(SeededSampling(seeds, self.model.device))
        return processors

    def _completion(self, ids: list[int]) -> Completion:
        end = next((position for position, token in enumerate(ids) if token in self.eos_ids), None)
        num_tokens = len(ids) if end is None else end + 1
        (text,) = self.tokenizer.batch_decode([ids[:num_tokens]], skip_special_tokens=True)
        return Completion(text, num_tokens, is_truncated=end is None)


def load_model(files: ModelFiles, dtype: str) -> Any:
    """A whole model, or a base model with its adapter, on the accelerator if there is one."""
    model: Any = AutoModelForCausalLM.from_pretrained(
        files.base,
        revision=files.base_revision,
        trust_remote_code=files.trust_remote_code,
        dtype=dtype,
        device_map="auto",
    )
    if files.adapter is not None:
        # Without the wrapper, which generates by settings of its own: the layers of the adapter are in the model.
        model = PeftModel.from_pretrained(model, files.name, revision=files.revision).get_base_model()
    return model.eval()
