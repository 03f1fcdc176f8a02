"""With everything of ours off, and one update per rollout, `DAPOTrainer` is `GRPOTrainer`, bit for bit."""

import math
import random
from pathlib import Path

import numpy
import pandas as pd
import pytest
import torch
import trl
from datasets import Dataset
from peft import LoraConfig
from transformers import CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor
from trl import GRPOTrainer

from dapo_trl import DAPOTrainer
from tests.helpers import (
    CHAT_TEMPLATE,
    MAX_COMPLETION_LENGTH,
    VOCABULARY,
    ScriptedRollouts,
    build,
    char_tokenizer,
    correct,
    prompt_dataset,
    tiny_model,
    weights,
)


OFF = {"dynamic_sampling": False, "balance_micro_batches": False, "updates_per_rollout": 1}
# Defaults of DAPOConfig that differ from those of GRPOConfig.
DEFAULTS = {"epsilon_high": 0.28}
LOSS_TYPES = ["grpo", "bnpo", "dr_grpo", "dapo", "luspo", "cispo", "sapo", "vespo"]


def assert_identical(config: dict, make_arguments=dict) -> tuple[GRPOTrainer, DAPOTrainer]:
    """Trains with both and compares weights and everything that was logged; returns both."""
    trainers = []
    for cls, defaults in ((GRPOTrainer, DEFAULTS), (DAPOTrainer, OFF)):
        torch.manual_seed(7)
        trainers.append(build(cls, {**defaults, **config}, **make_arguments()))
        start = weights(trainers[-1].model)
        trainers[-1].train()
        assert not torch.equal(weights(trainers[-1].model), start)
    grpo, dapo = trainers
    assert torch.equal(weights(grpo.model), weights(dapo.model))
    for expected, actual in zip(grpo.state.log_history, dapo.state.log_history, strict=True):
        assert expected.keys() <= actual.keys()
        for name, value in expected.items():
            if name.startswith(("eval_reward", "eval_frac_reward", "eval_completions/")):
                continue  # over all completions, where TRL takes the mean of batches
            if not any(word in name for word in ("time", "runtime", "per_second")):
                assert actual[name] == value or math.isnan(value), name
    return grpo, dapo


def sampled() -> dict:
    return {"rollout_func": None}


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_loss_types(loss_type):
    fields = {"luspo": {"importance_sampling_level": "sequence"}, "cispo": {"epsilon_high": 5.0}}
    assert_identical({"loss_type": loss_type, **fields.get(loss_type, {})})


@pytest.mark.parametrize("loss_type", ["dapo", "grpo", "vespo"])
def test_several_iterations(loss_type):
    assert_identical({"loss_type": loss_type, "num_iterations": 2})


@pytest.mark.parametrize("loss_type", ["dapo", "grpo"])
def test_generation_with_the_model(loss_type):
    grpo, _ = assert_identical({"loss_type": loss_type, "max_completion_length": 8}, sampled)
    assert grpo.state.log_history[0]["reward_std"] > 0


@pytest.mark.parametrize("make_arguments", [dict, sampled], ids=["rollout_func", "model"])
def test_evaluation_during_training(make_arguments):
    config = {
        "eval_strategy": "steps",
        "eval_steps": 2,
        "per_device_eval_batch_size": 4,
        "max_completion_length": 8,
    }
    grpo, _ = assert_identical(config, lambda: {**make_arguments(), "eval_dataset": prompt_dataset(6)})
    assert sum("eval_reward" in logs for logs in grpo.state.log_history) == 3


@pytest.mark.parametrize(
    "config",
    [
        {"top_entropy_quantile": 0.5},
        {"entropy_coef": 0.01},
        {"delta": 1.5},
        {"mask_truncated_completions": True},
        {"scale_rewards": "batch"},
        {"lr_scheduler_type": "linear", "warmup_steps": 2},
    ],
    ids=lambda config: next(iter(config)),
)
def test_options(config):
    assert_identical(config, lambda: {"rollout_func": ScriptedRollouts(frac_truncated=0.4, has_env_mask=True)})


def test_lora():
    assert_identical({}, lambda: {"peft_config": LoraConfig(r=4, target_modules=["q_proj", "v_proj"])})


