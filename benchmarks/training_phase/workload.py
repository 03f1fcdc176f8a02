"""The same scripted rollout for GRPOTrainer and DAPOTrainer, models of two sizes, and a stopwatch for what follows."""

import itertools
import math
import random
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PrinterCallback, Qwen2Config, Qwen2ForCausalLM, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from dapo_trl import DAPOConfig, DAPOTrainer
from dapo_trl.batching.micro_batches import Lengths, micro_batch_tokens, partition_balanced
from tests.helpers import char_tokenizer, prompt_dataset


SETS = ("log-normal", "uniform", "constant")
NUM_GENERATIONS = 8
ROWS_PER_MICRO_BATCH = 4
MAX_TOKENS = 1024
VOCABULARY_SIZE = 2048

MODELS = {
    "1M": {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4, "num_attention_heads": 4},
    "10M": {"hidden_size": 320, "intermediate_size": 960, "num_hidden_layers": 7, "num_attention_heads": 5},
}


def chosen_settings(usual: list[tuple], chosen: tuple[list | None, ...], others: tuple) -> Iterable[tuple]:
    """The usual settings, or all combinations of what a command line chooses and, where it does not, of `others`."""
    if not any(chosen):
        return usual
    return itertools.product(*(one or other for one, other in zip(chosen, others, strict=True)))


def build_model(size: str) -> Qwen2ForCausalLM:
    """A randomly initialized Qwen2 of about 1 or 10 million parameters."""
    torch.manual_seed(0)
    shape = MODELS[size]
    return Qwen2ForCausalLM(
        Qwen2Config(
            **shape,
            num_key_value_heads=shape["num_attention_heads"],
            vocab_size=VOCABULARY_SIZE,
            max_position_embeddings=16384,
            pad_token_id=0,
            eos_token_id=1,
            bos_token_id=None,
            tie_word_embeddings=True,
        )
    )


def row_lengths(kind: str, num_rows: int, max_tokens: int = MAX_TOKENS, seed: int = 0) -> list[Lengths]:
    """
    Lengths of a rollout's rows.

    Args:
        kind (`str`):
            `log-normal` (median 150 tokens, sigma 0.9), `uniform` (1 to `max_tokens`), both with prompts of 20 to 80
            tokens; or `constant` (a quarter of `max_tokens` and prompts of 50 tokens, where there is no padding).
        num_rows (`int`): completions, a multiple of the group size.
        max_tokens (`int`): no completion is longer.
        seed (`int`): of the draw.

    Returns:
        `list[Lengths]`: the prompts are equal within a group.
    """
    draw = random.Random(seed)
    lengths = []
    for row in range(num_rows):
        if row % NUM_GENERATIONS == 0:
            prompt = draw.randint(20, 80) if kind != "constant" else 50
        completion = {
            "log-normal": min(max_tokens, max(1, round(draw.lognormvariate(math.log(150), 0.9)))),
            "uniform": draw.randint(1, max_tokens),
            "constant": max_tokens // 4,
        }[kind]
        lengths.append(Lengths(prompt, completion))
    return lengths


