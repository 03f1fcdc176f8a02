"""Time by phase: published figures, and by hand."""

import pytest

from dapo_trl import DAPOConfig
from dapo_trl.estimation.model import load_config, measure
from dapo_trl.estimation.rollout import (
    ENGINE_OVERHEAD,
    Generator,
    Rollout,
    forward_flops,
    generation_seconds,
    num_scorings,
    passes_per_step,
    plan_generator,
    plan_rollout,
    rollout_seconds,
    token_seconds,
)
from dapo_trl.estimation.scenario import GIB, Scenario


pytestmark = pytest.mark.filterwarnings("ignore:balance_micro_batches")

SIZE = measure(load_config("Qwen/Qwen2.5-1.5B"))._replace(computed_bytes=2)
SCENARIO = Scenario((), gpus=2, peak=100, mfu=0.5, bandwidth=1000, bandwidth_utilization=0.5, prompt_length=100)
ROLLOUT = Rollout(64, 100, prompt=100, completion=300, longest_prompt=200, longest_completion=1000)


def config(**fields) -> DAPOConfig:
    return DAPOConfig(**{"use_cpu": True, "bf16": True, "output_dir": "out"} | fields)


@pytest.mark.parametrize(
    ("billions", "billion_tokens", "num_gpus", "teraflops", "days"),
    [(175, 300, 1024, 140, 34), (1008, 450, 3072, 163, 84)],
)
def test_training_as_published(billions, billion_tokens, num_gpus, teraflops, days):
    """Sec. 5.1 of arXiv 2104.04473: days on A100s at a measured throughput, with gradient checkpointing."""
    num_parameters = int(billions * 1e9)
    size = SIZE._replace(num_parameters=num_parameters, num_trained=num_parameters)
    size = size._replace(num_embedding=SIZE.config.vocab_size * SIZE.config.hidden_size)
    scenario = Scenario((), gpus=num_gpus, peak=312, mfu=teraflops / 312)
    rollout = Rollout(int(billion_tokens * 1e9), 1, prompt=0, completion=1, longest_prompt=0, longest_completion=1)
    generator = Generator("server", 1, 1, 0, 1, 1, 1)
    seconds = rollout_seconds(size, config(gradient_checkpointing=True), generator, rollout, scenario)["training"]
    assert seconds / 86400 == pytest.approx(days, rel=0.02)


def test_forward_by_hand():
    # 1 543 714 304 parameters, tied; 28 layers with queries 1536 wide; on average half of 400 tokens to attend to.
    per_token = 2 * 1_543_714_304 + 28 * (2 * 1536 + 2 * 1536) * 400 / 2
    assert forward_flops(SIZE, 1000, 400) == 1000 * per_token


def test_passes():
    adapted = SIZE._replace(num_trained=1000)
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
    assert token_seconds(SIZE, generator, 10, 1000, SCENARIO) == pytest.approx(expected)


def test_a_token_takes_as_long_as_computing_takes():
    generator = Generator("server", 1, 2, 3e9, 1, kv_bytes=1e9, max_rows=256)
    expected = 2 * 1_543_714_304 * 1000 / 1e14 + 0.005
    assert token_seconds(SIZE, generator, 1000, 1, SCENARIO) == pytest.approx(expected)


def test_waves_and_the_longest_completion():
    generator = Generator("server", 2, 1, 3e9, 30_000, kv_bytes=25 * 400 * 30_000, max_rows=256)
    many = token_seconds(SIZE, generator, 25, 400, SCENARIO)
    alone = token_seconds(SIZE, generator, 1, 1200, SCENARIO)
    # 50 rows for each of two copies, 25 at once
    expected = 2 * 300 * many + (1000 - 300) * alone
    assert generation_seconds(SIZE, generator, ROLLOUT, SCENARIO) == pytest.approx(expected)


def test_transformers_wait_for_the_longest():
    generator = Generator("transformers", 2, 1, 3e9, 30_000, kv_bytes=1e12, max_rows=32)
    expected = 2 * 1000 * token_seconds(SIZE, generator, 32, 400, SCENARIO)
    assert generation_seconds(SIZE, generator, ROLLOUT, SCENARIO) == pytest.approx(expected)


def test_memory_for_keys_and_values():
    fields = {"use_vllm": True, "vllm_tensor_parallel_size": 2, "per_device_train_batch_size": 8}
    server = plan_generator(SIZE, config(vllm_mode="server", **fields), 3, ROLLOUT, SCENARIO)
    assert (server.num_copies, server.gpus_per_copy, server.max_rows) == (3, 2, 256)
    assert server.kv_bytes == 2 * (0.9 * 80 * GIB - ENGINE_OVERHEAD) - 2 * 1_543_714_304
    own = config(vllm_mode="colocate", vllm_gpu_memory_utilization=0.4, updates_per_rollout=4, **fields)
    colocated = plan_generator(SIZE, own, 3, ROLLOUT, SCENARIO)
    assert (colocated.num_copies, colocated.max_rows) == (1, 8 * 4 * 2)
    assert colocated.kv_bytes == 2 * (0.4 * 80 * GIB - ENGINE_OVERHEAD) - 2 * 1_543_714_304
    assert colocated.num_running(400) == 64


def test_transformers_hold_the_whole_rollout():
    args = config(per_device_train_batch_size=8, updates_per_rollout=4)
    generator = plan_generator(SIZE, args, 1, ROLLOUT, SCENARIO)
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
    rollout = plan_rollout(args, Scenario((), acceptance=acceptance))
    assert rollout.num_trained == 128
    assert rollout.num_generated == 16 * groups


def test_lengths():
    args = config(max_completion_length=1000, use_vllm=True, vllm_mode="server", vllm_max_model_length=1300)
    rollout = plan_rollout(args, Scenario((), prompt_length=100))
    assert (rollout.completion, rollout.longest_prompt, rollout.longest_row) == (250, 300, 1300)
    assert plan_rollout(args, Scenario((), prompt_length=700, completion_length=5000)).row == 300 + 1000


def test_completions_without_a_limit():
    with pytest.raises(ValueError, match="max_completion_length is not set, so completions have no limit. Set it to"):
        plan_rollout(config(max_completion_length=None), Scenario(()))
