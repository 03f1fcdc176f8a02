"""Rows without padding, and micro-batches padded to their own longest row."""

import torch
from torch.nn.utils.rnn import pad_sequence


Row = dict[str, torch.Tensor]
"""One row of TRL's batch without padding: 1-D tensors, the scalar `advantages` as a tensor of one element."""


def loss_mask(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Tokens that enter the loss, `(B, T)`: not those of an environment, nor those of masked completions."""
    mask = batch["completion_mask"]
    return mask * batch["tool_mask"] if "tool_mask" in batch else mask


def neutral_logps(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """
    The batch with 0 for all log-probabilities, `(B, T)`, of tokens that do not enter the loss.

    TRL takes exponentials of differences of log-probabilities (importance ratio, KL divergence) before it masks, and
    infinity times 0 is NaN. With 0 for the policy's own log-probabilities too, every difference is 0 there.
    """
    is_masked = ~loss_mask(batch).bool()
    logps = {name: value for name, value in batch.items() if name.endswith("_per_token_logps")}
    return batch | {name: value.masked_fill(is_masked, 0) for name, value in logps.items()}


def unpad(batch: dict[str, torch.Tensor]) -> list[Row]:
    """
    Splits a batch as TRL pads it (prompts left, completions right) into B rows without padding, on the CPU.

    Lengths follow the attention masks, not the loss mask: tokens that are context but not trained on stay. One
    completion token at least stays of a row that is masked out, because a loss over no columns is not defined. Prompts
    are `(B, P)`, other tensors `(B, T)`, `(B, 1)` or `(B,)`; zero-dimensional ones are left out.
    """
    batch = {name: tensor.cpu() for name, tensor in batch.items() if tensor.dim() > 0}
    prompt_lengths = batch["prompt_mask"].sum(dim=1).tolist()
    completion_lengths = batch["completion_mask"].sum(dim=1).clamp(min=1).tolist()
    rows = []
    for i, (prompt_length, completion_length) in enumerate(zip(prompt_lengths, completion_lengths, strict=True)):
        row = {}
        for name, tensor in batch.items():
            if name.startswith("prompt_"):
                row[name] = tensor[i, tensor.size(1) - prompt_length :].clone()
            else:
                row[name] = tensor[i].reshape(-1)[:completion_length].clone()
        rows.append(row)
    return rows


def padding_row(like: Row, pad_token_id: int) -> Row:
    """A row of one prompt and one completion token that is not trained on, with the tensors that `like` has."""
    row = {name: torch.zeros(1, dtype=tensor.dtype) for name, tensor in like.items()}
    row["prompt_ids"] += pad_token_id
    row["completion_ids"] += pad_token_id
    row["prompt_mask"] += 1
    return row


def pad_rows(
    rows: list[Row], pad_token_id: int, device: torch.device, pad_to_multiple_of: int | None = None
) -> dict[str, torch.Tensor]:
    """
    The inverse of [`unpad`]: one micro-batch, as wide as its longest row, as TRL's loss expects it.

    A long prompt and a long completion in different rows do not add up: prompts have the columns that the longest
    completion leaves, and the end of a prompt that needs more goes to the completion's columns, as context which is
    not trained on (0 in `tool_mask`).
    """
    longest = max(row["completion_ids"].numel() for row in rows)
    width = max(row["prompt_ids"].numel() + row["completion_ids"].numel() for row in rows)
    # One value per row: `advantages`, and a sequence-level importance ratio.
    scalars = {name for name in rows[0] if longest > 1 and all(row[name].numel() == 1 for row in rows)}
    scalars = {"advantages"} | {name for name in scalars if not name.startswith("prompt_")}
    if any(row["prompt_ids"].numel() > width - longest for row in rows):
        rows = [_move_end_of_prompt(row, width - longest, scalars) for row in rows]
    batch = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        if name in scalars:
            batch[name] = (torch.cat(values) if name == "advantages" else torch.stack(values)).to(device)
            continue
        is_prompt = name.startswith("prompt_")
        side = "left" if is_prompt else "right"
        padding_value = pad_token_id if name.endswith("_ids") else 0
        padded = pad_sequence(values, batch_first=True, padding_value=padding_value, padding_side=side)
        # TRL takes tensors of one column for one value per row, so completions get two at least.
        missing = max(0, (1 if is_prompt else 2) - padded.size(1))
        if pad_to_multiple_of:
            missing += -(padded.size(1) + missing) % pad_to_multiple_of
        columns = (missing, 0) if is_prompt else (0, missing)
        batch[name] = torch.nn.functional.pad(padded, columns, value=padding_value).to(device)
    return batch


def _move_end_of_prompt(row: Row, num_prompt_columns: int, scalars: set[str]) -> Row:
    """What a prompt has beyond its columns goes before the completion; all rows get a `tool_mask`."""
    end = {name: row[name][num_prompt_columns:] for name in ("prompt_ids", "prompt_mask")}
    before = {"completion_ids": end["prompt_ids"], "completion_mask": end["prompt_mask"]}
    moved = {}
    for name, value in ({"tool_mask": torch.ones_like(row["completion_mask"])} | row).items():
        if name in scalars:
            moved[name] = value
        elif name in end:
            moved[name] = value[:num_prompt_columns]
        else:
            context = before.get(name, value.new_zeros(end["prompt_ids"].numel()))
            moved[name] = torch.cat([context, value])
    return moved
