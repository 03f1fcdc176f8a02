"""After a sync of large adapters a real server computes what the adapted model does, through vLLM's own packing."""

import os
import subprocess
import sys
from pathlib import Path

import bitsandbytes
import pytest
import torch
from accelerate import Accelerator
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from dapo_trl.generation.vllm.adapters import check_adapters
from dapo_trl.generation.vllm.client import GuardedClient
from tests.packed_transfer import receive_packed
from tests.recording_vllm import HeldClaim, recording_generation

from .client import FileClient, packed_and_unpacked
from .quantized import quantized, spare_the_cpu_path
from .trainers import model_logps, server_logps


MAX_DIFFERENCE = 1e-4
"""Nats; about 2e-6 is found."""

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
KINDS = {
    "lora": ("tied", {}),
    "lora, untied": ("untied", {}),
    "dora": ("tied", {"use_dora": True}),
    "saved norm": ("tied", {"modules_to_save": ["norm"]}),
    "saved embedding and head": ("untied", {"modules_to_save": ["embed_tokens", "lm_head"]}),
    "saved embedding and head, tied": ("tied", {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True}),
    "embedding and head": ("untied", {"target_modules": ["embed_tokens", "lm_head", "q_proj"]}),
    "embedding and head, tied": ("tied", {"target_modules": ["embed_tokens"], "ensure_weight_tying": True}),
    "parameters": ("tied", {"target_modules": ["q_proj"], "target_parameters": ["up_proj.weight"]}),
    "tokens": ("tied", {"target_modules": ["q_proj"], "trainable_token_indices": [8, 9, 20]}),
}
"""The model, and fields of the adapters."""


def with_large_adapters(model: torch.nn.Module, **config) -> PeftModel:
    """The model with adapters, the same in every process."""
    torch.manual_seed(1)
    adapted = get_peft_model(model, LoraConfig(**{"r": 8, "lora_alpha": 32, "target_modules": LINEAR} | config))
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data.add_(torch.randn_like(parameter) * 0.1)
    check_adapters(adapted, "server")
    return adapted


def sync(model: torch.nn.Module, url: str, accelerator: Accelerator, fsdp_version: int | None = None) -> None:
    """Sends the weights as the trainer does."""
    generation, _ = recording_generation("server", model, accelerator)
    generation._dist.fsdp_version = fsdp_version
    if accelerator.is_main_process:
        client = FileClient(base_url=url)
        client.init_communicator()
        generation.vllm_client = GuardedClient(client, 60.0, HeldClaim())
    generation.sync_weights()


def assert_served(model: PeftModel, url: str) -> None:
    """The server computes what the model does, which is far from what it does without its adapters."""
    expected, actual = model_logps(model), server_logps(url)
    with model.disable_adapter():
        moved = (model_logps(model) - expected).abs().max().item()
    difference = (actual - expected).abs().max().item()
    print(f"difference {difference}, moved {moved}")  # noqa: T201
    assert moved > 0.1
    assert difference < MAX_DIFFERENCE


@pytest.mark.parametrize(("name", "config"), KINDS.values(), ids=KINDS)
def test_the_server_computes_what_the_adapted_model_does(name, config, models, request):
    server = request.getfixturevalue("server" if name == "tied" else "untied_server")
    model = with_large_adapters(AutoModelForCausalLM.from_pretrained(models[name], dtype=torch.float32), **config)
    sync(model, server.url, Accelerator(cpu=True))
    assert_served(model, server.url)


def test_the_server_computes_what_a_quantized_model_with_adapters_does(models, server):
    model = with_large_adapters(quantized(models["tied"]))
    assert len(spare_the_cpu_path(model, bitsandbytes.nn.Linear4bit)) == 14
    sync(model, server.url, Accelerator(cpu=True))
    assert_served(model, server.url)


def test_the_server_computes_what_a_sharded_model_with_adapters_does(models, server):
    """FSDP2; with ZeRO-3, tests/distributed compares what arrives, because DeepSpeed is not installed beside vLLM."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    root = Path(__file__).parents[2]
    command += ["-m", "tests.real_vllm.sharded_adapters", server.url, models["tied"]]
    subprocess.run(command, check=True, timeout=500, cwd=root, env={**os.environ, "PYTHONPATH": str(root)})
    model = with_large_adapters(AutoModelForCausalLM.from_pretrained(models["tied"], dtype=torch.float32))
    assert_served(model, server.url)


@pytest.mark.parametrize("buffer_size", [1024**3, 100])
def test_the_stand_in_of_other_tests_packs_as_vllm_does(buffer_size):
    """What changes after it was handed out arrives changed, or not, in both."""
    metadata = [(f"w{i}", "float32", [i + 1, 4]) for i in range(5)]

    def changing():
        for i, (name, _, shape) in enumerate(metadata):
            value = torch.full(shape, float(i))
            yield name, value
            value.neg_()

    expected = dict(packed_and_unpacked(changing(), buffer_size))
    actual = receive_packed(metadata, changing(), buffer_size)
    assert list(actual) == list(expected)
    assert all(torch.equal(actual[name], expected[name]) for name in expected)
    num_changed = sum(bool((value < 0).any()) for value in actual.values())
    assert num_changed == 4 if buffer_size > 1000 else 0 < num_changed < 4
