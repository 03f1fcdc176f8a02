"""`DAPOTrainer.train()` against an independent implementation in plain PyTorch, weight for weight."""

import pytest
import torch

from dapo_trl import DAPOTrainer
from tests.helpers import (
    BASE_CONFIG,
    EOS,
    MAX_COMPLETION_LENGTH,
    ScriptedRollouts,
    char_tokenizer,
    encode_prompt,
    exact_model,
    is_correct,
    largest_difference,
    prompt_dataset,
    train,
    weights,
)
from tests.reference.dapo_reference import DAPOReference, Report, Settings


# Large steps, so that ratios leave the clip bounds. A larger epsilon than AdamW's own keeps it from blowing up what
# float32 leaves of exactness (advantages, denominators) where gradients are small.
OPTIMIZERS = {
    "sgd": (
        {"optim": "sgd", "learning_rate": 1.0},
        lambda parameters: torch.optim.SGD(parameters, lr=1.0),
    ),
    "adamw": (
        {"optim": "adamw_torch", "learning_rate": 5e-3, "adam_epsilon": 1e-4},
        lambda parameters: torch.optim.AdamW(parameters, lr=5e-3, eps=1e-4, weight_decay=0.0),
    ),
}


def assert_same_weights(
    config: dict, optimizer: str = "sgd", rollouts: ScriptedRollouts | None = None, num_rollouts: int = 2
) -> Report:
    """Trains both, asserts equal weights after the last optimizer step, and returns what the reference reports."""
    config = {"updates_per_rollout": 3, **config}
    rollouts = rollouts or ScriptedRollouts()
    rows_per_update = BASE_CONFIG["per_device_train_batch_size"] * BASE_CONFIG["gradient_accumulation_steps"]
    group_size = BASE_CONFIG["num_generations"]
    dataset = prompt_dataset(24)
    optimizer_config, make_optimizer = OPTIMIZERS[optimizer]

    model = exact_model()
    reference = DAPOReference(
        model,
        prompts=[encode_prompt(prompt, char_tokenizer()) for prompt in dataset["prompt"]],
        generate=lambda index, position, step: rollouts.row(dataset[index]["prompt"], position, step)[0],
        env_mask=lambda index, position, step: rollouts.row(dataset[index]["prompt"], position, step)[2],
        is_correct=is_correct,
        eos=EOS,
        settings=Settings(
            num_prompts=rows_per_update * config["updates_per_rollout"] // group_size,
            group_size=group_size,
            num_updates=config["updates_per_rollout"],
            num_passes=config.get("num_iterations", 1),
            num_rollouts=num_rollouts,
            make_optimizer=make_optimizer,
            dual_clip=config.get("delta"),
            l_max=MAX_COMPLETION_LENGTH,
            l_cache=config.get("soft_punish_cache"),
            is_per_group=config.get("token_normalization") == "group",
            masks_truncated=config.get("mask_truncated_completions", False),
            max_rounds=config.get("max_rounds", 10),
            max_oversampling=config.get("max_oversampling", 3.0),
        ),
    )
    report = reference.train()

    trainer = train(
        DAPOTrainer,
        config | optimizer_config | {"max_steps": reference.num_steps},
        model=exact_model(),
        rollout_func=rollouts,
        train_dataset=dataset,
    )
    assert trainer.state.global_step == reference.num_steps
    start, expected, actual = weights(exact_model()), weights(model), weights(trainer.model)
    assert largest_difference(expected, start) > 0.02
    assert largest_difference(expected, actual) < 1e-6
    return report


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("token_normalization", ["step", "group"])
@pytest.mark.parametrize(("updates_per_rollout", "num_rollouts"), [(1, 6), (3, 2)])
def test_updates_per_rollout(updates_per_rollout, num_rollouts, token_normalization, optimizer):
    config = {"updates_per_rollout": updates_per_rollout, "token_normalization": token_normalization}
    report = assert_same_weights(config, optimizer, num_rollouts=num_rollouts)
    assert sum(report.groups_drawn) > sum(report.groups_kept), "no group was dropped"
    is_clipped = report.num_high_clipped > 0 and report.num_low_clipped > 0
    assert is_clipped == (updates_per_rollout > 1)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_num_iterations(optimizer):
    report = assert_same_weights({"num_iterations": 2}, optimizer)
    assert report.num_high_clipped > 0 and report.num_low_clipped > 0


@pytest.mark.parametrize("token_normalization", ["step", "group"])
def test_soft_overlong_punishment(token_normalization):
    # Two tokens beyond L_max: a rollout_func can, the model cannot.
    rollouts = ScriptedRollouts(min_tokens=6, max_tokens=MAX_COMPLETION_LENGTH + 2)
    report = assert_same_weights(
        {"soft_punish_cache": 8, "token_normalization": token_normalization}, rollouts=rollouts
    )
    assert {0.0, -1.0} < set(report.penalties)
    assert sum(report.groups_drawn) > sum(report.groups_kept), "groups must be dropped although their rewards differ"


@pytest.mark.parametrize("token_normalization", ["step", "group"])
def test_partial_rollout(token_normalization):
    config = {"max_rounds": 1, "max_oversampling": 1.0, "token_normalization": token_normalization}
    report = assert_same_weights(config, num_rollouts=3)
    assert min(report.groups_kept) < 6


def test_dual_clip():
    report = assert_same_weights({"delta": 1.5}, num_rollouts=3)
    assert report.num_dual_clipped > 0


@pytest.mark.parametrize("token_normalization", ["step", "group"])
def test_masked_truncated_completions(token_normalization):
    config = {"mask_truncated_completions": True, "token_normalization": token_normalization}
    report = assert_same_weights(config, rollouts=ScriptedRollouts(frac_truncated=0.4))
    assert report.num_masked > 0


@pytest.mark.parametrize("token_normalization", ["step", "group"])
def test_environment_tokens(token_normalization):
    assert_same_weights({"token_normalization": token_normalization}, rollouts=ScriptedRollouts(has_env_mask=True))
