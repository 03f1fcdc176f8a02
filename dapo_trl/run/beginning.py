"""Where a run begins: from scratch, whatever was trained before, or in a checkpoint, in the middle of a rollout."""

import math
from typing import Any

from accelerate.logging import get_logger
from accelerate.utils import set_seed

from ..distributed.all_to_all import assert_agreement
from .checkpoint import load_own_state


logger = get_logger(__name__)


def forget_earlier_run(trainer: Any, is_first: bool, makes_optimizer: bool) -> None:
    """
    Leaves nothing of an earlier `train()`, however it ended, but the weights: the second one of a trainer is the first
    one of a new trainer with these weights. An optimizer that was passed to the trainer keeps its state; one that
    Trainer makes would keep the moments of the earlier run, too.
    """
    trainer.monitor.reset()
    trainer.filter_rewards.forget_warnings()
    trainer.preemption.forget()
    trainer._step, trainer._buffered_inputs, trainer._current_train_step_time = 0, None, 0.0
    trainer._pending_extra_logs.clear()
    trainer._pending_metrics.clear()
    trainer.entropy_coef, trainer._last_world_entropy = trainer.args.entropy_coef, math.inf
    trainer._last_loaded_step = -1  # a vLLM engine holds the weights of another step, or of a step before
    if not is_first:
        if makes_optimizer:
            trainer.optimizer = None
        set_seed(trainer.args.seed, device_specific=True)  # as in the parent's constructor


def own_state(trainer: Any, is_ending: bool) -> dict[str, Any]:
    """What a checkpoint holds of [`DAPOTrainer`] beside what Trainer writes; see [`resume`]."""
    return {
        "num_processes": trainer.accelerator.num_processes,
        "is_ending": is_ending,
        "has_learnt": trainer.monitor.has_learnt,
        **trainer.batcher.state_dict(trainer.state.global_step),
        **(trainer.sampler.state_dict() if trainer.sampler else {}),
    }


def recall(trainer: Any, checkpoint: str) -> dict[str, Any]:
    """Reads [`own_state`]; without it, steps count as steps with a gradient."""
    is_written = trainer.args.owns_batches
    state = (load_own_state(checkpoint, trainer.accelerator.process_index) if is_written else None) or {}
    trainer.monitor.has_learnt = state.get("has_learnt", trainer.state.global_step > 0)
    return state


def resume(trainer: Any, checkpoint: str) -> str | None:
    """
    Goes on where a checkpoint was written.

    Returns the checkpoint, if its random state is to be read again before the next rollout: it was written when the
    data loader had begun, and a loader that begins uses the random state. Else None.
    """
    args, state = trainer.args, recall(trainer, checkpoint)
    if not args.owns_batches:
        return None
    trainer._step = trainer.state.global_step * args.gradient_accumulation_steps
    found = {"has_state": bool(state), "has_rollout": state.get("rollout") is not None}
    assert_agreement({"global_step": trainer.state.global_step, **found}, trainer.accelerator)
    if state:
        trainer.batcher.load_state_dict(state, checkpoint)
    if not state or ("prompt_stream" in state) != args.dynamic_sampling:
        logger.warning(
            f"{checkpoint} holds no state of DAPOTrainer for dynamic_sampling={args.dynamic_sampling}: it was written "
            "by another trainer, with another setting, or with save_only_model. As many prompts are passed over as "
            "were trained. A rollout in use is generated again if it is not stored."
        )
    if trainer.sampler and "prompt_stream" in state:
        trainer.sampler.load_state_dict(state)
    elif trainer.sampler:
        trainer.sampler.skip(trainer.state.global_step // args.optimizer_steps_per_rollout)
    return checkpoint if state.get("is_ending") else None