def test_completions_table():
    def logged(completion_ids, number, log_extra, **kwargs):
        log_extra("number", number)
        return correct(completion_ids)

    trainers = assert_identical({"log_completions": True}, lambda: {"reward_funcs": logged})
    grpo, dapo = (
        pd.concat(map(pd.read_parquet, sorted(Path(trainer.args.output_dir, "completions").iterdir())))
        for trainer in trainers
    )
    assert "number" in grpo
    assert dapo["num_tokens"].between(1, MAX_COMPLETION_LENGTH).all() and dapo["is_truncated"].dtype == bool
    pd.testing.assert_frame_equal(grpo, dapo.drop(columns=["num_tokens", "is_truncated"]))


def test_conversations_sampled():
    def make_arguments():
        return {
            "rollout_func": None,
            "processing_class": char_tokenizer(CHAT_TEMPLATE),
            "train_dataset": prompt_dataset(is_conversational=True),
        }

    assert_identical({"max_completion_length": 8}, make_arguments)


def scripted_turn(self, prompt_ids, images, multimodal_fields, num_generations, has_tool_images=False):
    """In place of the model: some rows call the tool, once."""
    completion_ids = []
    for row, ids in enumerate(prompt_ids):
        draw = random.Random(f"{row} {ids} {self.state.global_step}")
        was_called = "<tool_response>" in self.processing_class.decode(ids)
        text = "".join(chr(draw.randrange(97, 123)) for _ in range(draw.randint(1, 9)))
        if not was_called and draw.random() < 0.5:
            text = '<tool_call>\n{"name": "double", "arguments": {"number": 4}}\n</tool_call>'
        completion_ids.append([*self.processing_class(text)["input_ids"], VOCABULARY["<|im_end|>"]])
    return completion_ids, None


def test_tools(monkeypatch):
    monkeypatch.setattr(GRPOTrainer, "_generate_single_turn", scripted_turn)
    chat_template = Path(trl.__file__).with_name("chat_templates").joinpath("qwen3.jinja").read_text()

    def double(number: int) -> int:
        """
        Doubles a number.

        Args:
            number: The number.

        Returns:
            Twice the number.
        """
        return 2 * number

    def by_length(completion_ids, **kwargs):
        return [float(len(ids) % 3) for ids in completion_ids]

    def make_arguments():
        return {
            "rollout_func": None,
            "tools": [double],
            "reward_funcs": by_length,
            "model": tiny_model(eos_token_id=VOCABULARY["<|im_end|>"]),
            "processing_class": char_tokenizer(chat_template, eos_token="<|im_end|>"),
            "train_dataset": prompt_dataset(is_conversational=True),
        }

    grpo, _ = assert_identical({"max_completion_length": 200, "max_steps": 2}, make_arguments)
    assert 0 < grpo.state.log_history[0]["tools/call_frequency"] < 1
    assert grpo.state.log_history[0]["tools/failure_frequency"] == 0


def image_arguments() -> dict:
    """A tiny Llava and its processor, and prompts with an image each."""
    image_module = pytest.importorskip("PIL.Image")
    processing = pytest.importorskip("transformers.models.clip.image_processing_pil_clip")
    tokenizer = char_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    image_token = tokenizer.convert_tokens_to_ids("<image>")
    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=28,
        patch_size=14,
        projection_dim=32,
    )
    config = LlavaConfig(
        text_config=tiny_model().config,
        vision_config=vision,
        image_token_index=image_token,
        image_token_id=image_token,
        vision_feature_select_strategy="default",
    )
    processor = LlavaProcessor(
        processing.CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}),
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template="{% for message in messages %}{% for content in message.content %}"
        "{% if content.type == 'image' %}<image>{% else %}{{ content.text }}{% endif %}"
        "{% endfor %}{% endfor %}",
    )
    generator = numpy.random.default_rng(0)
    pixels = generator.integers(0, 255, (16, 28, 28, 3), dtype=numpy.uint8)
    prompts = prompt_dataset(16, is_conversational=True)["prompt"][:]
    return {
        "model": LlavaForConditionalGeneration(config),
        "processing_class": processor,
        "train_dataset": Dataset.from_dict({"prompt": prompts, "image": list(map(image_module.fromarray, pixels))}),
        "rollout_func": None,
    }


@pytest.mark.parametrize("loss_type", ["dapo", "grpo"])
def test_images(loss_type):
    grpo, _ = assert_identical({"loss_type": loss_type, "max_completion_length": 6, "max_steps": 3}, image_arguments)
    assert grpo._buffered_inputs[0]["pixel_values"].shape == (4, 3, 28, 28)
