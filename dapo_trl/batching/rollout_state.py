"""The rollout in use as a checkpoint stores it: compact, and read by any number of processes."""

import torch

from ..run.checkpoint import CheckpointError, load_state
from . import Lengths, Row
from .rollout import Rollout, RolloutPlan


def check_same_rollouts(state: dict, checkpoint: str, optimizer_steps: int) -> None:
    """
    A rollout in use cannot be split into another number of optimizer steps than it was begun with: CheckpointError.
    """
    written = state["optimizer_steps_per_rollout"]
    if written != optimizer_steps:
        raise CheckpointError(
            f"{checkpoint} was written with {written} optimizer steps per rollout, but this run has {optimizer_steps} "
            "(updates_per_rollout * num_iterations). Resume with the same updates_per_rollout and num_iterations."
        )


def rollout_state(rollout: Rollout) -> dict:
    """A rollout as [`torch.save`] stores it compactly: the rows' tensors end to end, token ids as int32."""
    numbers = sorted(rollout.rows)
    plan = rollout.plan
    return {
        "lengths": torch.tensor(plan.lengths, dtype=torch.int32),
        "trained_tokens": torch.tensor(plan.trained_tokens, dtype=torch.int32),
        "steps": [torch.tensor(rows, dtype=torch.int32) for rows in plan.steps],
        "numbers": numbers,
        "rows": _concatenate([rollout.rows[number] for number in numbers]),
        "padding_row": rollout.padding_row,
    }


def _concatenate(rows: list[Row]) -> dict[str, dict[str, torch.Tensor]]:
    if not rows:
        return {}
    return {
        name: {"values": _compact(name, torch.cat([row[name] for row in rows])), "sizes": _sizes(rows, name)}
        for name in rows[0]
    }


def _sizes(rows: list[Row], name: str) -> torch.Tensor:
    return torch.tensor([row[name].numel() for row in rows], dtype=torch.int32)


def _compact(name: str, values: torch.Tensor) -> torch.Tensor:
    if name.endswith("_mask"):
        return values.to(torch.int8)
    return values.to(torch.int32) if name.endswith("_ids") else values


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
    """
    The rollout in use on one process, for a plan made for the present number of processes; CheckpointError if rows are
    missing.
    """
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
