"""What a forward pass keeps: the formula against the tensors that autograd really keeps."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Qwen2Config

from dapo_trl import DAPOConfig
from dapo_trl.estimation.activations import TILE, activations, block_bytes_per_token, mask_bytes
from dapo_trl.estimation.models import measure


pytestmark = pytest.mark.filterwarnings("ignore:balance_micro_batches")

NUM_TOKENS = 2048
LORA = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")


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
        model = get_peft_model(model, copy.deepcopy(LORA))
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
    size = measure(shape(1), LORA if has_adapters else None)
    assert block_bytes_per_token(size, residual_bytes) == pytest.approx(measured, rel=0.02)


def test_checkpointing_keeps_the_inputs_of_blocks():
    size = measure(shape(6))
    plain = DAPOConfig(use_cpu=True, bf16=True, gradient_checkpointing=False, output_dir="out")
    checkpointed = DAPOConfig(use_cpu=True, bf16=True, gradient_checkpointing=True, output_dir="out")
    block = block_bytes_per_token(size, 2)
    assert activations(size, plain, 2, 100, 2).saved == 6 * 200 * block
    found = activations(size, checkpointed, 2, 100, 2)
    assert found.saved == 6 * 200 * 2 * 128
    assert found.working == 200 * (block + 3 * 2 * 512 + 2 * 2 * 128)


def test_head_keeps_no_logits():
    args = DAPOConfig(use_cpu=True, bf16=True, output_dir="out")
    found = activations(measure(shape(1)), args, 2, 100, 2)
    assert found.head == 2 * TILE + 200 * 128 * 6 + 4 * 50 * 128
    adapted = activations(measure(shape(1), LORA), args, 2, 100, 2)
    assert adapted.head == 2 * TILE + 200 * 128 * 6
    assert found.total == found.saved + found.head  # here the head is the larger


def test_mask():
    assert mask_bytes(False, 2, 100) == 2 * 100 * 100 * 3
    assert mask_bytes(True, 2, 100) == 0
