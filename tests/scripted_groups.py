"""
Groups whose completions are given as text, for tests that know which groups are trained on.

A completion starts with `R` (right), `W` (wrong), `N` (the filter reward is None) or a digit (tenths: `3` is 0.3).
Each character is one token, and `<eos>` follows unless the completion ends with `~`, which is not a token.
"""

from pathlib import Path
from typing import Any

import pandas as pd
from datasets import Dataset

from .helpers import EOS, VOCABULARY, encode_prompt


VALUES = {"R": 1.0, "W": -1.0, "N": None} | {str(tenths): tenths / 10 for tenths in range(10)}

Groups = list[list[str]] | dict[int, list[str]]
"""Completions of each prompt, by the prompt's number."""

MIXED = ["R", "WW", "RRR", "W"]
ALL_RIGHT = ["R", "RR", "RRR", "R"]
ALL_WRONG = ["W", "WW", "WWW", "W"]
MISSING = ["R", "WW", "N", "W"]


class ScriptedGroups:
    """
    A `rollout_func` that answers the prompt of each number (see [`prompts_of`]) with its group.

    Args:
        groups (`Groups`): completions of each prompt.

    Attributes:
        groups (`Groups`): as given; a test may change them between two trainings.
        num_prompts (`list[int]`): prompts of each call so far.
    """

    def __init__(self, groups: Groups):
        self.groups = groups
        self.num_prompts: list[int] = []

    def __call__(self, prompts: list[str], trainer: Any) -> dict[str, list]:
        self.num_prompts.append(len(set(prompts)))
        members = [(int(prompt[1:]), row % trainer.num_generations) for row, prompt in enumerate(prompts)]
        return {
            "prompt_ids": [encode_prompt(prompt, trainer.processing_class) for prompt in prompts],
            "completion_ids": [tokens(self.groups[group][member]) for group, member in members],
            "logprobs": None,
        }


def tokens(completion: str) -> list[int]:
    """Token ids of a scripted completion."""
    ids = [VOCABULARY[character] for character in completion.removesuffix("~")]
    return ids if completion.endswith("~") else [*ids, EOS]


def prompts_of(groups: Groups) -> Dataset:
    """One prompt per group: `p00`, `p01`, ...; all of three tokens."""
    numbers = groups if isinstance(groups, dict) else range(len(groups))
    return Dataset.from_dict({"prompt": [f"p{number:02}" for number in numbers]})


def deciding(completions: list[str], **kwargs) -> list[float | None]:
    """The filter reward: what the first character says."""
    return [VALUES[completion[0]] for completion in completions]


def read_table(output_dir: str, step: int) -> list[dict[str, Any]]:
    """The completions table of an optimizer step, row by row."""
    (path,) = (Path(output_dir) / "completions").glob(f"*_{step:05}.parquet")
    return pd.read_parquet(path).to_dict("records")
