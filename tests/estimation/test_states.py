"""Memory of weights, gradients and optimizer: published figures, real tensors, and by hand."""

import pytest
import torch
from transformers import AutoModelForCausalLM
from trl import ModelConfig

from dapo_trl import DAPOConfig
from dapo_trl.estimation.hardware import Sharding
from dapo_trl.estimation.models import ModelSize, load_config, measure
from dapo_trl.estimation.states import model_states, zero_bytes

from .test_models import tiny


pytestmark = pytest.mark.filterwarnings("ignore:balance_micro_batches")


@pytest.mark.parametrize(("stage", "gigabytes"), [(0, 120), (1, 31.4), (2, 16.6), (3, 1.9)])
def test_zero_as_published(stage, gigabytes):
    """Figure 1 of the ZeRO paper (arXiv 1910.02054): 7.5 billion parameters on 64 GPUs."""
    num_bytes = sum(zero_bytes(7_500_000_000, 7_500_000_000, stage, 64))
    assert num_bytes / 1e9 == pytest.approx(gigabytes, abs=0.05)


def states(size: ModelSize, sharding: Sharding, num_gpus: int, bf16: bool = True, **model):
    args = DAPOConfig(use_cpu=True, bf16=bf16, output_dir="out")
    return model_states(size, args, ModelConfig("x", **model), sharding, num_gpus)


def test_one_process_in_float32_against_a_real_optimizer():
    config = tiny()
    model = AutoModelForCausalLM.from_config(config)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.tensor([[1, 2, 3]])).logits.sum().backward()
    optimizer.step()
    moments = [state[name] for state in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
    real = {
        "weights": sum(parameter.nbytes for parameter in model.parameters()),
        "gradients": sum(parameter.grad.nbytes for parameter in model.parameters()),
        "optimizer": sum(moment.nbytes for moment in moments),
    }
    estimated = states(measure(config), Sharding("none"), 1, bf16=False, dtype="float32")
    assert {name: getattr(estimated, name) for name in real} == real
    assert estimated.buffers == 0


@pytest.fixture(scope="module")
def size() -> ModelSize:
    """A billion parameters, 200 million of them in embeddings and norms."""
    return ModelSize(load_config("Qwen/Qwen2.5-1.5B"), 10**9, 2 * 10**8, 8 * 10**8, 10**9)


@pytest.fixture(scope="module")
def adapted(size) -> ModelSize:
    """The same with ten million parameters of adapters."""
    return ModelSize(size.config, size.num_parameters, size.num_embedding, size.num_projections, 10**7)


def test_autocast_copies_float32_weights(size):
    found = states(size, Sharding("none"), 1)
    assert (found.weights, found.gradients, found.optimizer) == (4e9 + 2e9, 4e9, 8e9)


def test_ddp_has_buckets(size):
    found = states(size, Sharding("ddp"), 8)
    assert found.buffers == 4e9
    assert found.gradients == 4e9 and not found.is_resident


def test_zero_2_and_3(size):
    spread = states(size, Sharding("zero", 2), 8)
    assert (spread.weights, spread.gradients, spread.optimizer) == (2e9, 2e9 / 8, 12e9 / 8)
    assert spread.buffers == 2 * 500_000_000
    spread = states(size, Sharding("zero", 3), 8)
    assert (spread.weights, spread.gradients, spread.optimizer) == (2e9 / 8, 2e9 / 8, 12e9 / 8)
    assert spread.buffers == 2 * 500_000_000 + 2 * 1_000_000_000
    assert spread.is_resident and spread.host == 0


def test_zero_3_with_offload(size):
    found = states(size, Sharding("zero", 3, True, True), 8)
    assert (found.weights, found.gradients, found.optimizer) == (0, 0, 0)
    assert found.host == 16e9 / 8


def test_fsdp_keeps_float32_shards_and_gathers_blocks(size):
    found = states(size, Sharding("fsdp"), 8, dtype="bfloat16")
    assert (found.weights, found.gradients, found.optimizer) == (4e9 / 8, 4e9 / 8, 8e9 / 8)
    assert found.buffers == pytest.approx(2 * (2e8 + 2 * 8e8 / 28))


def test_adapters_in_float32_on_a_half_precision_base(adapted):
    found = states(adapted, Sharding("none"), 1, dtype="bfloat16", use_peft=True)
    assert (found.weights, found.gradients, found.optimizer) == (2e9 + 4e7 + 2e7, 4e7, 8e7)


@pytest.mark.parametrize(
    ("nested", "bits"), [(False, 4.5), (True, 4 + 8 / 64 + 32 / (64 * 256))], ids=["plain", "nested"]
)
def test_four_bits(adapted, nested, bits):
    """QLoRA (arXiv 2305.14314, Sec. 3): 0.5 bits per parameter for the scales, nested 0.127."""
    found = states(
        adapted, Sharding("none"), 1, dtype="bfloat16", use_peft=True, load_in_4bit=True, use_bnb_nested_quant=nested
    )
    assert found.weights == pytest.approx(8e8 * bits / 8 + 2 * 2e8 + 2 * 1e7)
    assert (found.gradients, found.optimizer) == (2e7, 4e7)


def test_eight_bits(adapted):
    found = states(adapted, Sharding("none"), 1, dtype="bfloat16", use_peft=True, load_in_8bit=True)
    assert found.weights == 8e8 + 2 * 2e8 + 2e7
