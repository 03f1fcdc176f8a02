"""When memory runs out in a training step, the error says what to look at and what to change."""

import pytest
import torch

from dapo_trl import DAPOTrainer
from tests.helpers import build, tiny_model


def failing_model(is_in_training_step: bool) -> torch.nn.Module:
    """A model that finds no memory, either in training steps or in generation."""

    def fail(module, args, kwargs):
        if torch.is_grad_enabled() == is_in_training_step:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    model = tiny_model()
    model.model.register_forward_pre_hook(fail, with_kwargs=True)
    return model


def notes(model: torch.nn.Module, **arguments) -> list[str]:
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory") as caught:
        build(DAPOTrainer, {"balance_micro_batches": False}, model=model, **arguments).train()
    return getattr(caught.value, "__notes__", [])


def test_a_training_step_without_memory_names_the_fields_that_lower_it():
    (note,) = notes(failing_model(is_in_training_step=True))
    assert "padding/max_micro_batch_tokens" in note
    assert "per_device_train_batch_size=4" in note
    assert "gradient_accumulation_steps=2" in note


def test_generation_without_memory_gets_no_advice_on_micro_batches():
    assert notes(failing_model(is_in_training_step=False), rollout_func=None) == []
