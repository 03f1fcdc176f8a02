"""Completions collected over the rounds of a rollout, until they are handed to TRL as if generated in one call."""

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from ..distributed.all_to_all import all_to_all
from .refill import GroupPool


STATUS_COLUMN = "dynamic_sampling"
"""Column of the completions table: `kept`, or why a row was dropped."""


@dataclass
class GeneratedRow:
    """One completion, and what TRL's scoring step needs of it."""

    inputs: dict[str, Any]
    prompt_ids: list[int]
    completion_ids: list[int]
    completion: Any
    tool_mask: list[int] | None = None
    logprobs: list[float] | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def num_tokens(self) -> int:
        """Tokens that the model generated."""
        return len(self.completion_ids) if self.tool_mask is None else sum(self.tool_mask)


@dataclass
class Collection:
    """The rows of a rollout that is being filled: this process's rows by number, and all processes' rewards."""

    num_generations: int
    keeps_dropped: bool
    rows: dict[int, GeneratedRow] = field(default_factory=dict)
    rewards: list[torch.Tensor] = field(default_factory=list)
    calls: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    lengths: dict[int, int] = field(default_factory=dict)

    @property
    def num_rows(self) -> int:
        """Rows generated so far, on all processes."""
        return sum(len(rewards) for rewards in self.rewards)

    def add_call(
        self, rows: list[GeneratedRow], process: int, rewards: torch.Tensor, metrics: dict[str, float]
    ) -> None:
        """Takes a generation call: this process's contiguous share of rows, `(R * B, F)` rewards, its metrics."""
        first = self.num_rows + process * len(rows)
        self.rows.update({first + i: row for i, row in enumerate(rows)})
        self.lengths.update({first + i: row.num_tokens for i, row in enumerate(rows)})
        self.rewards.append(rewards)
        self.calls.append((len(rewards), metrics))

    def drop_rejected(self, pool: GroupPool) -> None:
        """Lets go of the rows that will not be trained on, unless they are wanted for the table."""
        if self.keeps_dropped:
            return
        self.rows = {number: row for number, row in self.rows.items() if self.status(number, pool) == "kept"}

    def status(self, number: int, pool: GroupPool) -> str:
        """What became of a row: see [`GroupPool.status`]."""
        return pool.status(number // self.num_generations)

    def rewards_per_func(self) -> torch.Tensor:
        """`(P * G, F)`: rewards of all rows generated so far, in draw order."""
        return torch.cat(self.rewards)

    def dropped(self, pool: GroupPool) -> list[tuple[int, GeneratedRow]]:
        """This process's rows that are not trained on, by number, each with its status among the table's columns."""
        dropped = []
        for number, row in self.rows.items():
            status = self.status(number, pool)
            if status != "kept":
                row.extra[STATUS_COLUMN] = status
                dropped.append((number, row))
        return dropped

    def kept_numbers(self, pool: GroupPool) -> list[int]:
        """Numbers of the rows of the accepted groups, in draw order, on all processes."""
        return [
            group * self.num_generations + member for group in pool.accepted for member in range(self.num_generations)
        ]


@dataclass
class CollectedBatch:
    """
    This process's share of the kept rows, answering TRL's scoring step in place of generation and reward functions.

    Whole groups are contiguous over the processes, padding rows stand at the end; `rewards` are `(R * B, F)`, of all
    processes, NaN for padding rows, of which `num_rows` does not count any.
    """

    rows: list[GeneratedRow]
    rewards: torch.Tensor
    num_rows: int
    has_logprobs: bool

    @property
    def num_padding_rows(self) -> int:
        """Padding rows on all processes."""
        return len(self.rewards) - self.num_rows

    def inputs(self) -> list[dict[str, Any]]:
        """Rows of the data set, one per completion."""
        return [row.inputs for row in self.rows]

    def generation(self) -> tuple:
        """What `GRPOTrainer._generate` returns."""
        has_mask = any(row.tool_mask is not None for row in self.rows)
        has_logprobs = self.has_logprobs or any(row.logprobs is not None for row in self.rows)
        return (
            [row.prompt_ids for row in self.rows],
            [row.completion_ids for row in self.rows],
            [row.tool_mask or [1] for row in self.rows] if has_mask else None,
            [row.completion for row in self.rows],
            [row.logprobs or [math.nan] for row in self.rows] if has_logprobs else None,
            {},
            None,
            [],
        )

    def extra_columns(self) -> dict[str, list]:
        """Columns of the completions table, one value per row."""
        return rows_to_columns([row.extra for row in self.rows])


def generated_rows(inputs: list[dict[str, Any]], generation: tuple, extra: list[dict[str, Any]]) -> list[GeneratedRow]:
    """The B rows of a generation call: rows of the data set, what `_generate` returned, logged values."""
    prompt_ids, completion_ids, tool_mask, completions, logprobs, *_ = generation
    missing = [None] * len(inputs)
    columns = (inputs, prompt_ids, completion_ids, completions, tool_mask or missing, logprobs or missing, extra)
    return [GeneratedRow(*row) for row in zip(*columns, strict=True)]


def collected_batch(
    collection: Collection, pool: GroupPool, accelerator: Accelerator, padding: GeneratedRow, has_logprobs: bool
) -> CollectedBatch:
    """
    Moves the kept rows as TRL wants them: groups contiguous over the processes, equally many rows on each; `padding`
    makes the shares of a partial rollout equal.
    """
    kept = collection.kept_numbers(pool)
    whole_groups = math.lcm(collection.num_generations, accelerator.num_processes)
    num_slots = -(-len(kept) // whole_groups) * whole_groups
    share = num_slots // accelerator.num_processes
    outgoing: list[list[tuple[int, GeneratedRow]]] = [[] for _ in range(accelerator.num_processes)]
    for position, number in enumerate(kept):
        if number in collection.rows:
            row = collection.rows[number]
            row.extra[STATUS_COLUMN] = "kept"
            outgoing[position // share].append((position, row))
    received = sorted(all_to_all(outgoing, accelerator), key=lambda item: item[0])
    rows = [row for _, row in received]
    rewards = collection.rewards_per_func()[kept]
    missing = rewards.new_full((num_slots - len(kept), rewards.size(1)), torch.nan)
    return CollectedBatch(
        rows + [padding] * (share - len(rows)), torch.cat([rewards, missing]), len(kept), has_logprobs
    )


def columns_to_rows(columns: dict[str, list], num_rows: int) -> list[dict[str, Any]]:
    """What reward functions logged with `log_extra` in one call, by row."""
    for column, values in columns.items():
        if len(values) != num_rows:
            raise ValueError(
                f"A reward function logged {len(values)} values to the column {column!r} with log_extra, but there "
                f"are {num_rows} completions. Log exactly one value per completion, under one name per function."
            )
    return [{column: values[i] for column, values in columns.items()} for i in range(num_rows)]


def rows_to_columns(rows: list[dict[str, Any]]) -> dict[str, list]:
    """The inverse of [`columns_to_rows`]; a value missing in a row is None."""
    columns: dict[str, list] = defaultdict(lambda: [None] * len(rows))
    for i, row in enumerate(rows):
        for column, value in row.items():
            columns[column][i] = value
    return dict(columns)


def padding_completion(inputs: dict[str, Any], token_id: int) -> GeneratedRow:
    """A row that makes the processes' shares equal: one token each, no reward, never trained on."""
    return GeneratedRow(inputs, [token_id], [token_id], completion="")


def merge_completion_metrics(calls: list[tuple[int, dict[str, float]]]) -> dict[str, float]:
    """
    TRL's `completions/*` metrics of several generation calls (rows, metrics) as if they had been one: means are
    weighed by rows; lengths of terminated completions count only calls in which any terminated.
    """
    num_rows = np.array([rows for rows, _ in calls])
    clipped = np.array([metrics.get("completions/clipped_ratio", 0.0) for _, metrics in calls])
    merged = {}
    for name in calls[0][1]:
        values = np.array([metrics[name] for _, metrics in calls])
        weights = num_rows * (1 - clipped) if "terminated" in name else num_rows
        present = values[weights > 0]
        if not len(present):
            merged[name] = 0.0
        elif "/min_" in name:
            merged[name] = float(present.min())
        elif "/max_" in name:
            merged[name] = float(present.max())
        else:
            merged[name] = float(np.average(values, weights=weights))
    return merged
