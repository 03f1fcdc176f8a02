"""Quantized models on a CPU."""

import torch
from transformers import AutoModelForCausalLM
from trl import ModelConfig, get_quantization_config


def quantized(path: str, name: str = "load_in_4bit"):
    """As the training command loads it."""
    recipe = ModelConfig(model_name_or_path=path, dtype="float32", bnb_4bit_quant_type="nf4", **{name: True})
    return AutoModelForCausalLM.from_pretrained(
        path, quantization_config=get_quantization_config(recipe), dtype=torch.float32
    )


def spare_the_cpu_path(model, layer_class: type) -> list:
    """The quantized layers, kept from what bitsandbytes does on a CPU alone: rearrange weights that do not train."""
    layers = [module for module in model.modules() if type(module) is layer_class]
    for layer in layers:
        layer.support_avx512bf16_for_cpu = False
    return layers
