"""Trainers whose loss or weights are not finite at some step."""

from accelerate import PartialState
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback

from dapo_trl import DAPOTrainer


class NonFiniteLoss(DAPOTrainer):
    """The loss of the first micro-batch of one optimizer step is not finite, on all processes or on one."""

    value, at_step, on_process = float("nan"), 4, None

    def _compute_loss(self, model, inputs):
        is_here = self.on_process in (None, self.accelerator.process_index)
        is_first = self._step % self.args.gradient_accumulation_steps == 0
        is_now = self.state.global_step + 1 == self.at_step
        self._factor = self.value if is_here and is_first and is_now else 1.0
        return super()._compute_loss(model, inputs)

    def _get_per_token_logps_and_entropies(self, *args, **kwargs):
        logps, *others = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        return logps * getattr(self, "_factor", 1.0), *others


class SpoiltWeights(TrainerCallback):
    """One weight is not finite after an optimizer step whose gradient was, on one process."""

    def __init__(self, at_step: int, value: float = float("nan"), on_process: int = 0):
        self.at_step, self.value, self.on_process = at_step, value, on_process

    def on_optimizer_step(self, args, state, control, model=None, **kwargs):
        if state.global_step + 1 == self.at_step and PartialState().process_index == self.on_process:
            weight = next(parameter for parameter in model.parameters() if parameter.requires_grad)
            shard = getattr(weight, "ds_tensor", weight).data
            shard = shard.to_local() if isinstance(shard, DTensor) else shard
            shard.view(-1)[3] = self.value
