"""Supervised warm start: the tiny model imitates the worked sums of a careless pupil."""

import random

import torch
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from demo.arithmetic import Sum, work_out


IGNORED = -100


def encode(tokenizer: PreTrainedTokenizerBase, problem: str, solution: str) -> tuple[list[int], list[int]]:
    """
    Token ids and labels of one supervised text; only the solution and the end of text are labels.

    Problem and solution are tokenized apart, as they are when the model later trains on its own completions.
    """
    prompt_ids = tokenizer(problem)["input_ids"]
    completion_ids = [*tokenizer(solution)["input_ids"], tokenizer.eos_token_id]
    return prompt_ids + completion_ids, [IGNORED] * len(prompt_ids) + completion_ids


def collate(rows: list[tuple[list[int], list[int]]], pad_token_id: int) -> dict[str, torch.Tensor]:
    """Right-padded model inputs, each of shape `(B, T)`."""
    longest = max(len(ids) for ids, _ in rows)
    missing = [longest - len(ids) for ids, _ in rows]
    return {
        "input_ids": torch.tensor([ids + [pad_token_id] * n for (ids, _), n in zip(rows, missing, strict=True)]),
        "attention_mask": torch.tensor([[1] * (longest - n) + [0] * n for n in missing]),
        "labels": torch.tensor([labels + [IGNORED] * n for (_, labels), n in zip(rows, missing, strict=True)]),
    }


def warm_start(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sums: list[Sum],
    seed: int,
    num_steps: int = 350,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    slip_rate: float = 0.33,
) -> list[float]:
    """
    Trains `model` in place on worked sums in which every line is wrong with probability `slip_rate`.

    The model learns how the work is written down, and to slip about as often as its texts do: what is right is left to
    the reward. The learning rate rises over 20 steps and falls to zero over the second half, so that different seeds
    start DAPO from about the same accuracy.

    Returns:
        `list[float]`: the loss of each step, in nats per token.
    """
    rng = random.Random(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
    schedule = LambdaLR(optimizer, lambda step: min((step + 1) / 20, 1.0, 2 * (num_steps - step) / num_steps))
    model.train()
    losses = []
    progress = tqdm(range(num_steps), desc="Warm start", unit="step")
    for _ in progress:
        rows = [
            encode(tokenizer, item.problem, work_out(item, rng, slip_rate)) for item in rng.choices(sums, k=batch_size)
        ]
        loss = model(**collate(rows, tokenizer.pad_token_id)).loss
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        progress.set_postfix(loss=f"{losses[-1]:.3f}")
    model.eval()
    return losses
