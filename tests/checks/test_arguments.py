"""What a trainer is given: refused before training if it cannot work, and never modified."""

import copy
import re

import pytest
import torch
from datasets import Dataset, IterableDataset
from peft import LoraConfig
from transformers import Qwen2MoeConfig, Qwen2MoeForCausalLM
from trl import GRPOConfig

from dapo_trl import DAPOConfig, DAPOTrainer
from dapo_trl.checks.rewards import filter_columns

from ..helpers import BASE_CONFIG, EOS, VOCABULARY, build, correct, prompt_dataset, tiny_model


BOTH_OFF = {"dynamic_sampling": False, "balance_micro_batches": False}


def brevity(completion_ids: list[list[int]], **kwargs) -> list[float]:
    return [-len(ids) / 10 for ids in completion_ids]


def search(query: str) -> str:
    """
    Looks something up.

    Args:
        query: what to look up.
    """
    return query


class Environment:
    def reset(self, **kwargs) -> str:
        return ""


def iterable_dataset() -> IterableDataset:
    return prompt_dataset().to_iterable_dataset()


def image_dataset() -> Dataset:
    return prompt_dataset().add_column("image", ["no.png"] * 40)


def images_dataset() -> Dataset:
    return prompt_dataset().add_column("images", [["no.png"]] * 40)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"tools": [search]}, "tools"),
        ({"environment_factory": Environment}, "environment_factory"),
        ({"train_dataset": image_dataset}, "a train_dataset with images"),
        ({"train_dataset": images_dataset}, "a train_dataset with images"),
        ({"train_dataset": iterable_dataset}, "an iterable train_dataset"),
    ],
)
@pytest.mark.parametrize("own", ["dynamic_sampling", "balance_micro_batches"])
def test_what_cannot_be_combined_is_refused(arguments, name, own):
    if "train_dataset" in arguments:
        arguments = {"train_dataset": arguments["train_dataset"]()}
    config = BOTH_OFF | {own: True}
    settings = ".*".join(f"{field}={value}" for field, value in config.items())
    remedy = ".*, or load the data set without streaming." if name == "an iterable train_dataset" else ".*"
    with pytest.raises(ValueError, match=f"^{name} cannot be combined with {settings}. Set both to false{remedy}"):
        build(DAPOTrainer, config, **arguments)


def test_a_mixture_of_experts_cannot_be_balanced():
    torch.manual_seed(0)
    config = Qwen2MoeConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=16,
        intermediate_size=16,
        moe_intermediate_size=16,
        shared_expert_intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_experts=2,
        num_experts_per_tok=1,
        eos_token_id=EOS,
        output_router_logits=True,
    )
    arguments = {"model": Qwen2MoeForCausalLM(config)}
    with pytest.raises(ValueError, match="router_aux_loss_coef=.* balance_micro_batches: .* Set router_aux_loss_coef"):
        build(DAPOTrainer, **arguments)
    build(DAPOTrainer, {"balance_micro_batches": False}, **arguments)


def test_a_data_set_smaller_than_a_rollout_is_refused():
    message = (
        r"train_dataset has 3 prompts, but one rollout needs 4 different ones \(generation_batch_size=16 completions "
        r"/ num_generations=4\). Use more prompts, or lower updates_per_rollout"
    )
    with pytest.raises(ValueError, match=message):
        build(DAPOTrainer, {"updates_per_rollout": 2}, train_dataset=prompt_dataset(3))
    build(DAPOTrainer, {"updates_per_rollout": 2}, train_dataset=prompt_dataset(4))


@pytest.mark.parametrize("weights", [[1.0], [1.0, 1.0, 1.0]])
@pytest.mark.parametrize("soft_punish_cache", [None, 4])
def test_one_weight_per_reward_function(weights, soft_punish_cache):
    config = {"reward_weights": weights, "soft_punish_cache": soft_punish_cache, "dynamic_sampling_metric": "correct"}
    message = rf"has {len(weights)} weights for 2 reward functions.*weighed by overlong_weight"
    with pytest.raises(ValueError, match=message):
        build(DAPOTrainer, config, reward_funcs=[correct, brevity])


def test_the_punishment_has_a_weight_of_its_own():
    config = {"reward_weights": [2.0], "soft_punish_cache": 4, "overlong_weight": 0.5}
    trainer = build(DAPOTrainer, config)
    assert trainer.reward_weights.tolist() == [2.0, 0.5]
    assert trainer.reward_func_names == ["correct", "soft_overlong_punishment"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 1e30])
@pytest.mark.parametrize("field", ["reward_weights", "overlong_weight"])
def test_weights_are_numbers(field, value):
    config = {"soft_punish_cache": 4, field: [value] if field == "reward_weights" else value}
    with pytest.raises(
        ValueError, match=rf"{field}=\[?{re.escape(str(value))}.*must be finite numbers of at most 1e\+15"
    ):
        build(DAPOTrainer, config)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (1.0, r"reward_weights=1.0 is not a list. Give one weight per function"),
        (["1"], r"reward_weights=\['1'\] .* must be finite numbers"),
        ([0.0], r"reward_weights=\[0.0\] are all zero"),
    ],
)
def test_some_reward_has_a_weight(weights, message):
    with pytest.raises(ValueError, match=message):
        build(DAPOTrainer, {"reward_weights": weights})


def test_the_punishment_alone_may_have_a_weight():
    build(DAPOTrainer, {"reward_weights": [0.0], "soft_punish_cache": 4})


# The filter reward


def metric_config(metric: str | list[str] | None) -> DAPOConfig:
    return DAPOConfig(**BASE_CONFIG | {"warmup_rollouts": 0, "dynamic_sampling_metric": metric})


