"""Time by phase: published figures, and by hand."""

import pytest

from dapo_trl import DAPOConfig
from dapo_trl.estimation.generation import (
    ENGINE_OVERHEAD,
    Generator,
    generation_seconds,
    plan_generator,
    token_seconds,
)
from dapo_trl.estimation.hardware import GIB, Hardware
from dapo_trl.estimation.models import ModelSize, load_config, measure
from dapo_trl.estimation.training import forward_flops, num_scorings, passes_per_step, training_seconds
from dapo_trl.estimation.workload import Workload, plan_workload


pytestmark = pytest.mark.filterwarnings("ignore:balance_micro_batches")

SIZE = measure(load_config("Qwen/Qwen2.5-1.5B"))
HARDWARE = Hardware(num_gpus=2, gpu_memory=80, peak=100, bandwidth=1000, utilization=0.5, bandwidth_utilization=0.5)
WORKLOAD = Workload(64, 100, prompt=100, completion=300, longest_prompt=200, longest_completion=1000)


def config(**fields) -> DAPOConfig:
    return DAPOConfig(**{"use_cpu": True, "bf16": True, "output_dir": "out"} | fields)


@pytest.mark.parametrize(
    ("billions", "billion_tokens", "num_gpus", "teraflops", "days"),
    [(175, 300, 1024, 140, 34), (1008, 450, 3072, 163, 84)],
)
def test_training_as_published(billions, billion_tokens, num_gpus, teraflops, days):
    """Sec. 5.1 of arXiv 2104.04473: days on A100s at a measured throughput, with gradient checkpointing."""
    num_parameters = int(billions * 1e9)
    size = ModelSize(
        SIZE.config, num_parameters, 2 * SIZE.config.vocab_size * SIZE.config.hidden_size, 0, num_parameters
    )
    hardware = Hardware(num_gpus=num_gpus, gpu_memory=80, peak=312, utilization=teraflops / 312)
    workload = Workload(int(billion_tokens * 1e9), 0, prompt=0, completion=1, longest_prompt=0, longest_completion=1)
    seconds = training_seconds(size, config(gradient_checkpointing=True), hardware, workload)
    assert seconds / 86400 == pytest.approx(days, rel=0.02)


def test_forward_by_hand():
    # 1 543 714 304 parameters, tied; 28 layers with queries 1536 wide; on average half of 400 tokens to attend to.
    per_token = 2 * 1_543_714_304 + 28 * (2 * 1536 + 2 * 1536) * 400 / 2
    assert forward_flops(SIZE, 1000, 400) == 1000 * per_token


def test_passes():
    adapted = ModelSize(SIZE.config, SIZE.num_parameters, SIZE.num_embedding, SIZE.num_projections, 1000)
    assert passes_per_step(SIZE, config(gradient_checkpointing=False)) == 3
    assert passes_per_step(SIZE, config(gradient_checkpointing=True)) == 4
    assert passes_per_step(adapted, config(gradient_checkpointing=True)) == 3


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, 1),
        ({"updates_per_rollout": 1}, 0),
        ({"updates_per_rollout": 1, "num_iterations": 2}, 1),
        ({"updates_per_rollout": 1, "use_vllm": True, "vllm_mode": "server"}, 1),
        ({"beta": 0.1}, 2),
    ],
)
def test_scorings(fields, expected):
    with pytest.warns(UserWarning):  # of micro-batches, or of clip-higher
        args = config(num_generations=8, per_device_train_batch_size=8, **fields)
    assert num_scorings(args) == expected


def test_a_token_takes_as_long_as_reading_takes():
    generator = Generator("server", 1, 2, 3e9, 30_000, kv_bytes=1e9, max_rows=256)
    # 3 GB of weights and 10 rows of 1000 tokens, at twice 500 GB/s
    expected = (3e9 + 10 * 1000 * 30_000) / 1e12 + 0.005
    assert token_seconds(SIZE, generator, HARDWARE, running=10, tokens=1000) == pytest.approx(expected)


