"""LoRA on a quantized model: what the server gets is the dequantized model with its adapter."""

import contextlib

import bitsandbytes
import pytest
import torch
from peft import IA3Config, LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from dapo_trl.generation.vllm.adapters import merged_params
from tests.helpers import largest_difference

from .models import save_tiny
from .quantized import quantized, spare_the_cpu_path
from .trainers import PROBE, build, train_and_compare


PEFT_CONFIG = LoraConfig(r=8, lora_alpha=32, target_modules="all-linear")


def test_trains_through_the_server(models, server):
    trainer = build(server.url, quantized(models["tied"]), peft_config=PEFT_CONFIG, learning_rate=5e-2)
    layers = spare_the_cpu_path(trainer.model, bitsandbytes.nn.Linear4bit)
    assert len(layers) == 14
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:
            # TRL keeps these adapters in bfloat16, whose rounding alone is 0.05 nats at the end of this run.
            parameter.data = parameter.data.float()
    before = [layer.weight.data.clone() for layer in layers]
    comparison = train_and_compare(trainer, server.url)
    print(f"differences {comparison.differences}, moved {comparison.moved}")  # noqa: T201
    assert comparison.moved[-1] > 0.1
    assert max(comparison.differences) < 1e-3
    assert all(torch.equal(layer.weight.data, kept) for layer, kept in zip(layers, before, strict=True))


@pytest.mark.parametrize(
    # 8-bit layers round what goes into them, too.
    ("name", "layer_class", "tolerance"),
    [
        ("load_in_4bit", bitsandbytes.nn.Linear4bit, 1e-5),
        ("load_in_8bit", bitsandbytes.nn.Linear8bitLt, 0.1),
    ],
)
def test_what_is_sent_is_an_ordinary_model_that_computes_the_same(models, name, layer_class, tolerance):
    model = get_peft_model(quantized(models["tied"], name), LoraConfig(r=4, target_modules="all-linear"))
    assert len(spare_the_cpu_path(model, layer_class)) == 14
    torch.manual_seed(1)
    for parameter_name, parameter in model.named_parameters():
        if "lora_" in parameter_name:
            parameter.data.add_(torch.randn_like(parameter) * 0.1)
    plain = AutoModelForCausalLM.from_pretrained(models["tied"], dtype=torch.float32)
    ids = torch.tensor([PROBE])
    with torch.no_grad():
        expected, before = model.eval()(ids).logits, plain(ids).logits
        plain.load_state_dict(dict(merged_params(model, lambda parameters: contextlib.nullcontext())), strict=False)
        actual = plain(ids).logits
    difference, moved = largest_difference(actual, expected), largest_difference(before, expected)
    print(f"{name}: difference {difference}, from the model without quantization and adapter {moved}")  # noqa: T201
    assert difference < tolerance
    assert moved > 10 * tolerance


def test_base_weights_beside_a_bias_are_bit_equal_after_many_calls(tmp_path):
    """Merging into a quantized weight, if only for its bias, would quantize it again at every call."""
    model = quantized(save_tiny(tmp_path, is_tied=True, attention_bias=True))
    model = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for _ in range(5):
        received = dict(merged_params(model, lambda parameters: contextlib.nullcontext()))
    assert sum(name.endswith("bias") for name in received) == 8
    after = model.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)


# What is refused, before vLLM starts or is asked


def test_vllm_in_the_same_process_is_refused(models):
    fields = {"vllm_mode": "colocate", "vllm_server_base_url": None, "peft_config": PEFT_CONFIG}
    with pytest.raises(ValueError, match="vllm_mode='colocate' cannot be combined with a quantized model"):
        build("", quantized(models["tied"]), **fields)


def test_adapters_that_are_more_than_a_summand_are_refused(models):
    dora = LoraConfig(r=8, target_modules="all-linear", use_dora=True)
    with pytest.raises(ValueError, match="DoraLinearVariant on a quantized model cannot be sent.*use_dora: false"):
        build("http://127.0.0.1:9", quantized(models["tied"]), peft_config=dora)


def test_a_trained_bias_on_quantized_layers_is_refused(tmp_path):
    path = save_tiny(tmp_path, is_tied=True, attention_bias=True)
    config = LoraConfig(r=8, target_modules=["q_proj"], lora_bias=True)
    with pytest.raises(ValueError, match="lora_bias on a quantized model cannot be sent"):
        build("http://127.0.0.1:9", quantized(path), peft_config=config)


def test_adapters_other_than_lora_on_quantized_layers_are_refused(models):
    config = IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"])
    with pytest.raises(ValueError, match="Linear4bit cannot be merged"):
        build("http://127.0.0.1:9", quantized(models["tied"]), peft_config=config)
