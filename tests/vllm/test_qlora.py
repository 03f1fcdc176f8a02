"""LoRA on a 4-bit model: what the server gets is the dequantized model with its adapter."""

import pytest
import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM
from trl import ModelConfig, get_quantization_config

from .trainers import build, train_and_compare


bitsandbytes = pytest.importorskip("bitsandbytes")

PEFT_CONFIG = LoraConfig(r=8, lora_alpha=32, target_modules="all-linear")


def load_in_4bit(path: str):
    """As the training command loads it."""
    recipe = ModelConfig(model_name_or_path=path, load_in_4bit=True, dtype="float32", bnb_4bit_quant_type="nf4")
    return AutoModelForCausalLM.from_pretrained(
        path, quantization_config=get_quantization_config(recipe), dtype=torch.float32
    )


def test_trains_through_the_server(models, server):
    trainer = build(server.url, load_in_4bit(models["tied"]), peft_config=PEFT_CONFIG, learning_rate=5e-2)
    layers = [module for module in trainer.model.modules() if type(module) is bitsandbytes.nn.Linear4bit]
    assert len(layers) == 14
    for layer in layers:
        # On a CPU, and there alone, bitsandbytes rearranges the weights of a model that does not train.
        layer.support_avx512bf16_for_cpu = False
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:
            # TRL keeps these adapters in bfloat16, whose rounding alone is 0.05 nats at the end of this run.
            parameter.data = parameter.data.float()
    before = [layer.weight.data.clone() for layer in layers]
    comparison = train_and_compare(trainer, server.url)
    assert comparison.moved[-1] > 0.1
    assert max(comparison.differences) < 1e-3
    assert all(torch.equal(layer.weight.data, kept) for layer, kept in zip(layers, before, strict=True))