def test_a_token_takes_as_long_as_computing_takes():
    generator = Generator("server", 1, 2, 3e9, 1, kv_bytes=1e9, max_rows=256)
    expected = 2 * 1_543_714_304 * 1000 / 1e14 + 0.005
    assert token_seconds(SIZE, generator, HARDWARE, running=1000, tokens=1) == pytest.approx(expected)


def test_waves_and_the_longest_completion():
    generator = Generator("server", 2, 1, 3e9, 30_000, kv_bytes=25 * 400 * 30_000, max_rows=256)
    many = token_seconds(SIZE, generator, HARDWARE, 25, 400)
    alone = token_seconds(SIZE, generator, HARDWARE, 1, 1200)
    # 50 rows for each of two copies, 25 at once
    expected = 2 * 300 * many + (1000 - 300) * alone
    assert generation_seconds(SIZE, generator, HARDWARE, WORKLOAD) == pytest.approx(expected)


def test_transformers_wait_for_the_longest():
    generator = Generator("transformers", 2, 1, 3e9, 30_000, kv_bytes=1e12, max_rows=32)
    expected = 2 * 1000 * token_seconds(SIZE, generator, HARDWARE, 32, 400)
    assert generation_seconds(SIZE, generator, HARDWARE, WORKLOAD) == pytest.approx(expected)


def test_memory_for_keys_and_values():
    fields = {"use_vllm": True, "vllm_tensor_parallel_size": 2, "per_device_train_batch_size": 8}
    server = plan_generator(SIZE, config(vllm_mode="server", **fields), 3, HARDWARE, WORKLOAD)
    assert (server.num_copies, server.gpus_per_copy, server.max_rows) == (3, 2, 256)
    assert server.kv_bytes == 2 * (0.9 * 80 * GIB - ENGINE_OVERHEAD) - 2 * 1_543_714_304
    own = config(vllm_mode="colocate", vllm_gpu_memory_utilization=0.4, updates_per_rollout=4, **fields)
    colocated = plan_generator(SIZE, own, 3, HARDWARE, WORKLOAD)
    assert (colocated.num_copies, colocated.max_rows) == (1, 8 * 4 * 2)
    assert colocated.kv_bytes == 2 * (0.4 * 80 * GIB - ENGINE_OVERHEAD) - 2 * 1_543_714_304
    assert colocated.num_running(400) == 64


def test_transformers_hold_the_whole_rollout():
    args = config(per_device_train_batch_size=8, updates_per_rollout=4)
    generator = plan_generator(SIZE, args, 1, HARDWARE, WORKLOAD)
    assert generator.max_rows == 32
    assert generator.kv_bytes == 32 * 1200 * 28_672


@pytest.mark.parametrize(
    ("fields", "acceptance", "groups"),
    [
        ({"dynamic_sampling": False}, 0.5, 8),
        ({}, 1.0, 8),
        ({}, 0.5, 21),  # more than twice 8, so that one round probably suffices
        ({}, 0.1, 80),  # one round draws at most 24
        ({"max_rounds": 2}, 0.1, 48),
    ],
)
def test_prompts_of_a_rollout(fields, acceptance, groups):
    args = config(per_device_train_batch_size=8, updates_per_rollout=16, num_generations=16, **fields)
    workload = plan_workload(args, 1, acceptance, prompt=100, completion=None)
    assert workload.num_trained == 128
    assert workload.num_generated == 16 * groups


def test_lengths():
    args = config(max_completion_length=1000, use_vllm=True, vllm_mode="server", vllm_max_model_length=1300)
    workload = plan_workload(args, 1, 0.5, prompt=100, completion=None)
    assert (workload.completion, workload.longest_prompt, workload.longest_row) == (250, 300, 1300)
    assert plan_workload(args, 1, 0.5, prompt=700, completion=5000).row == 300 + 1000
