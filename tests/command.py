"""What a run of the `dapo_trl.train` command needs: a saved model that `AutoTokenizer` can read, data, a recipe."""

import json
from pathlib import Path
from typing import Any

import yaml
from transformers import LlamaConfig, LlamaForCausalLM, set_seed

from .helpers import EOS, VOCABULARY, char_tokenizer


PROBLEMS = [{"problem": f"{a}+{b}=", "answer": str(a + b)} for a in range(4) for b in range(5)]

RECIPE = {
    "prompt_template": "{problem}",
    "reward_funcs": ["tests.command.starts_low"],
    "use_cpu": True,
    "bf16": False,
    "dtype": "float32",
    "gradient_checkpointing": False,
    "report_to": "none",
    "disable_tqdm": True,
    "logging_steps": 1,
    "save_strategy": "steps",
    "save_steps": 1,
    "learning_rate": 1e-3,
    "warmup_rollouts": 0,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "num_generations": 4,
    "updates_per_rollout": 2,
    "max_completion_length": 8,
    "max_steps": 3,
}
"""One rollout and a half."""


def starts_low(completion_ids: list[list[int]], **kwargs) -> list[float]:
    """A reward that a random model gets right now and then."""
    return [1.0 if ids[0] < len(VOCABULARY) // 2 else -1.0 for ids in completion_ids]


def save_model(path: Path) -> str:
    """
    A random model and its tokenizer.

    A Llama, because `AutoTokenizer` reads the tokenizer of a Qwen2 model as a `Qwen2Tokenizer`, with other token ids.
    """
    set_seed(0)
    config = LlamaConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        pad_token_id=VOCABULARY["<pad>"],
        bos_token_id=None,
        eos_token_id=EOS,
    )
    LlamaForCausalLM(config).save_pretrained(path)
    char_tokenizer().save_pretrained(path)
    return str(path)


def write_problems(path: Path) -> str:
    """A local data set of twenty sums."""
    path.write_text("".join(json.dumps(problem) + "\n" for problem in PROBLEMS))
    return str(path)


def write_recipe(path: Path, fields: dict[str, Any]) -> str:
    """A recipe: [`RECIPE`] with other fields; None takes a field out."""
    recipe = {name: value for name, value in (RECIPE | fields).items() if value is not None}
    path.write_text(yaml.safe_dump(recipe))
    return str(path)


def save_base(directory: Path) -> dict[str, str]:
    """A model and data, as the fields of a recipe that name them."""
    return {
        "model_name_or_path": save_model(directory / "model"),
        "dataset_name": write_problems(directory / "problems.jsonl"),
    }
