"""A rollout being trained on: how its rows are spread over optimizer steps, micro-batches and processes."""

from dataclasses import dataclass

import torch
from accelerate import Accelerator

from ..distributed.all_to_all import all_to_all
from ..run.checkpoint import CheckpointError, load_state
from .micro_batches import PADDING_ROW, Lengths, Partition, micro_batch_tokens, partition_balanced, partition_equal
from .optimizer_steps import group_weights, step_denominators
from .padding import Row, loss_mask, padding_row, unpad


@dataclass
class RolloutPlan:
    """
    What every process knows of the whole rollout. Rows are numbered in draw order, groups contiguous.

    `steps` are the rows of each optimizer step, `partitions` their micro-batches, `denominators` what their summed
    token losses are divided by; `trained_tokens` are the tokens of each row that enter the loss.
    """

    lengths: list[Lengths]
    trained_tokens: list[int]
    steps: list[list[int]]
    partitions: list[Partition]
    denominators: list[float]

    @classmethod
    def build(
        cls,
        lengths: list[Lengths],
        trained_tokens: list[int],
        steps: list[list[int]],
        *,
        num_processes: int,
        num_micro_batches: int,
        num_generations: int,
        token_normalization: str,
        is_balanced: bool,
        has_equal_rows: bool,
    ) -> "RolloutPlan":
        """Partitions the optimizer steps into micro-batches and computes their denominators."""
        partitions = []
        for rows in steps:
            of_step = [lengths[row] for row in rows]
            if is_balanced and not has_equal_rows:
                partition = partition_balanced(of_step, num_processes, num_micro_batches)
            else:
                partition = partition_equal(of_step, num_processes, num_micro_batches, is_sorted=is_balanced)
            partitions.append(_renumber(partition, rows))
        num_groups = len(lengths) // num_generations
        denominators = step_denominators(steps, trained_tokens, token_normalization, num_groups)
        return cls(lengths, trained_tokens, steps, partitions, denominators)

    def owners(self) -> dict[int, int]:
        """The process that trains on each row."""
        return {
            row: process
            for partition in self.partitions
            for process, micro_batches in enumerate(partition)
            for rows in micro_batches
            for row in rows
            if row != PADDING_ROW
        }

    def num_trained_tokens(self, step: int, micro_batch: int) -> int:
        """Tokens that enter the loss of the k-th micro-batches of all processes together."""
        rows = [row for process in self.partitions[step] for row in process[micro_batch]]
        return sum(self.trained_tokens[row] for row in rows if row != PADDING_ROW)

    def row_mean_scale(self, step: int) -> float:
        """By how much a mean over a step's rows, padding rows included, is too small: 1 without padding rows."""
        num_slots = sum(len(rows) for process in self.partitions[step] for rows in process)
        return num_slots / len(self.steps[step])

    def padding_metrics(self) -> dict[str, float]:
        """`efficiency` (useful tokens / computed tokens, all processes) and `max_micro_batch_tokens`."""
        computed = [
            micro_batch_tokens(rows, self.lengths)
            for partition in self.partitions
            for process in partition
            for rows in process
        ]
        useful = sum(sum(length) for length in self.lengths)
        return {"efficiency": useful / sum(computed), "max_micro_batch_tokens": max(computed)}


def _renumber(partition: Partition, rows: list[int]) -> Partition:
    """From positions in a step to row numbers of the rollout."""
    return [
        [
            [PADDING_ROW if position == PADDING_ROW else rows[position] for position in positions]
            for positions in micro_batches
        ]
        for micro_batches in partition
    ]


@dataclass
class Rollout:
    """This process's rows of a rollout, by number, and a row that weighs nothing, with the same tensors."""

    plan: RolloutPlan
    rows: dict[int, Row]
    padding_row: Row

    @classmethod
    def distribute(
        cls, scored: dict[str, torch.Tensor], plan: RolloutPlan, accelerator: Accelerator, pad_token_id: int
    ) -> "Rollout":
        """Moves every row to the process that trains on it; rows beyond the plan are padding rows and stay behind."""
        rows, owners = unpad(scored), plan.owners()
        outgoing: list[list[tuple[int, Row]]] = [[] for _ in range(accelerator.num_processes)]
        for number, row in enumerate(rows, start=accelerator.process_index * len(rows)):
            if number in owners:
                outgoing[owners[number]].append((number, row))
        return cls(plan, dict(all_to_all(outgoing, accelerator)), padding_row(rows[0], pad_token_id))

    def micro_batch(self, step: int, process: int, micro_batch: int) -> list[Row]:
        """Rows of one micro-batch, padding rows included."""
        numbers = self.plan.partitions[step][process][micro_batch]
        return [self.padding_row if number == PADDING_ROW else self.rows[number] for number in numbers]


