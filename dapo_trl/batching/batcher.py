"""From a scored rollout to the micro-batches of its optimizer steps."""

from typing import Any

import torch
from accelerate import Accelerator
from trl.trainer.utils import shuffle_sequence_dict

from ..checks.settings import TOKEN_LOSS_TYPES
from ..config import DAPOConfig
from .micro_batches import Lengths
from .optimizer_steps import assign_rows
from .padding import pad_rows
from .rollout import (
    Rollout,
    RolloutPlan,
    buffered_denominators,
    check_same_rollouts,
    gather_lengths,
    plan_inputs_from_state,
    restore_rollout,
    rollout_state,
)


class RolloutBatcher:
    """
    Holds the rollout in use: assigns its rows to optimizer steps, partitions these into micro-batches, and gives each
    micro-batch the count that makes TRL's normalizer exact for its optimizer step (DAPO Eq. 12).
    """

    def __init__(self, args: DAPOConfig, accelerator: Accelerator, pad_token_id: int):
        self._args = args
        self._accelerator = accelerator
        self._pad_token_id = pad_token_id
        self.rollout: Rollout | None = None

    def start(self, scored: dict[str, torch.Tensor], num_rows: int | None, global_step: int) -> RolloutPlan:
        """
        Plans the optimizer steps of a new rollout and moves each row to the process that trains on it.

        `scored` are this process's rows as TRL returns them, contiguous over processes; after `num_rows` rows of all
        processes come padding rows (None: there are none). The plan is the same on every process.
        """
        lengths, trained_tokens = gather_lengths(scored, self._accelerator)
        num_rows = num_rows or len(lengths)
        plan = self._plan(lengths[:num_rows], trained_tokens[:num_rows], self._assign(num_rows, global_step))
        self.rollout = Rollout.distribute(scored, plan, self._accelerator, self._pad_token_id)
        return plan

    def micro_batch(self, micro_step: int) -> dict[str, Any]:
        """This process's rows for a micro-step, counted from the beginning of the run, as TRL's loss takes them."""
        args, rollout, device = self._args, self.rollout, self._accelerator.device
        assert rollout is not None, "start() comes first"
        step, number = divmod(micro_step % args.steps_per_generation, args.gradient_accumulation_steps)
        rows = rollout.micro_batch(step, self._accelerator.process_index, number)
        batch: dict[str, Any] = pad_rows(rows, self._pad_token_id, device, args.pad_to_multiple_of)
        if args.loss_type not in TOKEN_LOSS_TYPES:
            batch["advantages"] *= rollout.plan.row_mean_scale(step)
        # TRL divides this by updates_per_rollout: what is left is the denominator of this optimizer step.
        num_items = rollout.plan.denominators[step] * args.updates_per_rollout
        batch["num_items_in_batch"] = torch.tensor(num_items, device=device)
        batch["num_trained_tokens"] = rollout.plan.num_trained_tokens(step, number)
        return batch

    def set_exact_denominators(self, batches: list[dict[str, torch.Tensor]]) -> None:
        """The same for micro-batches as TRL makes them, where `balance_micro_batches` is off: in place."""
        args = self._args
        if args.loss_type not in (*TOKEN_LOSS_TYPES, "vespo"):
            return
        denominators = buffered_denominators(
            batches, self._accelerator, args.updates_per_rollout, args.token_normalization, args.prompts_per_rollout
        )
        for i, batch in enumerate(batches):
            step = i // args.gradient_accumulation_steps
            batch["num_items_in_batch"] = denominators[step] * args.updates_per_rollout

    def _assign(self, num_rows: int, global_step: int) -> list[list[int]]:
        """Rows of each optimizer step, numbered in draw order."""
        num_steps, accelerator = self._args.updates_per_rollout, self._accelerator
        if self._args.dynamic_sampling:  # the same for any number of processes
            num_rollouts = global_step // self._args.optimizer_steps_per_rollout
            return assign_rows(num_rows, num_steps, seed=self._args.seed + 7919 * (num_rollouts + 1))
        # Those that the step would train under GRPOTrainer, which shuffles within each process.
        num_local = num_rows // accelerator.num_processes
        order: Any = shuffle_sequence_dict({"row": torch.arange(num_local)})["row"]  # type: ignore[dict-item]
        order = order.to(accelerator.device) + accelerator.process_index * num_local
        by_process = accelerator.gather(order).view(accelerator.num_processes, num_steps, -1)
        return by_process.transpose(0, 1).reshape(num_steps, -1).tolist()

    def _plan(self, lengths: list[Lengths], trained_tokens: list[int], steps: list[list[int]]) -> RolloutPlan:
        return RolloutPlan.build(
            lengths,
            trained_tokens,
            steps,
            num_processes=self._accelerator.num_processes,
            num_micro_batches=self._args.gradient_accumulation_steps,
            num_generations=self._args.num_generations,
            token_normalization=self._args.token_normalization,
            is_balanced=self._args.balance_micro_batches,
            has_equal_rows=self._args.loss_type not in TOKEN_LOSS_TYPES,
        )

    def state_dict(self, global_step: int) -> dict[str, Any]:
        """What a checkpoint holds of the rollout in use; nothing of one whose optimizer steps are all done."""
        steps = self._args.optimizer_steps_per_rollout
        # By optimizer steps that are done: one that an alarm has broken off is to be repeated.
        is_in_use = global_step % steps != 0
        return {
            "optimizer_steps_per_rollout": steps,
            "rollout": rollout_state(self.rollout) if self.rollout is not None and is_in_use else None,
        }

    def load_state_dict(self, state: dict[str, Any], checkpoint: str) -> None:
        """Goes on with the rollout that was in use; CheckpointError if it cannot be restored."""
        check_same_rollouts(state, checkpoint, self._args.optimizer_steps_per_rollout)
        if state["rollout"] is not None:
            plan = self._plan(*plan_inputs_from_state(state["rollout"]))
            self.rollout = restore_rollout(checkpoint, state, plan, self._accelerator.process_index)
