"""Ways to generate the same scripted lengths with Transformers: TRL's, ours, and others."""

import functools
import random
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, LogitsProcessor, LogitsProcessorList, PreTrainedModel
from trl import GRPOTrainer

from benchmarks.training_phase.workload import MAX_TOKENS, MODELS, VOCABULARY_SIZE, build_model, row_lengths
from dapo_trl import DAPOTrainer
from dapo_trl.batching.micro_batches import Lengths
from tests.helpers import EOS, build


FIRST_ROW = 8
"""The prompt of row i ends with the token FIRST_ROW + i, so that a row is known wherever it stands in the batch."""


class ScriptedEnd(LogitsProcessor):
    """
    Ends every row at its length and nowhere else.

    Args:
        lengths (`list[Lengths]`): of the rows.

    Attributes:
        prompt_width (`int`): tokens of the padded prompts of the next call.
    """

    def __init__(self, lengths: list[Lengths]):
        self.completion_lengths = torch.tensor([length.completion for length in lengths])
        self.prompt_width = 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores of shape `(B, V)`."""
        rows = input_ids[:, self.prompt_width - 1] - FIRST_ROW
        is_end = self.completion_lengths[rows] == input_ids.shape[1] - self.prompt_width + 1
        scores[:, EOS] = -torch.inf
        scores[is_end] = -torch.inf
        scores[is_end, EOS] = 0
        return scores


def rollout_lengths(kind: str, num_rows: int, max_tokens: int) -> list[Lengths]:
    """Those of [`row_lengths`], with completions scaled from at most 1024 tokens to at most `max_tokens`."""
    lengths = row_lengths(kind, num_rows)
    return [Lengths(row.prompt, -(-row.completion * max_tokens // MAX_TOKENS)) for row in lengths]


def make_prompts(lengths: list[Lengths]) -> list[list[int]]:
    """Random tokens, and the one that names the row."""
    draw = random.Random(0)
    tokens = range(FIRST_ROW, VOCABULARY_SIZE)
    return [[*draw.choices(tokens, k=row.prompt - 1), FIRST_ROW + i] for i, row in enumerate(lengths)]


def load_model(name: str, dtype: str) -> PreTrainedModel:
    """One of [`MODELS`] or a directory."""
    if name in MODELS:
        return build_model(name).to(getattr(torch, dtype))
    return AutoModelForCausalLM.from_pretrained(Path(name), dtype=dtype)


class Workload:
    """
    One rollout to generate.

    Args:
        model (`PreTrainedModel`): what generates.
        lengths (`list[Lengths]`): tokens of prompts and completions.
    """

    def __init__(self, model: PreTrainedModel, lengths: list[Lengths]):
        self.model, self.lengths = model, lengths
        self.prompts = make_prompts(lengths)
        self._script = ScriptedEnd(lengths)

    def way(self, name: str) -> Callable[[], list[int]]:
        """A function that generates in one of [`WAYS`] and returns the tokens of each completion."""
        return WAYS[name](self)

    def trainer(self, cls: type[GRPOTrainer], **config) -> GRPOTrainer:
        """A trainer whose model ends completions as told."""
        fields = {"max_completion_length": max(row.completion for row in self.lengths), "num_generations": 8}
        if cls is DAPOTrainer:
            fields["dynamic_sampling"] = False
        trainer = build(cls, fields | config, model=self.model, rollout_func=None)
        return trainer

    def generate(self, trainer: GRPOTrainer, num_batches: int = 1) -> list[int]:
        """By TRL's generation; with several batches, sorted by the length of the prompts."""
        order = list(range(len(self.prompts)))
        if num_batches > 1:
            order.sort(key=lambda row: len(self.prompts[row]))
        size, found = len(order) // num_batches, {}
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            found |= zip(rows, self._generate_batch(trainer, [self.prompts[row] for row in rows]), strict=True)
        return [found[row] for row in range(len(order))]

    def _generate_batch(self, trainer: GRPOTrainer, prompts: list[list[int]]) -> list[int]:
        self._script.prompt_width = max(map(len, prompts))
        processors = LogitsProcessorList([self._script])
        self.model.generate = functools.partial(type(self.model).generate, self.model, logits_processor=processors)
        try:
            completions, _ = trainer._generate_single_turn(prompts, None, {}, num_generations=8)
        finally:
            del self.model.generate
        return [len(ids) for ids in completions]

    def generate_continuously(self, trainer: GRPOTrainer) -> list[int]:
        """
        By Transformers' continuous batching, as TRL sets it up.

        It takes no processor that knows rows: each row's length is its limit.
        """
        config, batching = trainer.generation_config, trainer.continuous_batching_config
        with torch.no_grad(), self.model.continuous_batching_context_manager(config, True, None, batching) as manager:
            for row, prompt in zip(self.lengths, self.prompts, strict=True):
                manager.add_request(prompt, max_new_tokens=row.completion, eos_token_id=-1)
            results = [manager.get_result(timeout=3600) for _ in self.prompts]
        by_row = {result.prompt_ids[-1] - FIRST_ROW: len(result.generated_tokens) for result in results}
        return [by_row[row] for row in range(len(self.prompts))]


def _with_trl(workload: Workload, num_batches: int = 1, **config) -> Callable[[], list[int]]:
    return functools.partial(workload.generate, workload.trainer(GRPOTrainer, **config), num_batches)


def _with_ours(workload: Workload) -> Callable[[], list[int]]:
    return functools.partial(workload.generate, workload.trainer(DAPOTrainer))


def _continuously(workload: Workload) -> Callable[[], list[int]]:
    trainer = workload.trainer(GRPOTrainer, use_transformers_continuous_batching=True)
    return functools.partial(workload.generate_continuously, trainer)


WAYS = {
    "TRL's default": _with_trl,
    "ended rows leave the batch": _with_ours,
    "4 batches, sorted by prompt": functools.partial(_with_trl, num_batches=4),
    "static cache": functools.partial(_with_trl, cache_implementation="static"),
    "continuous batching": _continuously,
}
"""From a workload to a function that generates it."""
