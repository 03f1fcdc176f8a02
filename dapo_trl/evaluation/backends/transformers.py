"""Completions from a Transformers model on this machine, in batches of prompts of similar length."""

from collections.abc import Sequence

import torch
from accelerate.utils.memory import should_reduce_batch_size
from peft import PeftModel
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from ...data.records import batches
from ...generation.compact import dropping_ended_rows
from ..config import EvaluateConfig
from ..model import ModelFiles
from ..samples import Completion, Request, Save
from .prompts import PromptEncoder


class SeededSampling(LogitsProcessor):
    r"""
    Makes the most likely token of every row a sample, by the Gumbel-max trick (https://huggingface.co/papers/1611.01144):

    $$ \arg\max_v (z_v - \log E_v) \sim \mathrm{softmax}(z), \qquad E_v \sim \mathrm{Exp}(1) $$

    Every row draws from a generator of its own, so that a completion does not depend on the rows beside it.

    Args:
        seeds (`list[int]` of length B): of the rows.
        device (`torch.device`): where the scores are.
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


class TransformersBackend:
    """
    Samples in batches, longest prompts first: what does not fit into memory shows at once.

    Args:
        config ([`EvaluateConfig`]): the settings.
        files ([`ModelFiles`]): the model.
        encoder ([`PromptEncoder`]): makes tokens of prompts.
    """

    def __init__(self, config: EvaluateConfig, files: ModelFiles, encoder: PromptEncoder):
        self.config = config
        self.encoder = encoder
        self.tokenizer = encoder.tokenizer
        self.model = load_model(files, config.dtype)
        self.eos_ids = end_tokens(self.model, self.tokenizer.eos_token_id)
        # Nothing of the model's own, such as a repetition penalty, may change what is measured.
        self.model.generation_config = GenerationConfig(
            do_sample=False,
            max_new_tokens=config.max_completion_length,
            eos_token_id=self.eos_ids,
            pad_token_id=self.tokenizer.pad_token_id,
        )

    def sample(self, requests: Sequence[Request], save: Save) -> None:
        """
        Samples a completion for every request.

        Raises:
            MemoryError: if a batch does not fit into memory; the message says what to change.
        """
        # A stable order: what is left of a stopped evaluation falls into the same batches.
        ordered = sorted(requests, key=lambda request: -len(self.encoder(request.problem_id, request.prompt)))
        for batch in batches(ordered, self.config.batch_size):
            try:
                completions = self._generate(batch)
            except RuntimeError as error:
                if not should_reduce_batch_size(error):
                    raise
                raise MemoryError(self._advice(batch)) from error
            for request, completion in zip(batch, completions, strict=True):
                save(request, completion)

    @torch.inference_mode()
    def _generate(self, batch: Sequence[Request]) -> list[Completion]:
        prompts = [self.encoder(request.problem_id, request.prompt) for request in batch]
        inputs = self.tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt")
        inputs = {name: inputs[name].to(self.model.device) for name in ("input_ids", "attention_mask")}
        with dropping_ended_rows(self.model, self.model.generation_config):
            output = self.model.generate(**inputs, logits_processor=self._processors(batch))
        return [self._completion(ids) for ids in output[:, inputs["input_ids"].shape[1] :].tolist()]

    def _processors(self, batch: Sequence[Request]) -> LogitsProcessorList:
        processors = LogitsProcessorList()
        if self.config.temperature == 0:
            return processors
        if self.config.temperature != 1:
            processors.append(TemperatureLogitsWarper(self.config.temperature))
        if self.config.top_k:
            processors.append(TopKLogitsWarper(self.config.top_k))
        if self.config.top_p < 1:
            processors.append(TopPLogitsWarper(self.config.top_p))
        processors.append(SeededSampling([request.seed for request in batch], self.model.device))
        return processors

    def _completion(self, ids: list[int]) -> Completion:
        end = next((position for position, token in enumerate(ids) if token in self.eos_ids), None)
        num_tokens = len(ids) if end is None else end + 1
        text = self.tokenizer.decode(ids[:num_tokens], skip_special_tokens=True)
        return Completion(text, num_tokens, is_truncated=end is None)

    def _advice(self, batch: Sequence[Request]) -> str:
        longest = max(len(self.encoder(request.problem_id, request.prompt)) for request in batch)
        return (
            f"Out of memory with batch_size={self.config.batch_size}, prompts of up to {longest} tokens and "
            f"max_completion_length={self.config.max_completion_length}. Give a lower --batch_size (such as "
            f"{max(1, self.config.batch_size // 2)}) or --max_completion_length, --dtype bfloat16, or --backend vllm. "
            "With another batch size the evaluation continues with what is done."
        )


def load_model(files: ModelFiles, dtype: str) -> PreTrainedModel:
    """A whole model, or a base model with its adapter, on the accelerator if there is one."""
    model = AutoModelForCausalLM.from_pretrained(
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


def end_tokens(model: PreTrainedModel, tokenizer_eos: int | None) -> list[int]:
    """Tokens that end a completion: the tokenizer's, and those of the model's generation configuration."""
    configured = model.generation_config.eos_token_id
    configured = configured if isinstance(configured, list) else [configured]
    return sorted({token for token in (*configured, tokenizer_eos) if token is not None})
