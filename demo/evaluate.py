"""Sampled accuracy on held-out problems, with 95% intervals."""

import math
from pathlib import Path
from statistics import fmean, stdev

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from demo.arithmetic import Sum, is_right


Z_95 = 1.96


@torch.no_grad()
def sample(model_dir: Path, problems: list[str], seed: int, max_new_tokens: int = 32) -> list[str]:
    """One completion per problem, sampled at temperature 1 from the whole distribution."""
    tokenizer = AutoTokenizer.from_pretrained(model_dir, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32).eval()
    inputs = tokenizer(problems, return_tensors="pt", padding=True)
    torch.manual_seed(seed)
    ids = model.generate(**inputs, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=max_new_tokens)
    return tokenizer.batch_decode(ids[:, inputs["input_ids"].size(1) :], skip_special_tokens=True)


def score(model_dir: Path, sums: list[Sum], seed: int) -> list[bool]:
    """Whether the model's sampled answer is right, for each of `sums`."""
    completions = sample(model_dir, [item.problem for item in sums], seed)
    return [is_right(completion, item.answer) for completion, item in zip(completions, sums, strict=True)]


def wilson_interval(num_right: int, num_problems: int) -> tuple[float, float]:
    """95% Wilson score interval of a fraction; also sound near 0 and 1, where the normal interval is not."""
    frac = num_right / num_problems
    scale = 1 + Z_95**2 / num_problems
    centre = (frac + Z_95**2 / (2 * num_problems)) / scale
    spread = frac * (1 - frac) / num_problems + Z_95**2 / (4 * num_problems**2)
    half_width = Z_95 * math.sqrt(spread) / scale
    return centre - half_width, centre + half_width


def gain_interval(before: list[bool], after: list[bool]) -> tuple[float, float]:
    """95% normal interval of the gain in accuracy, paired by problem."""
    gains = [int(new) - int(old) for old, new in zip(before, after, strict=True)]
    half_width = Z_95 * stdev(gains) / math.sqrt(len(gains))
    return fmean(gains) - half_width, fmean(gains) + half_width
