"""Adapters of a model that is spread over processes, as a vLLM server gets them."""

from typing import Any

import torch
from accelerate import Accelerator
from peft import LoraConfig, get_peft_model
from torch.nn.utils import vector_to_parameters
from transformers import TrainerCallback

from dapo_trl.generation.vllm.comparison import score_text
from tests.distributed.scenarios import trained
from tests.distributed.spread import DDP
from tests.helpers import tiny_model
from tests.recording_vllm import recording_generation


ADAPTER = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
NUM_SYNCS = 3
TEXT = list(range(5, 37))


class SendAtEnd(TrainerCallback):
    """
    Sends the weights several times when the training ends.

    Attributes:
        received (`dict[str, torch.Tensor]`): what arrived last; nothing but on the main process.
        scores (`torch.Tensor`): the trainer's log-probabilities of [`TEXT`], which it compares with the server's.
    """

    def on_train_end(self, args, state, control, model, **kwargs):
        generation, recorder = recording_generation("server", model, Accelerator())
        for _ in range(NUM_SYNCS):
            generation.sync_weights()
        self.received = recorder.received
        self.scores = score_text(model, Accelerator(), TEXT)


def trained_and_sent(spread: DDP) -> dict[str, Any]:
    """What comes out of a LoRA run on two processes, and what was sent at its end."""
    callback = SendAtEnd()
    config = {"updates_per_rollout": 4, "learning_rate": 3.0}
    result = trained(config, 2, spread, peft_config=ADAPTER, callbacks=[callback])
    return result | {"sent": callback.received, "scores": callback.scores}


def assert_merged(result: dict[str, Any]) -> None:
    """Everything was sent, as PEFT merges it in one process; the base weights are those of before the training."""
    model = get_peft_model(tiny_model(), ADAPTER)
    base = {name: value.clone() for name, value in model.named_parameters() if "lora_" not in name}
    vector_to_parameters(result["weights"], model.parameters())
    assert all(torch.equal(dict(model.named_parameters())[name], value) for name, value in base.items())
    merged = model.merge_and_unload()
    torch.testing.assert_close(result["scores"], score_text(merged, Accelerator(cpu=True), TEXT), rtol=0, atol=1e-5)
    expected = dict(merged.named_parameters())
    assert list(result["sent"]) == list(expected)
    for name, value in result["sent"].items():
        torch.testing.assert_close(value, expected[name].data, rtol=0, atol=1e-6)
    moved = [name for name, value in tiny_model().named_parameters() if not torch.equal(value, expected[name])]
    assert len(moved) == 14  # seven linear layers in each of two blocks
