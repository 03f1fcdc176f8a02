"""Weights that are no numbers any more."""

import torch
from accelerate import Accelerator
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback

from ..run.checkpoint import last_complete_checkpoint


SUMMED_TYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
"""Other types are quantized, and not trained."""

SHOWN = 3
"""Names that are shown of many."""


class NonFiniteWeightsError(RuntimeError):
    """Weights are NaN or infinite: there is nothing left to train, and nothing to save."""


@torch.no_grad()
def non_finite_parameters(model: torch.nn.Module, accelerator: Accelerator, only_trained: bool = True) -> list[str]:
    """
    Parameters that hold NaN or infinity on any process; weights may be sharded. One pass over them, without a copy.

    Args:
        model (`torch.nn.Module`): the same parameters on every process.
        accelerator (`Accelerator`): sums over processes.
        only_trained (`bool`): pass over frozen parameters.

    Returns:
        `list[str]`: their names, the same on every process.
    """
    shards = {
        name: _local(parameter)
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


def _local(parameter: torch.nn.Parameter) -> torch.Tensor:
    """What this process holds of a parameter under FSDP2 or DeepSpeed ZeRO-3; elsewhere all of it."""
    shard = getattr(parameter, "ds_tensor", parameter)
    return shard.to_local() if isinstance(shard, DTensor) else shard


class WeightsCallback(TrainerCallback):
    """
    Looks at all weights before the first step, and at the trained ones after every rollout and at the end.

    Args:
        accelerator (`Accelerator`): sums over processes.
        optimizer_steps (`int`): optimizer steps per rollout.
    """

    def __init__(self, accelerator: Accelerator, optimizer_steps: int):
        self._accelerator = accelerator
        self._optimizer_steps = optimizer_steps

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        names = non_finite_parameters(model, self._accelerator, only_trained=False)
        if names:
            raise NonFiniteWeightsError(
                f"The model has weights that are NaN or infinite before it is trained: {_listed(names)}. Load other "
                "ones: a file may be damaged, or its numbers too large for the type they were converted to (float16)."
            )

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step % self._optimizer_steps == 0 or state.global_step >= state.max_steps:
            self.check(model, state.global_step, args.output_dir)

    def check(self, model: torch.nn.Module, global_step: int, output_dir: str) -> None:
        """
        Ends the run on all processes if a trained weight is NaN or infinite.

        Raises:
            NonFiniteWeightsError: with the weights concerned, and the checkpoint to go on from.
        """
        names = non_finite_parameters(model, self._accelerator)
        if not names:
            return
        checkpoint = last_complete_checkpoint(output_dir)
        remedy = f"Resume from {checkpoint}" if checkpoint else "No checkpoint has been written: start again"
        raise NonFiniteWeightsError(
            f"Weights are NaN or infinite after optimizer step {global_step}: {_listed(names)}. The run ends, and "
            f"they are not saved. {remedy} with a lower learning_rate, and with float32 weights (dtype: float32)."
        )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
