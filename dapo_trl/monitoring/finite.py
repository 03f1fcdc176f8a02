"""Losses, gradients and weights that are NaN or infinite: nothing bad is trained on, and nothing good is lost."""

import math
from typing import Any

import torch
from accelerate import Accelerator
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback

from ..run.checkpoint import last_complete_checkpoint
from .alarms import AlarmCallback, AlarmError


SUMMED_TYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
"""Other types are quantized, and not trained."""

MAX_OVERFLOWS = 20
"""Gradients in a row that overflow in float16. The first ones do, until the scale of the loss has come down."""

SHOWN = 3
"""Names that are shown of many."""


class NonFiniteWeightsError(RuntimeError):
    """Weights are NaN or infinite: there is nothing left to train, and nothing to save."""


@torch.no_grad()
def non_finite_parameters(model: torch.nn.Module, accelerator: Accelerator, only_trained: bool = True) -> list[str]:
    """Parameters, maybe sharded, that hold NaN or infinity on any process; one pass, without a copy."""
    shards = {
        name: _local(getattr(parameter, "ds_tensor", parameter))  # DeepSpeed ZeRO-3 keeps the shard there
        for name, parameter in model.named_parameters()
        if parameter.requires_grad or not only_trained
    }
    # A sum is finite only if all its terms are.
    is_finite = {
        name: shard.sum(dtype=torch.promote_types(shard.dtype, torch.float32)).isfinite().to(accelerator.device)
        for name, shard in shards.items()
        if shard.dtype in SUMMED_TYPES
    }
    if not is_finite:
        return []
    counts = accelerator.reduce((~torch.stack(list(is_finite.values()))).int(), reduction="sum")
    return [name for name, count in zip(is_finite, counts.tolist(), strict=True) if count]


def _local(tensor: torch.Tensor) -> torch.Tensor:
    """What this process holds of a tensor that FSDP2 shards."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def non_finite_step(step: int, loss: float, grad_norm: float | None, num_overflows: int) -> tuple[str, str] | None:
    """
    Name and text of the alarm of an optimizer step whose loss or gradient is NaN or infinite, or None.

    A norm of None is not known; `num_overflows` gradients in a row, this one included, are the loss scaler's affair.
    """
    if not math.isfinite(loss):
        name, reason = "non_finite_loss", f"The loss of optimizer step {step} is {loss}."
    elif grad_norm is not None and not math.isfinite(grad_norm) and not 0 < num_overflows <= MAX_OVERFLOWS:
        name = "non_finite_grad_norm"
        reason = f"The gradient norm (grad_norm) of optimizer step {step} is {grad_norm}."
    else:
        return None
    return name, (
        f"{reason} The step is left out, because it would make all weights NaN. Lower learning_rate and beta, do not "
        "sample at a very low temperature, look for huge rewards, and compute in bfloat16 or float32, not in float16."
    )


class FiniteCallback(TrainerCallback):
    """
    Leaves out optimizer steps whose loss or gradient is NaN or infinite, with an alarm, and ends the run when weights
    are: all weights are looked at before the first step, the trained ones after every rollout and at the end.
    """

    def __init__(self, accelerator: Accelerator, alarms: AlarmCallback, args: Any):
        self._accelerator = accelerator
        self._alarms = alarms
        self._args = args
        self._reset()

    def _reset(self) -> None:
        self._loss: torch.Tensor | float = 0.0  # of the optimizer step so far, on this process
        self._num_overflows = 0

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self._reset()
        names = non_finite_parameters(model, self._accelerator, only_trained=False)
        if names:
            raise NonFiniteWeightsError(
                f"The model has weights that are NaN or infinite before it is trained: {_listed(names)}. Load other "
                "ones: a file may be damaged, or its numbers too large for the type they were converted to (float16)."
            )

    def add_loss(self, loss: torch.Tensor, model: torch.nn.Module, global_step: int) -> None:
        """Takes the loss of one micro-batch."""
        self._loss = self._loss + loss.detach()
        if self._has_deepspeed and not self._args.fp16:
            # DeepSpeed takes the step at the end of the backward pass, so that it cannot be left out later.
            self._check_step(model, global_step, grad_norm=None)

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        if not self._check_step(model, state.global_step, self._gradient_norm(model)):
            model.zero_grad()  # an optimizer passes over weights without gradient
        self._loss = 0.0

    @property
    def _has_deepspeed(self) -> bool:
        return self._accelerator.distributed_type == "DEEPSPEED"

    @torch.no_grad()
    def _gradient_norm(self, model: torch.nn.Module) -> float:
        """After clipping, and so too large by up to the number of processes; what counts is whether it is finite."""
        if self._has_deepspeed:
            return float(self._accelerator.clip_grad_norm_(model.parameters(), math.inf))
        gradients = [_local(parameter.grad) for parameter in model.parameters() if parameter.grad is not None]
        squares = torch.nn.utils.get_total_norm(gradients).float().square().to(self._accelerator.device)
        return self._accelerator.reduce(squares, reduction="sum").sqrt().item()

    def _check_step(self, model: torch.nn.Module, global_step: int, grad_norm: float | None) -> bool:
        """Whether loss and gradient of an optimizer step, all processes together, are finite; else an alarm."""
        loss = torch.as_tensor(self._loss, dtype=torch.float32, device=self._accelerator.device)
        loss = self._accelerator.reduce(loss, reduction="sum").item()
        is_overflow = self._args.fp16 and grad_norm is not None and not math.isfinite(grad_norm)
        self._num_overflows = self._num_overflows + 1 if is_overflow else 0
        found = non_finite_step(global_step + 1, loss, grad_norm, self._num_overflows)
        if found is None:
            return True
        self._loss = 0.0
        name, message = found
        self._alarms.raise_now(name, message, global_step)
        if self._has_deepspeed and grad_norm is not None:
            # The step has been taken, unless DeepSpeed has left it out.
            self.check_weights(model, global_step + 1)
        elif self._args.on_alarm == "stop" or self._has_deepspeed:
            raise AlarmError(message)
        return False

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step % args.optimizer_steps_per_rollout == 0 or state.global_step >= state.max_steps:
            self.check_weights(model, state.global_step)

    def check_weights(self, model: torch.nn.Module, global_step: int) -> None:
        """Ends the run on all processes if a trained weight is NaN or infinite: NonFiniteWeightsError."""
        names = non_finite_parameters(model, self._accelerator)
        if not names:
            return
        checkpoint = last_complete_checkpoint(self._args.output_dir)
        remedy = f"Resume from {checkpoint}" if checkpoint else "No checkpoint has been written: start again"
        raise NonFiniteWeightsError(
            f"Weights are NaN or infinite after optimizer step {global_step}: {_listed(names)}. The run ends, and "
            f"they are not saved. {remedy} with a lower learning_rate, and with float32 weights (dtype: float32)."
        )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
