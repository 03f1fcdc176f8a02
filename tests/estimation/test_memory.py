"""Memory of one GPU: published figures, tensors that torch really keeps, and by hand."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Qwen2Config

from dapo_trl import DAPOConfig
from dapo_trl.estimation.memory import (
    HEAD_CHUNK,
    States,
    activation_bytes,
    block_bytes_per_token,
    model_states,
    zero_bytes,
)
from dapo_trl.estimation.model import ModelSize, load_config, measure
from dapo_trl.estimation.scenario import Sharding

from .test_model import tiny


pytestmark = pytest.mark.filterwarnings("ignore:balance_micro_batches")


def config(**fields) -> DAPOConfig:
    return DAPOConfig(**{"use_cpu": True, "bf16": True, "output_dir": "out"} | fields)


# Weights, gradients and optimizer


@pytest.mark.parametrize(("stage", "gigabytes"), [(0, 120), (1, 31.4), (2, 16.6), (3, 1.9)])
def test_zero_as_published(stage, gigabytes):
    """Figure 1 of the ZeRO paper (arXiv 1910.02054): 7.5 billion parameters on 64 GPUs."""
    num_bytes = sum(zero_bytes(7_500_000_000, 7_500_000_000, stage, 64))
    assert num_bytes / 1e9 == pytest.approx(gigabytes, abs=0.05)


def test_one_process_in_float32_against_a_real_optimizer():
    model = AutoModelForCausalLM.from_config(tiny())
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.tensor([[1, 2, 3]])).logits.sum().backward()
    optimizer.step()
    real = States(
        weights=sum(parameter.nbytes for parameter in model.parameters()),
        gradients=sum(parameter.grad.nbytes for parameter in model.parameters()),
        optimizer=sum(state[name].nbytes for state in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")),
        buffers=0,
    )
    assert model_states(measure(tiny()), Sharding("none"), 1) == real


# A billion parameters, 200 million of them in embeddings and norms; the same with ten million of adapters.
SIZE = ModelSize(load_config("Qwen/Qwen2.5-1.5B"), 10**9, 2 * 10**8, 8 * 10**8, 10**9, computed_bytes=2)
ADAPTED = SIZE._replace(num_trained=10**7, weight_bytes=2)


@pytest.mark.parametrize(
    ("size", "sharding", "expected"),
    [
        # autocast copies float32 weights
        (SIZE, Sharding("none"), States(4e9 + 2e9, 4e9, 8e9, 0)),
        # DDP has buckets of all gradients
        (SIZE, Sharding("ddp"), States(4e9 + 2e9, 4e9, 8e9, 4e9)),
        (SIZE, Sharding("zero", 2), States(2e9, 2e9 / 8, 12e9 / 8, 2 * 5e8)),
        (SIZE, Sharding("zero", 3), States(2e9 / 8, 2e9 / 8, 12e9 / 8, 2 * 5e8 + 2 * 1e9)),
        (SIZE._replace(computed_bytes=4), Sharding("zero", 2), States(4e9, 4e9 / 8, 12e9 / 8, 2 * 5e8)),
        (SIZE, Sharding("zero", 2, True), States(2e9, 0, 0, 2 * 5e8, host=14e9 / 8)),
        (SIZE, Sharding("zero", 3, True, True), States(0, 0, 0, 2 * 5e8 + 2 * 1e9, host=16e9 / 8)),
        # FSDP keeps float32 shards and gathers the embeddings and two blocks in half precision
        (SIZE, Sharding("fsdp"), States(4e9 / 8, 4e9 / 8, 8e9 / 8, 2 * (2e8 + 2 * 8e8 / 28))),
        # adapters in float32, copied by autocast, on a base in half precision
        (ADAPTED, Sharding("none"), States(2e9 + 4e7 + 2e7, 4e7, 8e7, 0)),
        # those of a quantized model in bfloat16; its embeddings and norms keep two bytes
        (ADAPTED._replace(projection_bytes=0.6), Sharding("none"), States(0.6 * 8e8 + 2 * 2e8 + 2e7, 2e7, 4e7, 0)),
        # DeepSpeed leaves the quantized weights of the base whole
        (
            ADAPTED._replace(projection_bytes=0.6),
            Sharding("zero", 2),
            States(0.6 * 8e8 + 2 * 2e8, 2e7 / 8, 12e7 / 8, 2 * 1e7),
        ),
    ],
    ids=[
        *("autocast", "DDP", "ZeRO-2", "ZeRO-3", "float32", "ZeRO-2 offload", "offload", "FSDP", "LoRA", "quantized"),
        "quantized under ZeRO-2",
    ],
)
def test_states_by_hand(size, sharding, expected):
    assert model_states(size, sharding, 1 if sharding.kind == "none" else 8) == pytest.approx(expected)


# Activations

NUM_TOKENS = 2048


def lora() -> LoraConfig:
    return LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")


def shape(num_layers: int) -> Qwen2Config:
    return Qwen2Config(
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=num_layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=50,
        tie_word_embeddings=True,
    )


def kept_bytes(num_layers: int, dtype: torch.dtype, is_autocast: bool, has_adapters: bool) -> int:
    """Bytes of all tensors that autograd keeps in a forward pass, but parameters and their copies."""
    model = AutoModelForCausalLM.from_config(shape(num_layers), dtype=dtype)
    backbone = model.model
    if has_adapters:
        model = get_peft_model(model, lora())
        model.enable_input_require_grads()
    parameters = {parameter.data_ptr() for parameter in model.parameters()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters and NUM_TOKENS in tensor.shape:
            kept[storage.data_ptr()] = storage.nbytes(), tensor  # the tensor keeps the address taken
        return tensor

    ids = torch.randint(0, 50, (1, NUM_TOKENS))
    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=is_autocast),
    ):
        output = backbone(input_ids=ids, use_cache=False).last_hidden_state
    assert output.requires_grad
    return sum(num_bytes for num_bytes, _ in kept.values())


@pytest.mark.parametrize(
    ("dtype", "is_autocast", "has_adapters", "residual_bytes"),
    [
        (torch.bfloat16, False, False, 2),
        (torch.float32, True, False, 4),
        (torch.bfloat16, True, True, 2),
    ],
    ids=["bfloat16", "float32 under autocast", "adapters"],
)
def test_block_against_autograd(dtype, is_autocast, has_adapters, residual_bytes):
    one, three = (kept_bytes(num_layers, dtype, is_autocast, has_adapters) for num_layers in (1, 3))
    measured = (three - one) / 2 / NUM_TOKENS
    size = measure(shape(1), lora() if has_adapters else None)._replace(computed_bytes=2)
    assert block_bytes_per_token(size, residual_bytes) == pytest.approx(measured, rel=0.02)


MASK = 3 * 2 * 100**2  # of 2 rows with 100 tokens


def in_half(num_layers: int, peft_config: LoraConfig | None = None, **fields) -> ModelSize:
    config = shape(num_layers)
    config.update(fields)
    return measure(config, peft_config)._replace(weight_bytes=2, computed_bytes=2)


def micro_batch_bytes(size: ModelSize, is_checkpointed: bool = True) -> float:
    args = config(gradient_checkpointing=is_checkpointed, per_device_train_batch_size=2, num_generations=2)
    return activation_bytes(size, args, Sharding("none"), 100)


@pytest.mark.filterwarnings("ignore")
def test_micro_batch_by_hand():
    size = in_half(6)
    head = 2 * HEAD_CHUNK + 200 * 128 * 6  # no logits are kept
    head_gradient = 4 * 50 * 128
    assert micro_batch_bytes(size, False) == 6 * 200 * block_bytes_per_token(size, 2) + head + head_gradient + MASK
    # Checkpointing keeps the inputs of the blocks.
    assert micro_batch_bytes(size) == 6 * 200 * 2 * 128 + head + head_gradient + MASK
    assert micro_batch_bytes(size._replace(has_flash_attention=True)) == micro_batch_bytes(size) - MASK
    assert micro_batch_bytes(in_half(6, lora())) == micro_batch_bytes(size) - head_gradient


@pytest.mark.filterwarnings("ignore")
def test_a_wide_block_needs_more_than_the_head():
    size = in_half(6, intermediate_size=10**6)
    working = 200 * (block_bytes_per_token(size, 2) + 3 * 2 * 10**6 + 2 * 2 * 128)
    assert micro_batch_bytes(size) == 6 * 200 * 2 * 128 + working + MASK
