"""The recipes of Qwen2.5-32B hold the published numbers; each rung of Table 1 differs from the last in one block."""

from itertools import pairwise

import pytest
import yaml

from .table import LADDER, RECIPES, read


OWN_BLOCKS = {
    "Qwen2.5-32B/table1_2_overlong_filter.yaml": "(Sec. 3.4)",
    "Qwen2.5-32B/table1_3_clip_higher.yaml": "(Sec. 3.1)",
    "Qwen2.5-32B/table1_4_soft_punishment.yaml": "(Sec. 3.4)",
    "Qwen2.5-32B/table1_5_token_level_loss.yaml": "(Sec. 3.3",
    "Qwen2.5-32B/dapo.yaml": "(Sec. 3.2)",
}

TECHNIQUES = {
    "naive_grpo": (False, 0.2, None, "grpo", False),
    "overlong_filter": (True, 0.2, None, "grpo", False),
    "clip_higher": (True, 0.28, None, "grpo", False),
    "soft_punishment": (False, 0.28, 4096, "grpo", False),
    "token_level_loss": (False, 0.28, 4096, "dapo", False),
    "dapo": (False, 0.28, 4096, "dapo", True),
}
"""Overlong filtering, upper clip bound, L_cache, loss, dynamic sampling."""


def blocks(name: str) -> list[str]:
    """Blocks of a recipe between empty lines, without the header."""
    return (RECIPES / name).read_text().strip().split("\n\n")[1:]


def keys(name: str) -> dict:
    return yaml.safe_load((RECIPES / name).read_text())


@pytest.mark.parametrize("name", [*LADDER, "Qwen2.5-32B/official_script.yaml"])
def test_batch_of_the_paper(name):
    args = read(name).training_args
    assert args.generation_batch_size == 8192
    assert args.prompts_per_rollout == 512
    assert args.num_generations == 16
    assert args.updates_per_rollout == 16
    assert args.num_iterations == 1
    assert args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size == 512


@pytest.mark.parametrize("name", [*LADDER, "Qwen2.5-32B/official_script.yaml"])
def test_settings_common_to_all(name):
    _, args, model_args = read(name)
    assert model_args.model_name_or_path == "Qwen/Qwen2.5-32B"
    assert args.max_completion_length == 20480
    assert args.epsilon == 0.2
    assert args.beta == 0.0
    assert args.learning_rate == 1e-6
    assert args.lr_scheduler_type == "constant_with_warmup"
    assert args.max_grad_norm == 1.0
    assert (args.temperature, args.top_p, args.top_k) == (1.0, 1.0, 0)
    assert args.scale_rewards == "group"
    assert (args.vllm_importance_sampling_mode, args.vllm_importance_sampling_clip_max) == ("token_truncate", 2.0)


def test_settings_of_the_paper():
    args = read("Qwen2.5-32B/dapo.yaml").training_args
    assert args.warmup_rollouts == 20
    assert args.warmup_steps == 320  # 20 rollouts of 16 updates
    assert args.weight_decay == 0.0
    assert args.delta is None
    assert args.token_normalization == "step"
    assert (args.max_oversampling, args.max_rounds) == (3.0, 10)


def test_settings_of_the_official_script():
    args = read("Qwen2.5-32B/official_script.yaml").training_args
    assert args.warmup_rollouts == 10
    assert args.warmup_steps == 160
    assert args.weight_decay == 0.1
    assert args.delta == 10.0


def test_the_script_differs_from_the_paper_in_nothing_else():
    paper, script = keys("Qwen2.5-32B/dapo.yaml"), keys("Qwen2.5-32B/official_script.yaml")
    different = {name for name in paper.keys() | script.keys() if paper.get(name) != script.get(name)}
    assert different == {"delta", "warmup_rollouts", "weight_decay", "output_dir"}


@pytest.mark.parametrize(("name", "techniques"), zip(LADDER, TECHNIQUES.values(), strict=True))
def test_techniques_of_each_rung(name, techniques):
    args = read(name).training_args
    filtering, upper, cache, loss, sampling = techniques
    assert args.mask_truncated_completions is filtering
    assert args.epsilon_high == upper
    assert args.soft_punish_cache == cache
    assert args.loss_type == loss
    assert args.dynamic_sampling is sampling


@pytest.mark.parametrize(("before", "name"), pairwise(LADDER))
def test_a_rung_differs_from_the_one_before_in_its_own_block(before, name):
    pairs = list(zip(blocks(before), blocks(name), strict=True))
    *of_techniques, (old_run, new_run) = pairs
    different = [(old, new) for old, new in of_techniques if old != new]
    ((old, new),) = different
    assert OWN_BLOCKS[name] in old.splitlines()[0] and OWN_BLOCKS[name] in new.splitlines()[0]
    # The last block names the run.
    assert [line.partition(":")[0] for line in new_run.splitlines()] == ["# This run", "output_dir"]
    assert old_run != new_run
