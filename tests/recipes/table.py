"""What the recipes are, for the tests of them: where they run and what their numbers must be."""

import functools
from pathlib import Path
from typing import NamedTuple

from dapo_trl.estimation.estimate import Recipe, read_recipe


ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "recipes"

LADDER = [
    "Qwen2.5-32B/table1_1_naive_grpo.yaml",
    "Qwen2.5-32B/table1_2_overlong_filter.yaml",
    "Qwen2.5-32B/table1_3_clip_higher.yaml",
    "Qwen2.5-32B/table1_4_soft_punishment.yaml",
    "Qwen2.5-32B/table1_5_token_level_loss.yaml",
    "Qwen2.5-32B/dapo.yaml",
]
"""Rungs of Table 1, from below."""


class Numbers(NamedTuple):
    """What a rollout is made of."""

    num_processes: int
    prompts: int
    generations: int
    updates: int
    completion_tokens: int
    punished_tokens: int | None


PAPER = Numbers(32, 512, 16, 16, 20480, 4096)
NUMBERS = {
    **dict.fromkeys(LADDER, PAPER),
    **{name: PAPER._replace(punished_tokens=None) for name in LADDER[:3]},
    "Qwen2.5-32B/official_script.yaml": PAPER,
    "Qwen2.5-Math-7B/one_node.yaml": Numbers(4, 128, 16, 16, 3072, 614),
    "Qwen2.5-1.5B-Instruct/full_2x80gb.yaml": Numbers(2, 64, 16, 16, 4096, 819),
    "Qwen2.5-1.5B-Instruct/lora_24gb.yaml": Numbers(1, 32, 8, 4, 1024, 205),
    "Qwen2.5-7B-Instruct/lora_24gb.yaml": Numbers(1, 8, 8, 2, 512, 102),
    "Qwen2.5-7B-Instruct/qlora_16gb.yaml": Numbers(1, 8, 8, 2, 512, 102),
    "Qwen3-0.6B/lora_8gb.yaml": Numbers(1, 32, 8, 4, 1024, 205),
    "SmolLM2-135M-Instruct/gsm8k_lora_cpu.yaml": Numbers(1, 2, 16, 2, 48, 16),
    "Tiny/arithmetic.yaml": Numbers(1, 32, 8, 4, 32, 8),
}


@functools.cache
def read(name: str) -> Recipe:
    """A recipe as the processes it is written for would read it."""
    return read_recipe(["--config", str(RECIPES / name)], NUMBERS[name].num_processes)
