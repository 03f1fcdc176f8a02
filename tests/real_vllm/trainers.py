"""Trainers on a real server, and what the server says of the same text."""

import contextlib
import tempfile
from collections.abc import Iterator
from typing import Any

import httpx
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, TrainerCallback

from dapo_trl import DAPOConfig, DAPOTrainer
from tests.helpers import BASE_CONFIG, FIRST_CHARACTER, VOCABULARY, char_tokenizer

from .client import use_file_client


PROBE = list(range(FIRST_CHARACTER, FIRST_CHARACTER + 40))
"""A text whose log-probabilities are compared."""

CONFIG = BASE_CONFIG | {
    "use_vllm": True,
    "vllm_mode": "server",
    "vllm_server_timeout": 60,
    "vllm_max_retries": 0,
    "warmup_rollouts": 0,
    "learning_rate": 1e-2,
    "per_device_train_batch_size": 8,
    "updates_per_rollout": 2,
    "max_completion_length": 12,
}
"""Three rollouts of 8 groups of 4 completions and two optimizer steps, as one process trains them."""


def starts_with_a_letter(completion_ids: list[list[int]], **kwargs) -> list[float]:
    """A reward that a random model gets for half of its completions."""
    return [1.0 if ids[0] < FIRST_CHARACTER + 52 else -1.0 for ids in completion_ids]


class Hard:
    """A filter reward that is right for one completion in eight or so: many groups are all wrong."""

    __name__ = "hard"

    def __call__(self, completion_ids: list[list[int]], **kwargs) -> list[float]:
        return [1.0 if ids[0] % 8 == 0 else -1.0 for ids in completion_ids]


def build(url: str, model: Any, **fields: Any) -> DAPOTrainer:
    """A trainer on the server; `model` is a path or a model, other arguments are fields of its configuration."""
    use_file_client()
    arguments = {name: fields.pop(name) for name in ("reward_funcs", "peft_config", "eval_dataset") if name in fields}
    fields = {"vllm_server_base_url": url, "output_dir": tempfile.mkdtemp()} | fields
    if isinstance(model, str):
        model = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    return DAPOTrainer(
        model=model,
        args=DAPOConfig(**CONFIG | fields),
        train_dataset=Dataset.from_dict({"prompt": [f"p{i}={'x' * (i % 5)}" for i in range(200)]}),
        processing_class=char_tokenizer(),
        **{"reward_funcs": Hard()} | arguments,
    )


def num_groups(records: list[dict[str, float]]) -> int:
    """Groups that were generated, of which 8 are trained on in each rollout."""
    return round(8 * sum(record["dynamic_sampling/generated_per_trained"] for record in records))


@torch.no_grad()
def trainer_logps(trainer: DAPOTrainer) -> torch.Tensor:
    """The trainer's log-probabilities of [`PROBE`], in nats, from its second token on."""
    return model_logps(trainer.accelerator.unwrap_model(trainer.model))


@torch.no_grad()
def model_logps(model: torch.nn.Module) -> torch.Tensor:
    """The same of any model."""
    ids = torch.tensor([PROBE])
    was_training = model.training
    logits = model.eval()(ids).logits[0, :-1].float()
    model.train(was_training)
    return logits.log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]


def server_logps(url: str) -> torch.Tensor:
    """The same by the server."""
    model = httpx.get(f"{url}/v1/models", timeout=30).json()["data"][0]["id"]
    request = {"model": model, "prompt": PROBE, "max_tokens": 1, "prompt_logprobs": 0}
    response = httpx.post(f"{url}/v1/completions", json=request, timeout=60)
    response.raise_for_status()
    entries = response.json()["choices"][0]["prompt_logprobs"][1:]
    return torch.tensor([entry[str(token)]["logprob"] for entry, token in zip(entries, PROBE[1:], strict=True)])


class CompareAfterSync(TrainerCallback):
    """
    Compares server and trainer whenever a rollout has been generated.

    Attributes:
        differences (`list[float]`): the largest difference in nats at each rollout.
        moved (`list[float]`): how far the trainer's log-probabilities have moved since the first.
    """

    def __init__(self):
        self.differences: list[float] = []
        self.moved: list[float] = []

    @contextlib.contextmanager
    def watching(self, trainer: DAPOTrainer, url: str) -> Iterator[None]:
        generate, first = trainer._generate_and_score_completions, None

        def generate_and_compare(inputs):
            nonlocal first
            scored = generate(inputs)
            if trainer.accelerator.is_main_process:
                logps = trainer_logps(trainer)
                first = logps if first is None else first
                self.differences.append((server_logps(url) - logps).abs().max().item())
                self.moved.append((logps - first).abs().max().item())
            return scored

        trainer._generate_and_score_completions = generate_and_compare
        try:
            yield
        finally:
            del trainer._generate_and_score_completions


def train_and_compare(trainer: DAPOTrainer, url: str) -> CompareAfterSync:
    """Trains, comparing after each sync."""
    comparison = CompareAfterSync()
    with comparison.watching(trainer, url):
        trainer.train()
    return comparison


assert len(VOCABULARY) > PROBE[-1]