def test_deciding_reward():
    assert filter_columns(metric_config(None), ["correct"], 1) == [0]
    assert filter_columns(metric_config("correct"), ["brevity", "correct"], 2) == [1]
    assert filter_columns(metric_config(["correct"]), ["brevity", "correct"], 2) == [1]
    assert filter_columns(metric_config(["code", "math"]), ["math", "brevity", "code"], 3) == [2, 0]  # as listed


@pytest.mark.parametrize(
    ("metric", "names", "message"),
    [
        (
            None,
            ["correct", "brevity"],
            r"dynamic_sampling_metric is not set, but there are 2 reward functions: \['correct', 'brevity'\]",
        ),
        (None, [], r"dynamic_sampling_metric is not set, but there are 0 reward functions: \[\]"),
        (
            "right",
            ["correct", "brevity"],
            r"dynamic_sampling_metric='right' must be the name of .* but there are \['correct', 'brevity'\]",
        ),
        (["correct", "right"], ["correct", "brevity"], r"dynamic_sampling_metric=\['correct', 'right'\] must be"),
        ([], ["correct", "brevity"], r"dynamic_sampling_metric=\[\] must be the name of a reward function"),
        (["correct", "correct"], ["correct", "brevity"], r"\['correct', 'correct'\] holds a name twice"),
        ("correct", ["correct", "correct"], r"names \['correct', 'correct'\], one of them more than once"),
    ],
)
def test_the_deciding_reward_must_be_named(metric, names, message):
    with pytest.raises(ValueError, match=message):
        filter_columns(metric_config(metric), names, len(names))


@pytest.mark.parametrize("metric", [None, "right", "soft_overlong_punishment"])
def test_a_trainer_lists_the_names_there_are(metric):
    config = {"dynamic_sampling_metric": metric, "soft_punish_cache": 4}
    with pytest.raises(ValueError, match=r"dynamic_sampling_metric.*\['correct', 'brevity'\]"):
        build(DAPOTrainer, config, reward_funcs=[correct, brevity])


def test_the_punishment_is_no_task_reward():
    trainer = build(DAPOTrainer, {"soft_punish_cache": 4})
    assert trainer.filter_rewards.columns == [0]


def test_no_deciding_reward_is_needed_without_dynamic_sampling():
    trainer = build(DAPOTrainer, {"dynamic_sampling": False}, reward_funcs=[correct, brevity])
    assert trainer.filter_rewards.columns == []


# The caller's objects


def test_the_callers_objects_are_not_modified(tmp_path):
    fields = {
        "output_dir": str(tmp_path),
        "warmup_rollouts": 0,
        "soft_punish_cache": 4,
        "dynamic_sampling_metric": "correct",
        "reward_weights": [1.0, 0.5],
        "max_steps": 1,
    }
    args = DAPOConfig(**BASE_CONFIG | fields)
    reward_funcs, processing_classes = [correct, brevity], [None, None]
    before = copy.deepcopy(args.to_dict())
    trainer = build_with(args, reward_funcs=reward_funcs, reward_processing_classes=processing_classes)
    trainer.train()
    assert args.to_dict() == before
    assert reward_funcs == [correct, brevity]
    assert processing_classes == [None, None]


def test_args_can_be_used_for_two_trainers(tmp_path):
    fields = {"output_dir": str(tmp_path), "soft_punish_cache": 4, "warmup_rollouts": 0, "reward_weights": [2.0]}
    args, reward_funcs = DAPOConfig(**BASE_CONFIG | fields), [correct]
    for _ in range(2):
        trainer = build_with(args, reward_funcs=reward_funcs)
        assert trainer.reward_weights.tolist() == [2.0, 1.0]


def build_with(args: DAPOConfig | GRPOConfig | None, **arguments) -> DAPOTrainer:
    """[`build`] with an `args` of the test's own."""

    class WithArgs(DAPOTrainer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs | {"args": args})

    return build(WithArgs, **arguments)


def test_args_must_be_a_dapo_config():
    with pytest.raises(TypeError, match="args is a GRPOConfig, but DAPOTrainer needs a DAPOConfig"):
        build_with(GRPOConfig(use_cpu=True, bf16=False))
    with pytest.raises(TypeError, match="args is a dict, but DAPOTrainer needs a DAPOConfig"):
        build_with({"output_dir": "out"})


def test_no_reward_function_is_refused():
    with pytest.raises(ValueError, match="No reward source provided"):
        build(DAPOTrainer, reward_funcs=None)


@pytest.mark.parametrize(
    ("dtype", "learning_rate", "peft_config", "is_warned"),
    [
        (torch.bfloat16, 1e-6, None, True),
        (torch.bfloat16, 1e-4, None, False),
        (torch.float32, 1e-6, None, False),
        (torch.bfloat16, 1e-6, LoraConfig(r=2, task_type="CAUSAL_LM"), False),
    ],
)
def test_updates_that_are_lost_in_rounding(dtype, learning_rate, peft_config, is_warned, caplog):
    build(DAPOTrainer, {"learning_rate": learning_rate}, model=tiny_model(dtype=dtype), peft_config=peft_config)
    words = "bfloat16 without a float32 copy, and learning_rate=1e-06 .* less than 8e-05. Load the model with dtype"
    assert bool(re.search(words, caplog.text)) is is_warned


def test_an_optimizer_of_the_users_own_has_its_own_rate(caplog):
    model = tiny_model(dtype=torch.bfloat16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    build(DAPOTrainer, {"learning_rate": 1e-6}, model=model, optimizers=(optimizer, None))
    assert "learning_rate" not in caplog.text


def test_a_weight_of_the_usual_size_is_lost_as_told():
    weight = torch.tensor(0.02, dtype=torch.bfloat16)
    assert weight + 1e-6 == weight
    assert weight + 1e-4 > weight