def costliest_micro_batch(trainer: str, lengths: list[Lengths]) -> int:
    """Tokens, padding included, of the costliest micro-batch when the rollout is one optimizer step."""
    if trainer == "GRPOTrainer":
        return ROWS_PER_MICRO_BATCH * sum(map(max, zip(*lengths, strict=True)))
    (cut,) = partition_balanced(lengths, num_processes=1, num_micro_batches=len(lengths) // ROWS_PER_MICRO_BATCH)
    return max(micro_batch_tokens(rows, lengths) for rows in cut)


@dataclass
class Script:
    """A `rollout_func`: rows of the given lengths, in any tokens, and the same in every call."""

    lengths: list[Lengths]

    def __call__(self, prompts: list[str], trainer: Any) -> dict[str, Any]:
        draw = random.Random(0)
        rows = self.lengths[: len(prompts)]
        prompt_ids = [draw.choices(range(2, VOCABULARY_SIZE), k=length.prompt) for length in rows]
        completion_ids = [draw.choices(range(2, VOCABULARY_SIZE), k=length.completion) for length in rows]
        return {"prompt_ids": prompt_ids, "completion_ids": completion_ids, "logprobs": None}


def odd(completion_ids: list[list[int]], **kwargs) -> list[float]:
    """A reward that half of the random completions get."""
    return [float(ids[0] % 2) for ids in completion_ids]


class StepNormalizedGRPOTrainer(GRPOTrainer):
    """
    GRPOTrainer that divides every optimizer step by its own tokens, as DAPOTrainer does, not by the rollout's average.

    Without this the weights of the two are not comparable when a rollout has several steps. It costs nothing.
    """

    def _prepare_inputs(self, generation_batch):
        earlier = self._buffered_inputs
        inputs = super()._prepare_inputs(generation_batch)
        if self._buffered_inputs is not earlier:
            size = self.args.gradient_accumulation_steps
            num_steps = self.args.steps_per_generation // size
            for start in range(0, len(self._buffered_inputs), size):
                batches = self._buffered_inputs[start : start + size]
                num_tokens = sum(batch["completion_mask"].sum() for batch in batches)
                for batch in batches:
                    batch["num_items_in_batch"] = num_tokens * num_steps
        return inputs


TRAINERS = {"GRPOTrainer": StepNormalizedGRPOTrainer, "DAPOTrainer": DAPOTrainer}


class TrainingPhase(TrainerCallback):
    """
    Seconds from the end of generation and scoring to the end of the last optimizer step.

    Attributes:
        wall (`float`): seconds that have passed.
        processor (`float`): seconds of the processor, which other work on the machine hardly changes.
    """

    def __init__(self, trainer: GRPOTrainer):
        self.wall, self.processor = 0.0, 0.0
        for name in ("_generate", "_calculate_rewards"):
            setattr(trainer, name, self._left_out(getattr(trainer, name)))
        trainer.add_callback(self)

    def on_train_begin(self, *args, **kwargs):
        self._count(-1)

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == state.max_steps:
            self._count(+1)

    def _left_out(self, function):
        def timed(*args, **kwargs):
            self._count(+1)
            result = function(*args, **kwargs)
            self._count(-1)
            return result

        return timed

    def _count(self, sign: int) -> None:
        self.wall += sign * time.perf_counter()
        self.processor += sign * time.process_time()


def build_trainer(trainer: str, model: str, lengths: list[Lengths], num_steps: int, **config) -> GRPOTrainer:
    """
    A trainer for one scripted rollout.

    Args:
        trainer (`str`): one of [`TRAINERS`].
        model (`str`): one of [`MODELS`].
        lengths (`list[Lengths]`): rows of the rollout.
        num_steps (`int`): optimizer steps into which it is divided.
        **config: further fields.

    Returns:
        `GRPOTrainer`.
    """
    fields = {
        "output_dir": tempfile.gettempdir(),
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": "none",
        "disable_tqdm": True,
        "save_strategy": "no",
        "logging_strategy": "no",
        "lr_scheduler_type": "constant",
        "learning_rate": 5e-5,
        "loss_type": "dapo",
        "epsilon_high": 0.28,
        "num_generations": NUM_GENERATIONS,
        "per_device_train_batch_size": ROWS_PER_MICRO_BATCH,
        "gradient_accumulation_steps": len(lengths) // ROWS_PER_MICRO_BATCH // num_steps,
        "steps_per_generation": len(lengths) // ROWS_PER_MICRO_BATCH,
        "max_completion_length": max(length.completion for length in lengths),
        "max_steps": num_steps,
    }
    is_ours = trainer == "DAPOTrainer"
    if is_ours:
        fields |= {"dynamic_sampling": False, "warmup_rollouts": 0}
    torch.manual_seed(0)
    built = TRAINERS[trainer](
        model=build_model(model),
        reward_funcs=odd,
        args=(DAPOConfig if is_ours else GRPOConfig)(**fields | config),
        train_dataset=prompt_dataset(len(lengths) // NUM_GENERATIONS),
        processing_class=char_tokenizer(),
        rollout_func=Script(lengths),
    )
    built.remove_callback(PrinterCallback)
    return built