def gather_lengths(scored: dict[str, torch.Tensor], accelerator: Accelerator) -> tuple[list[Lengths], list[int]]:
    """Lengths and trained tokens of each row of a rollout, on all processes."""
    masks = (scored["prompt_mask"], scored["completion_mask"], loss_mask(scored))
    counts = accelerator.gather(torch.stack([mask.sum(dim=1) for mask in masks], dim=1)).tolist()
    # A row that is masked out keeps one completion token: see `unpad`.
    return [Lengths(prompt, max(1, completion)) for prompt, completion, _ in counts], [row[2] for row in counts]


def weigh_by_group(scored: dict[str, torch.Tensor], accelerator: Accelerator, num_generations: int) -> torch.Tensor:
    """Advantages `(B,)` with the weights of Eq. 8, see [`group_weights`]; groups are contiguous over processes."""
    weights = group_weights(accelerator.gather(loss_mask(scored).sum(dim=1)), num_generations)
    return scored["advantages"] * weights.chunk(accelerator.num_processes)[accelerator.process_index]


def buffered_denominators(
    batches: list[dict[str, torch.Tensor]],
    accelerator: Accelerator,
    num_steps: int,
    token_normalization: str,
    num_groups: int,
) -> torch.Tensor:
    """`(num_steps,)`: denominators for micro-batches as TRL makes them, equally many to each of a rollout's steps."""
    tokens = torch.stack([loss_mask(batch).sum() for batch in batches]).view(num_steps, -1).sum(dim=1)
    tokens = accelerator.reduce(tokens, reduction="sum")
    steps = [[step] for step in range(num_steps)]
    denominators = step_denominators(steps, tokens.tolist(), token_normalization, num_groups)
    return torch.tensor(denominators, device=tokens.device)


# As a checkpoint stores it: compact, and read by any number of processes


def check_same_rollouts(state: dict, checkpoint: str, optimizer_steps: int) -> None:
    """A rollout in use cannot be split into another number of optimizer steps than it was begun with."""
    written = state["optimizer_steps_per_rollout"]
    if written != optimizer_steps:
        raise CheckpointError(
            f"{checkpoint} was written with {written} optimizer steps per rollout, but this run has {optimizer_steps} "
            "(updates_per_rollout * num_iterations). Resume with the same updates_per_rollout and num_iterations."
        )


def rollout_state(rollout: Rollout) -> dict:
    """A rollout as [`torch.save`] stores it compactly: the rows' tensors end to end, token ids as int32."""
    numbers, plan = sorted(rollout.rows), rollout.plan
    rows = [rollout.rows[number] for number in numbers]
    return {
        "lengths": torch.tensor(plan.lengths, dtype=torch.int32),
        "trained_tokens": torch.tensor(plan.trained_tokens, dtype=torch.int32),
        "steps": [torch.tensor(rows, dtype=torch.int32) for rows in plan.steps],
        "numbers": numbers,
        "rows": {name: _end_to_end(name, [row[name] for row in rows]) for name in (rows[0] if rows else [])},
        "padding_row": rollout.padding_row,
    }


def _end_to_end(name: str, tensors: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    values = torch.cat(tensors)
    if name.endswith("_mask"):
        values = values.to(torch.int8)
    elif name.endswith("_ids"):
        values = values.to(torch.int32)
    return {"values": values, "sizes": torch.tensor([tensor.numel() for tensor in tensors], dtype=torch.int32)}


def rows_from_state(state: dict) -> dict[int, Row]:
    """The rows of a rollout, by number, from what [`rollout_state`] returned."""
    columns = {}
    for name, stored in state["rows"].items():
        values = stored["values"].to(state["padding_row"][name].dtype)
        columns[name] = values.split(stored["sizes"].tolist())
    return {number: {name: column[i] for name, column in columns.items()} for i, number in enumerate(state["numbers"])}


def plan_inputs_from_state(state: dict) -> tuple[list[Lengths], list[int], list[list[int]]]:
    """`lengths`, `trained_tokens` and `steps`: what [`RolloutPlan`] makes the same plan from."""
    return (
        [Lengths(*length) for length in state["lengths"].tolist()],
        state["trained_tokens"].tolist(),
        [rows.tolist() for rows in state["steps"]],
    )


def restore_rollout(checkpoint: str, state: dict, plan: RolloutPlan, process: int) -> Rollout:
    """The rollout in use on one process, for a plan made for the present number of processes."""
    mine = {row for row, owner in plan.owners().items() if owner == process}
    rows = rows_from_state(state["rollout"])
    # Written by another number of processes: the rows may be in any of its files.
    for writer in range(state["num_processes"]):
        if mine <= rows.keys():
            break
        other = load_state(checkpoint, writer)
        rows |= rows_from_state(other["rollout"]) if other else {}
    if not mine <= rows.keys():
        raise CheckpointError(
            f"{checkpoint} lacks {len(mine - rows.keys())} rows of the rollout in use: the files of some of its "
            f"{state['num_processes']} processes are missing. Put them back, or resume from another checkpoint."
        )
    return Rollout(plan, {number: rows[number] for number in mine}, state["rollout"]["padding_row"])
